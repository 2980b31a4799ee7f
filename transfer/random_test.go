package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/transfer"
)

// atRandom reads s at random.
func atRandom(t testing.TB, s transfer.Source, o transfer.RandomOptions) *transfer.Random {
	t.Helper()
	info, err := transfer.Probe(t.Context(), s, o.Options)
	if err != nil {
		t.Fatal(err)
	}
	r, err := transfer.NewRandom(s, info, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestBytesAnywhereAreTheObjectsWhoeverElseReads(t *testing.T) {
	t.Parallel()
	data := content(3<<20 + 77)
	o := &object{data: data}
	// A cache far smaller than the object, so that blocks come and go.
	r := atRandom(t, serve(t, o), transfer.RandomOptions{Cache: 3 * transfer.RandomBlock, Options: transfer.Options{Budget: quick(8)}})
	if r.Size() != int64(len(data)) {
		t.Errorf("%d bytes", r.Size())
	}
	var readers sync.WaitGroup
	for seed := range uint64(8) {
		readers.Go(func() {
			dice := rand.New(rand.NewPCG(seed, 1))
			for range 15 {
				off := dice.IntN(len(data))
				p := make([]byte, 1+dice.IntN(min(len(data)-off, 700<<10)))
				if err := r.Read(t.Context(), p, int64(off)); err != nil || !bytes.Equal(p, data[off:off+len(p)]) {
					t.Errorf("%d bytes at %d: %v", len(p), off, err)
				}
			}
		})
	}
	readers.Wait()
}

func TestWhatWasReadIsNotFetchedAgainAndNeighboursComeByOneRequest(t *testing.T) {
	t.Parallel()
	data := content(2 << 20)
	o := &object{data: data}
	r := atRandom(t, serve(t, o), transfer.RandomOptions{})
	probes := o.requests.Load()
	p := make([]byte, 5*transfer.RandomBlock)
	for range 3 {
		if err := r.Read(t.Context(), p, 1000); err != nil || !bytes.Equal(p, data[1000:1000+len(p)]) {
			t.Fatal(err)
		}
	}
	if n := o.requests.Load() - probes; n != 1 {
		t.Errorf("%d requests", n)
	}
	if n := r.Fetched(); n != 6*transfer.RandomBlock {
		t.Errorf("%d bytes were fetched", n)
	}
}

func TestAReadAtRandomGoesOnWhereItWasCut(t *testing.T) {
	t.Parallel()
	data := content(1 << 20)
	var asked []string
	o := &object{data: data}
	o.fault = func(w http.ResponseWriter, r *http.Request, n int64) bool {
		asked = append(asked, r.Header.Get("Range"))
		switch n {
		case 2:
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		case 3: // half of it
			w.Header().Set("Content-Range", "bytes 0-131071/1048576")
			w.Header().Set("Content-Length", "131072")
			w.Header().Set("ETag", etag)
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(data[:1000])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
		return false
	}
	r := atRandom(t, serve(t, o), transfer.RandomOptions{Options: transfer.Options{Budget: quick(8)}})
	p := make([]byte, 2000)
	if err := r.Read(t.Context(), p, 0); err != nil || !bytes.Equal(p, data[:2000]) {
		t.Fatal(err)
	}
	if last := asked[len(asked)-1]; last != "bytes=1000-131071" {
		t.Errorf("asked for %q", asked)
	}
}

func TestAFinalFailureOfAReadAtRandomStays(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter)
		want   error
		text   string
	}{
		"forbidden": {func(w http.ResponseWriter) { w.WriteHeader(http.StatusForbidden) }, nil, "403"},
		"changed":   {func(w http.ResponseWriter) { w.WriteHeader(http.StatusPreconditionFailed) }, transfer.ErrChanged, ""},
		"no ranges": {func(w http.ResponseWriter) { _, _ = w.Write(make([]byte, 1<<20)) }, transfer.ErrNoRange, ""},
		"for ever":  {func(w http.ResponseWriter) { w.WriteHeader(http.StatusBadGateway) }, transfer.ErrExhausted, "502"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := &object{data: content(1 << 20)}
			var broken atomic.Bool
			o.fault = func(w http.ResponseWriter, _ *http.Request, _ int64) bool {
				if broken.Load() {
					c.answer(w)
				}
				return broken.Load()
			}
			r := atRandom(t, serve(t, o), transfer.RandomOptions{Options: transfer.Options{Budget: quick(2)}})
			broken.Store(true)
			err := r.Read(t.Context(), make([]byte, 10), 0)
			if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) || strings.Contains(err.Error(), "s3cret") {
				t.Fatalf("error %v", err)
			}
			broken.Store(false)
			before := o.requests.Load()
			if again := r.Read(t.Context(), make([]byte, 10), 1<<19); again == nil || again.Error() != err.Error() || o.requests.Load() != before {
				t.Errorf("then %v", again)
			}
		})
	}
}

func TestMoreThanIsAllowedIsNotFetched(t *testing.T) {
	t.Parallel()
	r := atRandom(t, serve(t, &object{data: content(1 << 20)}), transfer.RandomOptions{Most: 2 * transfer.RandomBlock})
	p := make([]byte, transfer.RandomBlock)
	for off, want := range []error{nil, nil, transfer.ErrTooMuch} {
		if err := r.Read(t.Context(), p, int64(off)*transfer.RandomBlock); !errors.Is(err, want) {
			t.Errorf("block %d: %v", off, err)
		}
	}
	for _, off := range []int64{-1, 1 << 20, 1<<20 - transfer.RandomBlock + 1} {
		if err := r.Read(t.Context(), p, off); err == nil {
			t.Errorf("read at %d", off)
		}
	}
}

// held is a source whose answers wait.
type held struct {
	transfer.Source
	asked chan struct{}
	goes  chan struct{}
}

func (h *held) Open(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	select {
	case h.asked <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case <-h.goes:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return h.Source.Open(ctx, off, n)
}

func TestWhoGivesUpDoesNotTakeABlockFromAnother(t *testing.T) {
	t.Parallel()
	data := content(1 << 20)
	h := &held{Source: serve(t, &object{data: data}), asked: make(chan struct{}), goes: make(chan struct{})}
	r := atRandom(t, h, transfer.RandomOptions{})
	impatient, leave := context.WithCancel(t.Context())
	left := make(chan error)
	go func() { left <- r.Read(impatient, make([]byte, 10), 0) }()
	<-h.asked // by the first
	got := make(chan error)
	p := make([]byte, 10)
	go func() { got <- r.Read(t.Context(), p, 5) }()
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	<-h.asked // again, by the second
	h.goes <- struct{}{}
	if err := <-got; err != nil || !bytes.Equal(p, data[5:15]) {
		t.Errorf("%v, %v", p, err)
	}
}

func TestAnObjectThatIsNoRangesIsNotReadAtRandom(t *testing.T) {
	t.Parallel()
	for _, info := range []transfer.Info{{}, {Size: 10}, {Ranges: true, Size: -1}} {
		if _, err := transfer.NewRandom(nil, info, transfer.RandomOptions{}); !errors.Is(err, transfer.ErrNoRange) {
			t.Errorf("%+v: %v", info, err)
		}
	}
}
