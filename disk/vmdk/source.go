package vmdk

import (
	"fmt"
	"io"
)

// sourceBuffer is the size of a source's buffer in bytes: large enough that
// reads from sockets and files are few.
const sourceBuffer = 256 << 10

// source reads a stream forward, knows its offset, and passes on to tee exactly
// the bytes that were consumed.
type source struct {
	r      io.Reader
	tee    io.Writer // may be nil
	buf    []byte
	lo, hi int   // buf[lo:hi] is read and not yet consumed
	teed   int   // buf[teed:lo] is consumed and not yet passed to tee
	base   int64 // offset in the stream of buf[0]
}

func newSource(r io.Reader, tee io.Writer, offset int64) *source {
	return &source{r: r, tee: tee, buf: make([]byte, sourceBuffer), base: offset}
}

// offset is the number of stream bytes before the next one.
func (s *source) offset() int64 { return s.base + int64(s.lo) }

// flush passes what was consumed on to tee.
func (s *source) flush() error {
	if s.tee != nil && s.teed < s.lo {
		if _, err := s.tee.Write(s.buf[s.teed:s.lo]); err != nil {
			return fmt.Errorf("pass the stream on: %w", err)
		}
	}
	s.teed = s.lo
	return nil
}

// fill makes at least n unconsumed bytes available, n at most sourceBuffer. At
// the end of the stream it returns io.EOF and leaves what there is available.
func (s *source) fill(n int) error {
	if s.hi-s.lo >= n {
		return nil
	}
	if err := s.flush(); err != nil {
		return err
	}
	copy(s.buf, s.buf[s.lo:s.hi])
	s.base += int64(s.lo)
	s.hi -= s.lo
	s.lo, s.teed = 0, 0
	for idle := 0; s.hi < n; {
		m, err := s.r.Read(s.buf[s.hi:])
		s.hi += m
		if s.hi >= n {
			break
		}
		if err != nil {
			return err
		}
		if m > 0 {
			idle = 0
		} else if idle++; idle == 100 {
			return io.ErrNoProgress
		}
	}
	return nil
}

// peek returns the next n bytes without consuming them.
func (s *source) peek(n int) ([]byte, error) {
	if err := s.fill(n); err != nil {
		return s.buf[s.lo:s.hi], err
	}
	return s.buf[s.lo : s.lo+n], nil
}

// each consumes n bytes and calls fn with them in order, piece by piece. The
// length of each piece is a multiple of unit, except at the end.
func (s *source) each(n int64, unit int, fn func(p []byte) error) error {
	for n > 0 {
		want := int(min(n, int64(unit)))
		if err := s.fill(want); err != nil {
			return err
		}
		have := s.hi - s.lo
		if int64(have) >= n {
			have = int(n)
		} else {
			have -= have % unit
		}
		p := s.buf[s.lo : s.lo+have]
		s.lo += have
		n -= int64(have)
		if err := fn(p); err != nil {
			return err
		}
	}
	return nil
}

// skip consumes n bytes.
func (s *source) skip(n int64) error {
	for n > 0 {
		if s.lo == s.hi {
			if err := s.fill(1); err != nil {
				return err
			}
		}
		have := min(n, int64(s.hi-s.lo))
		s.lo += int(have)
		n -= have
	}
	return nil
}

// readFull consumes len(p) bytes into p.
func (s *source) readFull(p []byte) error {
	for len(p) > 0 {
		if s.lo == s.hi {
			if err := s.fill(1); err != nil {
				return err
			}
		}
		n := copy(p, s.buf[s.lo:s.hi])
		s.lo += n
		p = p[n:]
	}
	return nil
}
