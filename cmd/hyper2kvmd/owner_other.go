//go:build !linux

package main

// asOwner runs f: only on Linux the daemon is a service with a user of its own.
func asOwner(_ string, f func() error) error { return f() }
