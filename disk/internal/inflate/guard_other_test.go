//go:build !unix

package inflate_test

import "testing"

// newGuarded makes memory whose surroundings nobody guards.
func newGuarded(_ testing.TB, size int) guarded { return guarded{make([]byte, size)} }
