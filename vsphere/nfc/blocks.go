package nfc

import (
	"context"
	"errors"
	"fmt"

	"github.com/hyper2kvm/hyper2kvm/transfer"
)

// Limits of a query of allocated blocks (F-902-17).
const (
	chunkSize = 64 << 10 // bytes: the smallest that there is
	maxChunks = 524288   // in one query
)

func allocatedPayload(handle uint64, start int64, chunks int) []byte {
	p := make([]byte, payloadSize[typeAllocated])
	le.PutUint64(p, handle)
	le.PutUint64(p[16:], chunkSize)
	le.PutUint64(p[24:], uint64(start))
	le.PutUint64(p[32:], uint64(chunks))
	return p
}

// bitmapSize is how many bytes the bitmap of n chunks has: whole words of 32 bits.
func bitmapSize(chunks int) int { return ((chunks+7)/8 + 3) / 4 * 4 }

// parseAllocated reads the payload of a reply about so many chunks, and returns how
// long its bitmap is.
func parseAllocated(p []byte, chunks int) (int, error) {
	if status := le.Uint64(p); status != 0 {
		return 0, &statusError{status}
	}
	if got := le.Uint64(p[32:]); got != uint64(chunks) {
		return 0, fmt.Errorf("a map of %d chunks, asked were %d", got, chunks)
	}
	return bitmapSize(chunks), nil
}

// appendBitmap adds the areas whose chunks have their bit set, from byte start on.
func appendBitmap(areas []transfer.Area, bitmap []byte, start int64, chunks int) []transfer.Area {
	for i := range chunks {
		if bitmap[i/8]&(1<<(i%8)) == 0 {
			continue
		}
		off := start + int64(i)*chunkSize
		if n := len(areas); n > 0 && areas[n-1].Offset+areas[n-1].Length == off {
			areas[n-1].Length += chunkSize
			continue
		}
		areas = append(areas, transfer.Area{Offset: off, Length: chunkSize})
	}
	return areas
}

// Allocated lists the areas of the disk that hold data, in units of 64 KiB and in
// order (F-902-17). What is not in a whole unit at the end counts as data. Ask it of
// a disk with a single link only: whether a host's answer about a chain covers all
// links is not known. After an error nothing is known, and all of the disk may hold
// data.
func (r *Reader) Allocated(ctx context.Context) ([]transfer.Area, error) {
	s, done, err := r.pool.Get(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	var areas []transfer.Area
	total := r.o.Capacity / chunkSize
	for at := int64(0); at < total; {
		chunks := int(min(total-at, maxChunks))
		bitmap, err := s.allocated(ctx, at*chunkSize, chunks)
		if err != nil {
			return nil, err
		}
		areas = appendBitmap(areas, bitmap, at*chunkSize, chunks)
		at += int64(chunks)
	}
	if tail := total * chunkSize; tail < r.o.Capacity {
		if n := len(areas); n > 0 && areas[n-1].Offset+areas[n-1].Length == tail {
			areas[n-1].Length += r.o.Capacity - tail
		} else {
			areas = append(areas, transfer.Area{Offset: tail, Length: r.o.Capacity - tail})
		}
	}
	return areas, nil
}

var errNoBitmap = errors.New("the host sent no map")

// allocated asks which of the chunks from byte start on hold data.
func (s *session) allocated(ctx context.Context, start int64, chunks int) ([]byte, error) {
	o, err := s.exchange(ctx, ask{kind: typeAllocated, chunks: chunks}, allocatedPayload(s.file.handle, start, chunks), "")
	if err != nil {
		return nil, err
	}
	if o.extra == nil {
		return nil, errNoBitmap
	}
	return o.extra, nil
}
