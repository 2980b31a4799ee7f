// Package volume asks the operating system about file systems: what is free,
// which one a directory is on, what a file takes of it, and whether an error
// means that it is full.
//
// It is exact on Linux and macOS. On Windows a file counts with its size, as no
// file there is sparse unless it was made so.
package volume

import "io/fs"

// Free returns the bytes that an unprivileged user may still write in dir, which
// exists.
func Free(dir string) (int64, error) { return free(dir) }

// Usage returns the bytes that an unprivileged user may still write in dir, which
// exists, and the size of its file system.
func Usage(dir string) (free, size int64, err error) { return usage(dir) }

// Of names the file system that path, which exists, is on: two paths have the
// same name when they share what is free.
func Of(path string) (string, error) { return of(path) }

// Allocated returns the bytes that a file takes of its file system.
func Allocated(file fs.FileInfo) int64 { return allocated(file) }

// Full reports whether err says that a file system is full or a quota used up.
func Full(err error) bool { return full(err) }
