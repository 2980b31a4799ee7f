package nbd

import (
	"context"
	"errors"

	"github.com/hyper2kvm/hyper2kvm/transfer"
)

// Bounds of what is asked and believed about areas.
const (
	statusSize   = 1 << 30  // bytes that the server is asked about at once
	maxQuestions = 64 << 10 // more than one for each statusSize
	maxAreas     = 2 << 20
)

// ErrNoAllocation: the server does not tell which areas hold data.
var ErrNoAllocation = errors.New("the server does not tell which areas hold data")

// Allocated lists the areas of the export that may hold data, in order. What is not in
// any reads as zeros. After an error nothing is known.
func (r *Reader) Allocated(ctx context.Context) ([]transfer.Area, error) {
	s, done, err := r.pool.Get(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	if !s.allocation {
		return nil, &Error{Name: r.o.Name, Stage: "areas", Kind: ErrNoAllocation}
	}
	var areas []transfer.Area
	questions := s.size/statusSize + maxQuestions
	for at := int64(0); at < s.size; questions-- {
		list, err := s.status(ctx, at, min(s.size-at, statusSize))
		if err != nil {
			return nil, err
		}
		for _, e := range list {
			areas = appendExtent(areas, at, e)
			at += e.length
		}
		if len(areas) > maxAreas || questions == 0 {
			return nil, s.strange(errors.New("there is no end to its areas"))
		}
	}
	return areas, nil
}

// appendExtent adds what e says of the bytes from at on. Areas with so small a hole
// between them that it is read anyway become one.
func appendExtent(areas []transfer.Area, at int64, e extent) []transfer.Area {
	if e.zero {
		return areas
	}
	if n := len(areas); n > 0 && at-areas[n-1].Offset-areas[n-1].Length <= transfer.MergeGap {
		areas[n-1].Length = at + e.length - areas[n-1].Offset
		return areas
	}
	return append(areas, transfer.Area{Offset: at, Length: e.length})
}
