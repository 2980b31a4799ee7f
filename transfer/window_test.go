package transfer_test

import (
	"bytes"
	"context"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyper2kvm/hyper2kvm/transfer"
)

// counted counts the bytes that a body gave.
type counted struct {
	io.Reader
	given *atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.given.Add(int64(n))
	return n, err
}

func (c *counted) Close() error { return nil }

func TestAReaderHoldsNoMoreThanItsWindow(t *testing.T) {
	t.Parallel()
	for _, window := range []int64{1, 1 << 20, 3 << 20} {
		synctest.Test(t, func(t *testing.T) {
			var given atomic.Int64
			m := &memory{data: content(12 << 20)}
			m.open = func(_ context.Context, _, off, length int64) (io.ReadCloser, error) {
				return &counted{bytes.NewReader(m.part(off, length)), &given}, nil
			}
			r, err := transfer.NewReader(t.Context(), m, ofSize(m, true), transfer.Options{Workers: 4, Window: window})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			// Blocks are 256 KiB, and a chunk is a quarter of the window at most.
			most := max(window, 256<<10) + max(window/4, 256<<10)
			var got bytes.Buffer
			for {
				synctest.Wait()
				if held := given.Load() - int64(got.Len()); held > most {
					t.Fatalf("with a window of %d bytes %d are held", window, held)
				}
				if _, err := io.CopyN(&got, r, 300_000); err == io.EOF {
					break
				} else if err != nil {
					t.Fatal(err)
				}
			}
			wantBytes(t, got.Bytes(), m.data)
		})
	}
}

func TestAConsumerThatIsSlowCausesNoSecondRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &memory{data: content(8 << 20)}
		var asked atomic.Int64
		m.open = func(ctx context.Context, _, off, length int64) (io.ReadCloser, error) {
			asked.Add(length)
			time.Sleep(100 * time.Millisecond) // so that chunks are of several blocks
			return &paced{ctx: ctx, data: m.part(off, length), piece: 64 << 10, pause: 30 * time.Millisecond, stop: -1}, nil
		}
		r, err := transfer.NewReader(t.Context(), m, ofSize(m, true), transfer.Options{Workers: 4, Window: 4 << 20, StallTimeout: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		var got bytes.Buffer
		for err == nil {
			time.Sleep(10 * time.Second)
			_, err = io.CopyN(&got, r, 256<<10)
		}
		if err != io.EOF {
			t.Fatal(err)
		}
		wantBytes(t, got.Bytes(), m.data)
		if asked.Load() != int64(len(m.data)) {
			t.Errorf("%d bytes were asked for of an object of %d", asked.Load(), len(m.data))
		}
	})
}

// 8 connections of 50 MB/s at 50 ms: each has to be busy for most of the time,
// which with this window needs requests of more than a seventeenth of it.
func TestLatencyIsHiddenWithinTheWindow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &memory{data: make([]byte, 256<<20)}
		m.open = func(ctx context.Context, _, off, length int64) (io.ReadCloser, error) {
			time.Sleep(50 * time.Millisecond)
			return &paced{ctx: ctx, data: m.part(off, length), piece: 256 << 10, pause: (256 << 10) * time.Second / 50e6, stop: -1}, nil
		}
		r, err := transfer.NewReader(t.Context(), m, ofSize(m, true), transfer.Options{Workers: 8, Window: 48 << 20})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		began := time.Now()
		if n, err := io.Copy(io.Discard, r); n != int64(len(m.data)) || err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		took := time.Since(began)
		if busy := float64(len(m.data)) / 8 / 50e6 / took.Seconds(); busy < 0.6 {
			t.Errorf("it takes %v: the connections are busy for %.0f %% of the time", took, busy*100)
		}
	})
}

// unsteady is a body whose connection is cut whenever all connections together
// have given another share of bytes.
type unsteady struct {
	*paced
	total *atomic.Int64
	share int64
}

func (u *unsteady) Read(p []byte) (int, error) {
	n, err := u.paced.Read(p)
	if sum := u.total.Add(int64(n)); err == nil && sum/u.share != (sum-int64(n))/u.share {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// A cut for each 6 MiB is within a budget of 3 failures for 16 MiB, also while
// most of what arrives is behind the chunk that is read next.
func TestAnUnsteadyNetworkIsOutlivedWhileBytesAdvance(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var total atomic.Int64
		m := &memory{data: make([]byte, 384<<20)}
		m.open = func(ctx context.Context, _, off, length int64) (io.ReadCloser, error) {
			time.Sleep(50 * time.Millisecond)
			p := &paced{ctx: ctx, data: m.part(off, length), piece: 256 << 10, pause: 5 * time.Millisecond, stop: -1}
			return &unsteady{p, &total, 6 << 20}, nil
		}
		r, err := transfer.NewReader(t.Context(), m, ofSize(m, true), transfer.Options{Workers: 8,
			Budget: transfer.NewBudget(transfer.BudgetOptions{Retries: 3, Refill: 16 << 20})})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if n, err := io.Copy(io.Discard, r); n != int64(len(m.data)) || err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
	})
}
