//go:build !unix

package disk

// syncDir does nothing where directories cannot be synced.
func syncDir(string) error { return nil }
