// Package block holds what all image formats share: sectors, the largest disk,
// the identities of errors, and how zeros are recognised.
package block

import (
	"errors"
	"fmt"
)

// SectorSize is the unit of a disk's addresses, in bytes.
const SectorSize = 512

// MaxCapacity is the largest disk that is handled, in bytes.
const MaxCapacity = 64 << 40

// Identities of errors. Package disk exports and explains them.
var (
	ErrTruncated    = errors.New("VMDK stream is truncated")
	ErrCorrupt      = errors.New("data is corrupt")
	ErrUnsupported  = errors.New("format is not supported")
	ErrCapacity     = errors.New("unexpected disk capacity")
	ErrNotResumable = errors.New("cannot be resumed")
)

// CheckCapacity refuses sizes in bytes that no disk has.
func CheckCapacity(capacity int64) error {
	switch {
	case capacity < 0 || capacity%SectorSize != 0:
		return fmt.Errorf("disk of %d bytes: not a whole number of %d-byte sectors: %w", capacity, SectorSize, ErrCapacity)
	case capacity > MaxCapacity:
		return fmt.Errorf("disk of %d bytes: more than %d: %w", capacity, int64(MaxCapacity), ErrCapacity)
	}
	return nil
}

// RoundUp returns the least multiple of unit that is not below n.
func RoundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }

var zeros [64 << 10]byte

// IsZero tells whether p holds zeros only.
func IsZero(p []byte) bool {
	for len(p) > len(zeros) {
		if string(p[:len(zeros)]) != string(zeros[:]) {
			return false
		}
		p = p[len(zeros):]
	}
	return string(p) == string(zeros[:len(p)])
}
