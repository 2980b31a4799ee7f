// Package qcow2 writes qcow2 images of version 3 with clusters of 64 KiB, and
// checks images of any usual kind.
//
// [Writer] takes plain data at any offset and, with [Options.Compress], grains as
// they are: a grain's deflate data is what a compressed cluster holds. It writes
// to a part file, whose tables become durable at each Checkpoint, and which
// [Open] resumes after a crash. A part file has no qcow2 header until Commit: no
// other program takes it for an image.
//
// It holds the level 1 table (8 bytes for each 512 MiB of disk) and at most 48
// pages of 64 KiB of level 2 tables and reference counts, whatever the size of
// the disk.
//
// Errors wrap ErrCorrupt, ErrUnsupported, ErrCapacity or ErrNotResumable of
// package disk.
package qcow2
