// Package volumetest makes file systems that are small enough for a test to fill.
package volumetest

import "testing"

// Tiny mounts a file system of that many bytes until the test ends and returns
// where. Only root on Linux can: elsewhere the test is skipped, and where CI is set
// in the environment, it fails.
func Tiny(t *testing.T, size int64) (dir string) {
	t.Helper()
	return tiny(t, size)
}
