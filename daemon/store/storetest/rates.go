package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hyper2kvm/hyper2kvm/daemon/rates"
)

// Rates runs the suite of every [rates.Store]. open returns an empty one.
func Rates(t *testing.T, open func(t *testing.T) rates.Store) {
	t.Run("samples of all writers are read, those that started first first", func(t *testing.T) {
		t.Parallel()
		f := rateFixture{t, open(t)}
		f.since(tens, 0)
		f.keep("a", sample(tens, 2, 20), sample(tens, 1, 10), sample(time.Minute, 0, 30))
		f.keep("b", sample(tens, 1, 1), sample(tens, 3, 3))
		f.keep("b")
		f.since(tens, 0, sample(tens, 1, 10), sample(tens, 1, 1), sample(tens, 2, 20), sample(tens, 3, 3))
		f.since(tens, 2*tens, sample(tens, 2, 20), sample(tens, 3, 3))
		f.since(tens, 3*tens+time.Millisecond)
		f.since(time.Minute, 0, sample(time.Minute, 0, 30))
		f.since(time.Hour, 0)
	})
	t.Run("a sample that is written again counts once", func(t *testing.T) {
		t.Parallel()
		f := rateFixture{t, open(t)}
		f.keep("a", sample(tens, 1, 10))
		f.keep("b", sample(tens, 1, 5))
		f.keep("a", sample(tens, 1, 11), sample(tens, 2, 1))
		f.since(tens, 0, sample(tens, 1, 11), sample(tens, 1, 5), sample(tens, 2, 1))
	})
	t.Run("hosts of any name are kept with it", func(t *testing.T) {
		t.Parallel()
		f := rateFixture{t, open(t)}
		s := sample(tens, 1, 0)
		s.Bytes = map[string]int64{"": 1, "esx1.example.org": 1 << 60, "[2001:db8::1]:902": 2, `"; DROP TABLE rates; --?`: 3, "größe <b>": 4}
		f.keep("a", s)
		f.since(tens, 0, s)
	})
	t.Run("samples that are old enough are forgotten, those of a span alone", func(t *testing.T) {
		t.Parallel()
		f := rateFixture{t, open(t)}
		f.keep("a", sample(tens, 1, 1), sample(tens, 2, 2), sample(time.Minute, 0, 3))
		f.keep("b", sample(tens, 1, 4))
		for range 2 {
			if err := f.Forget(t.Context(), tens, began.Add(2*tens)); err != nil {
				t.Fatal(err)
			}
		}
		f.since(tens, 0, sample(tens, 2, 2))
		f.since(time.Minute, 0, sample(time.Minute, 0, 3))
	})
	t.Run("nothing is done once the context has ended", func(t *testing.T) {
		t.Parallel()
		f := rateFixture{t, open(t)}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := f.Keep(ctx, "a", []rates.Sample{sample(tens, 1, 1)}); err == nil {
			t.Error("kept")
		}
		f.since(tens, 0)
	})
}

const tens = 10 * time.Second

// began is a time at which samples of all lengths start.
var began = time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)

// sample is the one that is the nth after began.
func sample(span time.Duration, n int, bytes int64) rates.Sample {
	return rates.Sample{Start: began.Add(time.Duration(n) * span), Span: span, Bytes: map[string]int64{"esx1": bytes, "esx2": 2 * bytes}}
}

type rateFixture struct {
	*testing.T
	rates.Store
}

func (f rateFixture) keep(writer string, samples ...rates.Sample) {
	f.Helper()
	if err := f.Keep(f.Context(), writer, samples); err != nil {
		f.Fatal(err)
	}
}

func (f rateFixture) since(span, after time.Duration, want ...rates.Sample) {
	f.Helper()
	got, err := f.Since(f.Context(), span, began.Add(after))
	if err != nil {
		f.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		f.Errorf("since %v (-want +got):\n%s", after, diff)
	}
}
