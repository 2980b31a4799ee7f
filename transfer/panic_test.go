package transfer_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/internal/panics"
	"github.com/hyper2kvm/hyper2kvm/transfer"
)

// bomb is an object of 4 MiB whose reader panics at a byte; at 0, when it is
// opened.
type bomb struct {
	ranges bool
	at     int64
}

func (b bomb) Probe(context.Context) (transfer.Info, error) {
	return transfer.Info{Size: 4 << 20, Ranges: b.ranges, ETag: `"v1"`}, nil
}

func (b bomb) Open(_ context.Context, off, n int64) (io.ReadCloser, error) {
	if b.at == 0 {
		panic("boom")
	}
	if n < 0 {
		n = 4 << 20
	}
	return io.NopCloser(io.MultiReader(io.LimitReader(zeros{}, min(n, max(0, b.at-off))), io.LimitReader(panicking{}, n))), nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

type panicking struct{}

func (panicking) Read([]byte) (int, error) { panic("boom") }

func TestAPanicOfASourceIsAnErrorOfItsReader(t *testing.T) {
	t.Parallel()
	for _, at := range []int64{0, 3 << 20} {
		for name, b := range map[string]bomb{"one stream": {at: at}, "ranges": {ranges: true, at: at}} {
			info, _ := b.Probe(t.Context())
			for _, workers := range []int{1, 4} {
				_, err := readAs(t, b, info, transfer.Options{Workers: workers, ChunkSize: 256 << 10})
				var p *panics.Error
				if !errors.As(err, &p) || !strings.HasPrefix(p.At, "transfer/panic_test.go:") {
					t.Errorf("%s at %d by %d: error %v", name, at, workers, err)
				}
			}
		}
	}
}
