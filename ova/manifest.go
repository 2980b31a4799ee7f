package ova

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // what manifests have
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"regexp"
	"strings"
)

// Algorithm is a hash that a manifest may have, as it spells it.
type Algorithm string

// Algorithms of manifests.
const (
	SHA1   Algorithm = "SHA1"
	SHA256 Algorithm = "SHA256"
	SHA512 Algorithm = "SHA512"
)

// New returns the hash.
func (a Algorithm) New() hash.Hash {
	switch a {
	case SHA256:
		return sha256.New()
	case SHA512:
		return sha512.New()
	}
	return sha1.New() //nolint:gosec // what manifests have
}

// Entry is a line of a manifest.
type Entry struct {
	File      string
	Algorithm Algorithm
	Sum       []byte
}

// Match compares the sum of a whole file with the manifest's. The error is an
// [ErrChecksum].
func (e Entry) Match(sum []byte) error {
	if bytes.Equal(e.Sum, sum) {
		return nil
	}
	return fmt.Errorf("%s: %w: it has the %s %x, the manifest says %x", e.File, ErrChecksum, e.Algorithm, sum, e.Sum)
}

// maxManifest bounds a manifest, in bytes: a line for each of some thousand files.
const maxManifest = 4 << 20

var manifestLine = regexp.MustCompile(`^(SHA-?[0-9]+) ?\((.+)\) ?= ?([0-9a-fA-F]+)$`)

// ParseManifest reads a manifest (DSP0243 6.3). Errors name the line.
func ParseManifest(text []byte) ([]Entry, error) {
	if len(text) > maxManifest {
		return nil, fmt.Errorf("more than %d bytes: %w", maxManifest, ErrInvalid)
	}
	var out []Entry
	seen := map[string]bool{}
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		m := manifestLine.FindStringSubmatch(line)
		if m == nil {
			return nil, fmt.Errorf("line %d is not of the form SHA256(FILE)= DIGITS: %.80q: %w", number, line, ErrInvalid)
		}
		e := Entry{File: strings.TrimPrefix(m[2], "./"), Algorithm: Algorithm(strings.ReplaceAll(m[1], "-", ""))}
		switch e.Algorithm {
		case SHA1, SHA256, SHA512:
		default:
			return nil, fmt.Errorf("line %d: %w: hash %q; SHA1, SHA256 and SHA512 are known", number, ErrUnsupported, m[1])
		}
		var err error
		if e.Sum, err = hex.DecodeString(m[3]); err != nil || len(e.Sum) != e.Algorithm.New().Size() {
			return nil, fmt.Errorf("line %d: a %s of %d hexadecimal digits: %w", number, e.Algorithm, len(m[3]), ErrInvalid)
		}
		if seen[e.File] {
			return nil, fmt.Errorf("line %d: %.200q is listed twice: %w", number, e.File, ErrInvalid)
		}
		seen[e.File] = true
		out = append(out, e)
	}
	return out, nil
}
