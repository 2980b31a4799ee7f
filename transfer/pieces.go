package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"
)

// PieceSize is the longest piece of a [Pieces], in bytes.
const PieceSize = 1 << 20

// ahead is how many pieces a body may have asked for and not handed out yet.
const ahead = 4

// pieces are the buffers, blocks of PieceSize bytes.
var pieces = sync.Pool{New: func() any { return new([PieceSize]byte) }}

// Pending is a piece that was asked for.
type Pending interface {
	// Done is closed when the piece has come, or will not.
	Done() <-chan struct{}
	// Err says, once Done is closed, why the piece has not come.
	Err() error
}

// Pieces says how a range of an object is read from a connection on which several
// reads can be in flight. Open gives its body, in order.
type Pieces struct {
	Size  int64 // of the object, in bytes
	Unit  int64 // pieces begin at a multiple of it, and end at one or at Size; a power of two up to PieceSize
	Piece int64 // the longest one, and where they end; a multiple of Unit up to PieceSize, 0 means PieceSize

	// Ask asks for len(buf) bytes from off on. It waits for its turn if wait is true;
	// otherwise it returns nil and no error when it is not its turn. buf belongs to the
	// connection until the piece is done; a body that is closed earlier leaves it there.
	Ask func(ctx context.Context, off int64, buf []byte, wait bool) (Pending, error)

	Failed func(error) // is told why a piece did not come; may be nil
	Close  func()      // is called once, when the body is closed
}

// Open returns n bytes from off on, which lie within Size. ctx governs the body too.
func (p Pieces) Open(ctx context.Context, off, n int64) io.ReadCloser {
	if p.Piece == 0 {
		p.Piece = PieceSize
	}
	from := off - off%p.Unit
	end := min((off+n+p.Unit-1)/p.Unit*p.Unit, p.Size)
	return &pieceBody{Pieces: p, ctx: ctx, next: from, end: end, skip: off - from, left: n}
}

// piece is one that was asked for.
type piece struct {
	Pending
	buf []byte
}

type pieceBody struct {
	Pieces
	ctx  context.Context
	next int64 // first byte that was not asked for yet
	end  int64 // behind the last
	skip int64 // bytes of the first piece that nobody wants
	left int64 // bytes still to be handed out

	asked  []piece // in order
	cur    []byte  // buffer that rest is a part of
	rest   []byte
	closed bool
}

// Read hands out what has come, in order. It returns io.EOF only behind the last
// byte that was asked for.
func (b *pieceBody) Read(p []byte) (int, error) {
	switch {
	case b.closed:
		return 0, fs.ErrClosed
	case b.left == 0:
		return 0, io.EOF
	case len(p) == 0:
		return 0, nil
	}
	if len(b.rest) == 0 {
		if err := b.advance(); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.rest[:min(int64(len(b.rest)), b.left)])
	b.rest = b.rest[n:]
	b.left -= int64(n)
	return n, nil
}

// advance waits for the next piece.
func (b *pieceBody) advance() error {
	b.recycle()
	if err := b.ask(); err != nil {
		return err
	}
	p := b.asked[0]
	select {
	case <-p.Done():
	case <-b.ctx.Done():
		return b.ctx.Err()
	}
	if err := p.Err(); err != nil {
		if b.Failed != nil {
			b.Failed(err)
		}
		return err
	}
	b.asked = b.asked[1:]
	b.cur, b.rest = p.buf, p.buf[b.skip:]
	b.skip = 0
	return nil
}

// recycle gives the buffer of the piece that was read back.
func (b *pieceBody) recycle() {
	if b.cur != nil {
		pieces.Put((*[PieceSize]byte)(b.cur[:PieceSize]))
		b.cur, b.rest = nil, nil
	}
}

// ask asks for pieces, as many as may be on their way; it waits for the first only.
func (b *pieceBody) ask() error {
	for len(b.asked) < ahead && b.next < b.end {
		n := min(b.end-b.next, b.Piece-b.next%b.Piece)
		block := pieces.Get().(*[PieceSize]byte)
		p, err := b.Ask(b.ctx, b.next, block[:n], len(b.asked) == 0)
		if p == nil {
			pieces.Put(block)
		}
		if err != nil && len(b.asked) == 0 {
			return err
		}
		if p == nil {
			return nil // what is on its way comes first
		}
		b.asked = append(b.asked, piece{p, block[:n]})
		b.next += n
	}
	return nil
}

// Close is called when nobody reads any more. Pieces that are on their way come to
// their end, into buffers that nobody uses.
func (b *pieceBody) Close() error {
	if !b.closed {
		b.closed = true
		b.recycle()
		b.asked = nil
		b.Pieces.Close()
	}
	return nil
}

// maxParts is how many parts a piece may come in: one for each sector.
const maxParts = PieceSize / 512

// Cover knows which bytes of a piece have come, in parts of any order. The zero value
// has none.
type Cover struct {
	parts [][2]uint32 // [from, to) in order, none touching the next
	count int         // of parts that were added
}

// Add takes in n bytes from at on. A part that brings what is there already is
// refused, and so are more parts than a piece has sectors.
func (c *Cover) Add(at, n uint32) error {
	if c.count++; c.count > maxParts {
		return errors.New("an answer in too many parts")
	}
	from, to := at, at+n
	i, _ := slices.BinarySearchFunc(c.parts, from, func(p [2]uint32, from uint32) int {
		if p[1] < from {
			return -1
		}
		return 1
	})
	// Part i is the first that ends at from or behind it.
	j := i
	if j < len(c.parts) && c.parts[j][1] == from {
		from = c.parts[j][0]
		j++
	}
	if j < len(c.parts) && c.parts[j][0] < to {
		return fmt.Errorf("a part of %d bytes at %d that is there already", n, at)
	}
	if j < len(c.parts) && c.parts[j][0] == to {
		to = c.parts[j][1]
		j++
	}
	c.parts = slices.Replace(c.parts, i, j, [2]uint32{from, to})
	return nil
}

// Whole says whether all of n bytes are there.
func (c *Cover) Whole(n uint32) bool {
	return len(c.parts) == 1 && c.parts[0] == [2]uint32{0, n}
}
