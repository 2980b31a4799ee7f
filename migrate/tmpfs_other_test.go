//go:build !linux

package migrate_test

import "testing"

// tinyFileSystem cannot be made here.
func tinyFileSystem(t *testing.T, _ int64) string {
	t.Helper()
	t.Skip("small file systems are mounted on Linux only")
	return ""
}
