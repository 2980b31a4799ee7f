package nfc

import (
	"bytes"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"sync"
)

// decode writes what a fragment that came as wire stands for into dst, which has
// its length. A host may send any fragment raw, and say so or not (F-902-16).
func decode(dst, wire []byte, code Compression) error {
	switch code {
	case raw:
		copy(dst, wire)
		return nil
	case skipZeros:
		return decodeSkipZeros(dst, wire)
	case zlibbed:
		return decodeZlib(dst, wire)
	}
	return fmt.Errorf("a fragment coded as %d", code)
}

var errRuns = errors.New("a fragment whose runs do not fit it")

// decodeSkipZeros reads the length of the fragment, a zero, and runs of offset,
// length and bytes, in ascending order. What no run covers is zero.
func decodeSkipZeros(dst, wire []byte) error {
	err := placeRuns(dst, wire)
	if err != nil && len(wire) == len(dst) {
		copy(dst, wire)
		return nil
	}
	return err
}

func placeRuns(dst, wire []byte) error {
	if len(wire) < 8 || le.Uint32(wire) != uint32(len(dst)) || le.Uint32(wire[4:]) != 0 {
		return errRuns
	}
	pos := 0 // behind the last run
	for wire = wire[8:]; len(wire) > 0; {
		if len(wire) < 8 {
			return errRuns
		}
		off, n := int64(le.Uint32(wire)), int64(le.Uint32(wire[4:]))
		wire = wire[8:]
		if off < int64(pos) || n > int64(len(wire)) || off+n > int64(len(dst)) {
			return errRuns
		}
		clear(dst[pos:off])
		copy(dst[off:off+n], wire[:n])
		pos, wire = int(off+n), wire[n:]
	}
	clear(dst[pos:])
	return nil
}

// decodeZlib inflates one whole RFC 1950 stream of exactly the fragment's length.
func decodeZlib(dst, wire []byte) error {
	r, err := zlib.NewReader(bytes.NewReader(wire))
	if err != nil && len(wire) == len(dst) {
		copy(dst, wire)
		return nil
	}
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err := io.ReadFull(r, dst); err != nil {
		return fmt.Errorf("a fragment that inflates to less than its length: %w", err)
	}
	var one [1]byte
	if n, err := r.Read(one[:]); n != 0 || err != io.EOF {
		return errors.New("a fragment that inflates to more than its length, or to something else")
	}
	return nil
}

// wires are buffers for coded fragments.
var wires = sync.Pool{New: func() any { return new([readSize + fragmentTail]byte) }}

// scratch returns a buffer of n bytes. Call release when done with it.
func scratch(n int) (b []byte, release func()) {
	w := wires.Get().(*[readSize + fragmentTail]byte)
	if n > len(w) {
		wires.Put(w)
		return make([]byte, n), func() {}
	}
	return w[:n], func() { wires.Put(w) }
}
