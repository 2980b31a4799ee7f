//go:build !amd64 || purego

package inflate

// adler32sum is the checksum of RFC 1950.
func adler32sum(p []byte) uint32 { return wordAdler(p) }
