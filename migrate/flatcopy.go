package migrate

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/transfer"
)

// Sizes of a flatCopy, in bytes: what is read at once, and the piece that is
// left out when it is all zeros, which is a cluster of qcow2.
const (
	flatBlock = 1 << 20
	zeroBlock = 64 << 10
)

// flatCopy writes the areas of a disk, which come packed, where they belong.
type flatCopy struct {
	f      *flatRead
	w      disk.Writer
	tee    *tee   // with verify "full"
	off    int64  // byte of the disk before which everything is written
	saved  int64  // off at the last checkpoint
	broken bool   // w has failed: what it says from there on vouches for nothing
	digest string // of the packed bytes, with verify "full"
}

// run copies from c.off to the end. hash is the state of the hash there or
// before.
func (c *flatCopy) run(ctx context.Context, hash hashState) error {
	pos := c.f.areas.Packed(c.off)
	first := pos
	if c.f.full() {
		first = hash.Offset
	}
	stream, err := c.f.reader(ctx, first)
	if err != nil {
		return err
	}
	defer stream.Close() // what matters of a stream is reported by its Read
	in := io.Reader(stream)
	if c.f.full() {
		if c.tee, err = newTee(stream, hash); err != nil {
			return err
		}
		defer func() {
			_ = stream.Close() // ends a read under way, which the tee waits for
			_ = c.tee.Close()
		}()
		in = c.tee
		if _, err := io.CopyN(io.Discard, in, pos-first); err != nil {
			return err
		}
	}
	c.f.file.SetPosition(c.off)
	if err := c.copy(in, pos); err != nil {
		return err
	}
	if c.tee == nil {
		return nil
	}
	if _, err := io.Copy(io.Discard, c.tee); err != nil { // the end makes the hash whole
		return err
	}
	c.digest, _, _ = c.tee.digests()
	return c.f.reread(ctx, c.digest)
}

// copy writes what comes from in, whose first byte is packed byte pos.
func (c *flatCopy) copy(in io.Reader, pos int64) error {
	buf := make([]byte, flatBlock)
	for pos < c.f.areas.Total() {
		piece := c.f.areas.At(pos)
		n := min(piece.Length, flatBlock-piece.Offset%flatBlock)
		if _, err := io.ReadFull(in, buf[:n]); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		if err := writeData(c.w, buf[:n], piece.Offset); err != nil {
			c.broken = true
			return storageError(err)
		}
		pos += n
		c.off = piece.Offset + n
		c.f.file.SetPosition(c.off)
		if c.off-c.saved >= checkpointBytes {
			if err := c.checkpoint(); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeData writes p at off but for its blocks of zeros: where they belong,
// nothing was ever written.
func writeData(w io.WriterAt, p []byte, off int64) error {
	for len(p) > 0 {
		zeros, n := true, 0
		for n < len(p) {
			end := min(len(p), n+zeroBlock-int((off+int64(n))%zeroBlock))
			zero := allZero(p[n:end])
			if n > 0 && zero != zeros {
				break
			}
			zeros, n = zero, end
		}
		if !zeros {
			if _, err := w.WriteAt(p[:n], off); err != nil {
				return err
			}
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// allZero tells whether p, of at least one byte, holds zeros only.
func allZero(p []byte) bool { return p[0] == 0 && bytes.Equal(p[1:], p[:len(p)-1]) }

// checkpoint makes what was written durable, then notes in the ledger where to
// go on; only where the server tells of a change (ETag).
func (c *flatCopy) checkpoint() error {
	if c.f.info.ETag == "" || c.off == c.saved || c.broken {
		return nil
	}
	if err := c.w.Checkpoint(); err != nil {
		c.broken = true
		return storageError(err)
	}
	hash := hashState{}
	if c.tee != nil {
		hash = c.tee.stateBefore(c.f.areas.Packed(c.off))
	}
	c.saved = c.off
	return c.f.r.work.setEntry(c.f.key(), &diskEntry{
		Part:     c.f.part(),
		Capacity: c.f.disk.Capacity,
		Checkpoint: &checkpoint{
			ETag:      c.f.info.ETag,
			Size:      c.f.info.Size,
			Hash:      hash,
			Datastore: &areaPosition{Offset: c.off, Packed: c.f.areas.Total()},
		},
	})
}

// stop notes how far the copy came before it failed with cause, for the next
// attempt. After some failures there is nothing to go on from.
func (c *flatCopy) stop(ctx context.Context, cause error) error {
	switch {
	case lost(ctx), errors.Is(cause, ErrNoSpace), errors.Is(cause, errRefetch), errors.Is(cause, ErrVerify),
		errors.Is(cause, transfer.ErrChanged), errors.Is(cause, transfer.ErrNoRange):
		return nil
	}
	return c.checkpoint()
}
