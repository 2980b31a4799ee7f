package directio

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// Geometry of an Appender.
const (
	appendBlock  = 1 << 20 // bytes written at once
	appendBlocks = 3       // one being filled, one being written, one between them
)

// Appender writes a file front to back, in whole blocks and by a goroutine of its
// own, so that the caller goes on meanwhile. It is for one goroutine.
type Appender struct {
	f      *File
	cur    *piece // not written yet
	free   chan *piece
	full   chan *piece
	done   chan struct{} // closed when the writing goroutine has ended
	closed bool
}

// piece is a block on its way to the file.
type piece struct {
	buf []byte // aligned, appendBlock long
	n   int    // bytes in it
	off int64  // in the file, aligned
}

// OpenAppender opens the file at path: see [OpenAppenderAt].
func OpenAppender(path string, off int64) (*Appender, error) { return OpenAppenderAt(Path(path), off) }

// OpenAppenderAt opens a file to be written from byte off on. What the file has
// after off is cut away; with off == 0 it is made when it is not there, with
// mode 0666 less the umask. A file of fewer bytes than off is an
// [io.ErrUnexpectedEOF].
func OpenAppenderAt(at At, off int64) (*Appender, error) {
	flags := os.O_RDWR
	if off == 0 {
		flags |= os.O_CREATE | os.O_TRUNC
	}
	f, err := OpenFile(at, flags, 0o666)
	if err != nil {
		return nil, err
	}
	return newAppender(f, off)
}

// newAppender takes over f, also when it fails.
func newAppender(f *File, off int64) (*Appender, error) {
	a := &Appender{
		f:    f,
		free: make(chan *piece, appendBlocks),
		full: make(chan *piece, appendBlocks),
		done: make(chan struct{}),
	}
	for range appendBlocks {
		a.free <- &piece{}
	}
	a.cur = a.take(off - off%Align)
	if err := a.reread(off); err != nil {
		return nil, errors.Join(err, a.f.Close())
	}
	go a.writeAll()
	return a, nil
}

// reread takes the beginning of the block in which byte off lies back from the
// file, which then ends at off.
func (a *Appender) reread(off int64) error {
	if off == 0 {
		return nil
	}
	st, err := a.f.Stat()
	if err == nil && st.Size() < off {
		err = fmt.Errorf("%s has %d bytes, fewer than %d: %w", a.f.Name(), st.Size(), off, io.ErrUnexpectedEOF)
	}
	if err != nil {
		return err
	}
	a.cur.n = int(off - a.cur.off)
	if _, err := a.f.ReadAt(a.cur.buf[:a.cur.n], a.cur.off); err != nil {
		return fmt.Errorf("read the end of the file again: %w", err)
	}
	return a.f.Truncate(off)
}

// take returns an empty piece for the file's bytes from off on.
func (a *Appender) take(off int64) *piece {
	p := <-a.free
	if p.buf == nil {
		p.buf = Buffer(appendBlock)
	}
	p.n, p.off = 0, off
	return p
}

// Write takes p. Its error may be that of earlier bytes.
func (a *Appender) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		if err := a.f.Err(); err != nil {
			return done, err
		}
		n := copy(a.cur.buf[a.cur.n:], p[done:])
		a.cur.n += n
		done += n
		if a.cur.n == appendBlock {
			next := a.cur.off + appendBlock
			a.full <- a.cur // never blocks: it has room for every piece
			a.cur = a.take(next)
		}
	}
	return done, nil
}

// Sync makes everything written so far durable. After a failure of the file it
// fails for good; see [File].
func (a *Appender) Sync() error {
	var idle []*piece
	for range appendBlocks - 1 { // until every whole block is written
		idle = append(idle, <-a.free)
	}
	for _, p := range idle {
		a.free <- p
	}
	// What does not fill a block stays in the piece, which goes to the same
	// place again when it is full.
	if _, err := a.f.WriteAt(a.cur.buf[:a.cur.n], a.cur.off); err != nil {
		return err
	}
	return a.f.Sync()
}

// Close ends the goroutine and closes the file, once. Bytes that were not synced
// may be missing from it.
func (a *Appender) Close() error {
	if a.closed {
		return nil
	}
	a.closed = true
	close(a.full)
	<-a.done
	return a.f.Close()
}

// Name is the path that the file was opened by.
func (a *Appender) Name() string { return a.f.Name() }

// writeAll writes whole blocks until there are no more. The file keeps a failure.
func (a *Appender) writeAll() {
	defer close(a.done)
	for p := range a.full {
		_, _ = a.f.WriteAt(p.buf, p.off)
		a.free <- p
	}
}

var _ io.WriteCloser = (*Appender)(nil)
