package disk

import (
	"context"

	"github.com/hyper2kvm/hyper2kvm/disk/internal/part"
)

// CheckOptions are the options of [CheckStream]. The zero value works.
type CheckOptions struct {
	// Workers is the number of goroutines that inflate; 0 is [DefaultWorkers].
	Workers int
	// Capacity is the disk's expected capacity in bytes; 0 accepts any.
	Capacity int64
	// OnPosition is called, in order, with how many bytes of the disk are passed.
	// It must not block.
	OnPosition func(bytes int64)
}

// CheckStream is [CheckStreamAt] for a path.
func CheckStream(ctx context.Context, path string, o CheckOptions) (Summary, error) {
	return CheckStreamAt(ctx, Path(path), o)
}

// CheckStreamAt reads a stream-optimized VMDK from a file and checks everything
// there is to check: its structure, that each grain inflates to just its size,
// and each grain's Adler-32. Errors are those of [DecodeStream], or of the file.
func CheckStreamAt(ctx context.Context, at At, o CheckOptions) (Summary, error) {
	f, err := at.Open()
	if err != nil {
		return Summary{}, part.Error("check", at.String(), err)
	}
	defer func() { _ = f.Close() }() // nothing was written
	sum, err := DecodeStream(ctx, f, nil, Options{
		Workers: o.Workers, Capacity: o.Capacity, Verify: true, OnPosition: o.OnPosition,
	})
	return sum, part.Error("check", at.String(), err)
}
