package migrate

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate/workdir"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/transfer"
)

// Sizes of an areaCopy, in bytes: what is read at once, and the piece that is
// left out when it is all zeros, which is a cluster of qcow2.
const (
	areaBlock = 1 << 20
	zeroBlock = 64 << 10
)

// areasPlace is a checkpoint of a disk whose areas are copied.
type areasPlace struct {
	ETag   string    `json:"etag"`   // of the source
	Offset int64     `json:"offset"` // every byte of the disk before it is written
	Packed int64     `json:"packed"` // bytes of all areas, by which they are recognized
	Hash   hashState `json:"hash"`   // of the packed bytes, at or before Offset
}

// areaSource is where the areas of a disk are read, all of whose bytes are served
// in ranges.
type areaSource struct {
	kind    string // of its checkpoints, and what the result calls it
	name    string // for people
	source  transfer.Source
	info    transfer.Info // of source; without an entity tag there are no checkpoints
	areas   transfer.Areas
	release func() // ends the source
}

// areaCopy is a [reading] that writes the areas of a disk where they belong. They
// come packed: one after another without the holes between them.
type areaCopy struct {
	areaSource
	d     *diskRun
	o     transfer.Options
	twice bool // everything is read a second time, and compared
	w     disk.Writer

	first  hashState // where the attempt begins, or before
	tee    *tee      // with twice
	off    int64     // byte of the disk before which everything is written
	saved  int64     // off at the last checkpoint
	broken bool      // w has failed: what it says from there on vouches for nothing
	digest string    // of the packed bytes, with twice
}

// copyAreas is an attempt at a disk that is read from src. It resumes at the disk's
// checkpoint, where there is one of the same source.
func (d *diskRun) copyAreas(src areaSource, o pace) *areaCopy {
	c := &areaCopy{areaSource: src, d: d, o: o.Options, twice: d.r.def.Options.Verify == job.VerifyFull, first: hashState{Algorithm: algSHA256}}
	var at areasPlace
	ok := d.loadCheckpoint(c.kind, &at)
	if !ok || at.ETag != c.info.ETag || at.Packed != c.areas.Total() || c.twice && at.Hash.Algorithm == "" {
		return c
	}
	c.off, c.saved, c.first = at.Offset, at.Offset, at.Hash
	d.file.Event(progress.Info, fmt.Sprintf("resuming at byte %d of the disk", c.off))
	return c
}

func (c *areaCopy) close() { c.release() }

// resumes says that the part file is continued: where, an image need not know.
func (c *areaCopy) resumes() *disk.Position {
	if c.off == 0 {
		return nil
	}
	return &disk.Position{}
}

// read copies to the end. After most failures the next attempt can resume where
// it came to.
func (c *areaCopy) read(ctx context.Context, out sink) (arrival, error) {
	image, ok := out.(imageSink)
	if !ok {
		return arrival{}, &refusedError{errors.New("not written as a disk image")}
	}
	c.w = image.w
	if err := c.run(ctx); err != nil {
		return arrival{}, errors.Join(err, c.stop(ctx, err))
	}
	result := job.DiskResult{StreamSize: c.areas.Total(), Transport: c.kind, Verified: job.BySize}
	if c.twice {
		result.Digest, result.Verified = c.digest, job.BySecondRead
	}
	return arrival{result: result}, nil
}

// open returns the packed bytes of the areas from packed byte off on.
func (c *areaCopy) open(ctx context.Context, off int64) (io.ReadCloser, error) {
	total := c.areas.Total()
	if off == total { // an object of no bytes has no ranges
		return io.NopCloser(bytes.NewReader(nil)), nil
	}
	o, info := c.o, c.info
	o.Offset, info.Size = off, total
	return transfer.NewReader(ctx, c.areas.Source(c.source, c.d.disk.Capacity), info, o)
}

// run copies from c.off to the end.
func (c *areaCopy) run(ctx context.Context) error {
	pos := c.areas.Packed(c.off)
	first := pos
	if c.twice {
		first = c.first.Offset
	}
	stream, err := c.open(ctx, first)
	if err != nil {
		return err
	}
	defer stream.Close() // what matters of a stream is reported by its Read
	in := io.Reader(stream)
	if c.twice {
		if c.tee, err = newTee(stream, c.first); err != nil {
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
	c.d.file.ExpectExactly(c.areas.Total())
	c.d.file.SetResumed(c.off, pos)
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
	return c.reread(ctx)
}

// copy writes what comes from in, whose first byte is packed byte pos.
func (c *areaCopy) copy(in io.Reader, pos int64) error {
	buf := make([]byte, areaBlock)
	for pos < c.areas.Total() {
		piece := c.areas.At(pos)
		n := min(piece.Length, areaBlock-piece.Offset%areaBlock)
		if _, err := io.ReadFull(in, buf[:n]); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		if err := writeData(c.w, buf[:n], piece.Offset); err != nil {
			c.broken = true
			return workdir.Storage(err)
		}
		pos += n
		c.off = piece.Offset + n
		c.d.file.SetMoved(c.off, pos)
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
// resume; only where the server reports a change (ETag).
func (c *areaCopy) checkpoint() error {
	if c.info.ETag == "" || c.off == c.saved || c.broken {
		return nil
	}
	if err := c.w.Checkpoint(); err != nil {
		c.broken = true
		return workdir.Storage(err)
	}
	hash := hashState{}
	if c.tee != nil {
		hash = c.tee.stateBefore(c.areas.Packed(c.off))
	}
	c.saved = c.off
	return c.d.saveCheckpoint(c.kind, areasPlace{ETag: c.info.ETag, Offset: c.off, Packed: c.areas.Total(), Hash: hash})
}

// stop notes how far the copy came before it failed with cause, for the next
// attempt. After some failures there is nothing to resume from.
func (c *areaCopy) stop(ctx context.Context, cause error) error {
	switch {
	case lost(ctx), errors.Is(cause, ErrNoSpace), errors.Is(cause, errRefetch), errors.Is(cause, ErrVerify),
		errors.Is(cause, transfer.ErrChanged), errors.Is(cause, transfer.ErrNoRange):
		return nil
	}
	return c.checkpoint()
}

// reread reads everything once more and compares it with the digest of the
// first reading.
func (c *areaCopy) reread(ctx context.Context) error {
	reading := c.d.r.slow(c.d.name, "reading the disk a second time to compare")
	defer reading.end()
	r, err := c.open(ctx, 0)
	if err != nil {
		return err
	}
	defer r.Close()
	h := sha256.New()
	for done, n := int64(0), int64(1); n > 0; done += n {
		if n, err = io.CopyN(h, r, areaBlock); err != nil && err != io.EOF {
			return err
		}
		reading.at(done, c.areas.Total())
	}
	second := algSHA256 + ":" + hex.EncodeToString(h.Sum(nil))
	if second == c.digest {
		return nil
	}
	return c.d.refetch(fmt.Sprintf("it was read as %s, and then as %s", c.digest, second), c.name)
}
