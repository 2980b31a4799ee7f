package migrate

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"unsafe"
)

// Geometry of an appendFile.
const (
	appendBlock  = 1 << 20 // bytes written at once
	appendBlocks = 3       // one being filled, one being written, one between them
	appendAlign  = 4 << 10 // what direct I/O asks of offset, length and address, at most
)

// appendFile writes a file front to back, past the page cache where the file
// system lets it (O_DIRECT): nobody reads the file soon, and copying into the
// cache and writing back from it take as much CPU time as all else that is done
// to a stream. A goroutine writes whole blocks, so that the caller goes on
// meanwhile; the end of a file is padded, written, and cut to its length. An
// appendFile is for one goroutine.
type appendFile struct {
	f    *os.File
	cur  *appendPiece // not written yet
	free chan *appendPiece
	full chan *appendPiece
	done chan struct{} // closed when the writing goroutine has ended

	direct bool  // whose writes go past the page cache: of who writes at the moment
	failed error // of the caller; sticky
	closed bool
}

// appendPiece is a block on its way to the file.
type appendPiece struct {
	buf []byte // aligned, appendBlock long
	n   int    // bytes in it
	off int64  // in the file, aligned
	err error  // why it, or one before it, is not in the file
}

// openAppend opens path to be written from byte off on. What the file has after
// off is cut away; with off == 0 it is made when it is not there.
func openAppend(path string, off int64) (*appendFile, error) {
	flags := os.O_RDWR
	if off == 0 {
		flags |= os.O_CREATE | os.O_TRUNC
	}
	f, direct, err := openDirect(path, flags, 0o600)
	if err != nil {
		return nil, err
	}
	a := &appendFile{
		f:      f,
		direct: direct,
		free:   make(chan *appendPiece, appendBlocks),
		full:   make(chan *appendPiece, appendBlocks),
		done:   make(chan struct{}),
	}
	for range appendBlocks {
		a.free <- &appendPiece{}
	}
	a.cur = a.take(off - off%appendAlign)
	if err := a.reread(off); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	go a.writeAll()
	return a, nil
}

// reread takes the beginning of the block in which byte off lies back from the
// file, which then ends at off.
func (a *appendFile) reread(off int64) error {
	a.cur.n = int(off - a.cur.off)
	if a.cur.n > 0 {
		n, err := a.f.ReadAt(a.cur.buf[:appendAlign], a.cur.off)
		if n < a.cur.n {
			return fmt.Errorf("read the end of the part file again: %w", err)
		}
	}
	if off == 0 {
		return nil
	}
	return a.f.Truncate(off)
}

// take returns an empty piece for the file's bytes from off on. Where another
// one has failed to be written, so has this.
func (a *appendFile) take(off int64) *appendPiece {
	p := <-a.free
	a.note(p)
	if p.buf == nil {
		p.buf = alignedBlock()
	}
	p.n, p.off, p.err = 0, off, nil
	return p
}

// note keeps the first failure of a piece that came back.
func (a *appendFile) note(p *appendPiece) {
	if a.failed == nil {
		a.failed = p.err
	}
}

// alignedBlock returns appendBlock bytes at an aligned address. Direct I/O
// asks for that; the garbage collector does not move what it has allocated.
func alignedBlock() []byte {
	b := make([]byte, appendBlock+appendAlign)
	skip := -uintptr(unsafe.Pointer(&b[0])) & (appendAlign - 1)
	return b[skip : skip+appendBlock : skip+appendBlock]
}

// Write takes p. Its error may be that of earlier bytes.
func (a *appendFile) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		if a.failed != nil {
			return done, a.failed
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

// Sync makes everything written so far durable.
func (a *appendFile) Sync() error {
	var idle []*appendPiece
	for range appendBlocks - 1 { // until every whole block is written
		p := <-a.free
		a.note(p)
		idle = append(idle, p)
	}
	for _, p := range idle {
		a.free <- p
	}
	if a.failed != nil {
		return a.failed
	}
	if err := a.writeTail(); err != nil {
		a.failed = err
		return err
	}
	return a.f.Sync()
}

// writeTail writes what does not fill a block. It stays in the piece, which goes
// to the same place again when it is full. The writing goroutine is idle.
func (a *appendFile) writeTail() error {
	if a.cur.n == 0 {
		return nil
	}
	padded := (a.cur.n + appendAlign - 1) / appendAlign * appendAlign
	clear(a.cur.buf[a.cur.n:padded])
	if err := a.writePiece(a.cur.buf[:padded], a.cur.off); err != nil {
		return err
	}
	return a.f.Truncate(a.cur.off + int64(a.cur.n))
}

// Close ends the goroutine and closes the file, once. Bytes that were not synced
// may be missing from it.
func (a *appendFile) Close() error {
	if a.closed {
		return nil
	}
	a.closed = true
	close(a.full)
	<-a.done
	return a.f.Close()
}

// Name is the path that the file was opened by.
func (a *appendFile) Name() string { return a.f.Name() }

// writeAll writes whole blocks until there are no more. After a failure it
// writes nothing.
func (a *appendFile) writeAll() {
	defer close(a.done)
	var failed error
	for p := range a.full {
		if failed == nil {
			failed = a.writePiece(p.buf, p.off)
		}
		p.err = failed
		a.free <- p
	}
}

// writePiece writes p at off. A file system may accept O_DIRECT and then refuse
// the write: it gets the bytes the ordinary way.
func (a *appendFile) writePiece(p []byte, off int64) error {
	_, err := a.f.WriteAt(p, off)
	if a.direct && errors.Is(err, syscall.EINVAL) {
		if err := clearDirect(a.f); err != nil {
			return err
		}
		a.direct = false
		_, err = a.f.WriteAt(p, off)
	}
	return err
}

var _ io.WriteCloser = (*appendFile)(nil)
