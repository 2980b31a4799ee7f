//go:build !linux

package sqlite

import "os"

func lockRange(*os.File) (bool, error) { return true, nil }

func unlockRange(*os.File) error { return nil }

func readOnly(string) bool { return false }
