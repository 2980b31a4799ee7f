package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyper2kvm/hyper2kvm/transfer"
)

// ofSize is what a probe reports of m, with or without ranges.
func ofSize(m *memory, ranges bool) transfer.Info {
	return transfer.Info{Size: int64(len(m.data)), Ranges: ranges}
}

func TestASilentServerIsAStall(t *testing.T) {
	t.Parallel()
	for name, ranges := range map[string]bool{"ranges": true, "stream": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := &memory{data: content(1 << 20)}
				m.open = func(ctx context.Context, _, off, length int64) (io.ReadCloser, error) {
					return &paced{ctx: ctx, data: m.part(off, length), piece: 1000, pause: time.Second, stop: 3000}, nil
				}
				began := time.Now()
				_, err := readAs(t, m, ofSize(m, ranges), transfer.Options{
					Workers: 1, StallTimeout: 20 * time.Second,
					Budget: transfer.NewBudget(transfer.BudgetOptions{Retries: -1}),
				})
				wantError(t, err, transfer.ErrStalled, transfer.ErrExhausted)
				// Three pieces, then the timeout: slow is no stall, silent is.
				if got := time.Since(began); got != 23*time.Second {
					t.Errorf("gave up after %v, want 23s", got)
				}
			})
		})
	}
}

func TestAServerThatDoesNotAnswerIsAStall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &memory{data: content(100)}
		m.open = func(ctx context.Context, n, _, _ int64) (io.ReadCloser, error) {
			if n > 1 {
				return nil, nil
			}
			<-ctx.Done()
			return nil, ctx.Err()
		}
		began := time.Now()
		got, err := readAs(t, m, ofSize(m, false), transfer.Options{})
		if err != nil {
			t.Fatal(err)
		}
		wantBytes(t, got, m.data)
		if took := time.Since(began); took < transfer.DefaultStallTimeout || took > transfer.DefaultStallTimeout+time.Second {
			t.Errorf("went on after %v, want the stall timeout and a short pause", took)
		}
	})
}

func TestAConsumerThatDoesNotReadIsNoStall(t *testing.T) {
	t.Parallel()
	for name, ranges := range map[string]bool{"ranges": true, "stream": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := &memory{data: content(8 << 20)}
				r, err := transfer.NewReader(t.Context(), m, ofSize(m, ranges), transfer.Options{Workers: 2, ChunkSize: 256 << 10,
					StallTimeout: time.Second, Budget: transfer.NewBudget(transfer.BudgetOptions{Retries: -1})})
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				var got bytes.Buffer
				for range 5 {
					if _, err := io.CopyN(&got, r, 1<<20); err != nil {
						t.Fatal(err)
					}
					time.Sleep(time.Hour)
				}
				if _, err := io.Copy(&got, r); err != nil {
					t.Fatal(err)
				}
				wantBytes(t, got.Bytes(), m.data)
			})
		})
	}
}

func TestAnOutageThatStallsOneRequestAfterTheOtherIsOneFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const workers = 4
		m := &memory{data: content(8 << 20)}
		m.open = func(ctx context.Context, n, off, length int64) (io.ReadCloser, error) {
			if n > workers {
				return nil, nil
			}
			// Each has got further than the one before when nothing comes any more.
			return &paced{ctx: ctx, data: m.part(off, length), piece: 1000, pause: time.Second, stop: 5000 * int(n)}, nil
		}
		budget := transfer.NewBudget(transfer.BudgetOptions{Retries: 1})
		got, err := readAs(t, m, ofSize(m, true), transfer.Options{Workers: workers, ChunkSize: 256 << 10, StallTimeout: 10 * time.Second, Budget: budget})
		if err != nil {
			t.Fatal(err)
		}
		wantBytes(t, got, m.data)
		if left := budget.Left(); left != 0 {
			t.Errorf("%d retries are left of 1: nothing has failed", left)
		}
	})
}

func TestRetryAfterIsHonoured(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &memory{data: content(1000)}
		m.open = func(_ context.Context, n, _, _ int64) (io.ReadCloser, error) {
			if n == 1 {
				return nil, &transfer.StatusError{Code: 503, RetryAfter: 42 * time.Second}
			}
			return nil, nil
		}
		began := time.Now()
		got, err := readAs(t, m, ofSize(m, false), transfer.Options{})
		if err != nil {
			t.Fatal(err)
		}
		wantBytes(t, got, m.data)
		if took := time.Since(began); took != 42*time.Second {
			t.Errorf("asked again after %v, want 42s", took)
		}
	})
}

func TestASlowConnectionAtTheHeadIsReplaced(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		slow int64 // which request is
		size int
		o    transfer.Options
	}{
		"small chunks": {3, 8 << 20, transfer.Options{ChunkSize: 1 << 20}},
		// What arrives behind a slow head fills a window that is not wide.
		"window of 1 MiB":  {7, 16 << 20, transfer.Options{Window: 1 << 20}},
		"window of 4 MiB":  {7, 16 << 20, transfer.Options{Window: 4 << 20}},
		"window of 64 MiB": {7, 16 << 20, transfer.Options{Window: 64 << 20}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := &memory{data: content(test.size)}
				m.open = func(ctx context.Context, n, off, length int64) (io.ReadCloser, error) {
					pause := 10 * time.Millisecond // for 64 KiB
					if n == test.slow {
						pause = time.Minute
					}
					return &paced{ctx: ctx, data: m.part(off, length), piece: 64 << 10, pause: pause, stop: -1}, nil
				}
				o := test.o
				o.Workers, o.StallTimeout = 4, time.Hour
				began := time.Now()
				got, err := readAs(t, m, ofSize(m, true), o)
				if err != nil {
					t.Fatal(err)
				}
				wantBytes(t, got, m.data)
				if took := time.Since(began); took > 5*time.Second {
					t.Errorf("took %v: the slow connection was waited for", took)
				}
			})
		})
	}
}

func TestAFailingHelperDoesNotHarmASlowChunk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &memory{data: content(4 << 20)}
		var helped atomic.Int64
		m.open = func(ctx context.Context, _, off, length int64) (io.ReadCloser, error) {
			pause := 10 * time.Millisecond
			if off == 0 {
				if helped.Add(1) > 1 {
					return nil, errors.New("no second request for this part")
				}
				pause = 2 * time.Second
			}
			return &paced{ctx: ctx, data: m.part(off, length), piece: 64 << 10, pause: pause, stop: -1}, nil
		}
		budget := quick(3)
		got, err := readAs(t, m, ofSize(m, true), transfer.Options{Workers: 4, ChunkSize: 1 << 20, Budget: budget})
		if err != nil {
			t.Fatal(err)
		}
		wantBytes(t, got, m.data)
		if helped.Load() < 2 {
			t.Error("no helper was called")
		}
		if budget.Left() != 3 {
			t.Errorf("the helper's failure cost a retry: %d left of 3", budget.Left())
		}
	})
}

func TestRequestsGrowWithTheLatency(t *testing.T) {
	t.Parallel()
	largest := func(latency time.Duration) (n int64) {
		synctest.Test(t, func(t *testing.T) {
			m := &memory{data: content(16 << 20)}
			m.open = func(ctx context.Context, _, off, length int64) (io.ReadCloser, error) {
				time.Sleep(latency)
				n = max(n, length)
				return &paced{ctx: ctx, data: m.part(off, length), piece: 32 << 10, pause: 500 * time.Microsecond, stop: -1}, nil
			}
			if _, err := readAs(t, m, ofSize(m, true), transfer.Options{Workers: 1, ChunkSize: 4 << 20}); err != nil {
				t.Error(err)
			}
		})
		return n
	}
	if n := largest(50 * time.Millisecond); n != 4<<20 {
		t.Errorf("at 50 ms requests reach %d bytes, want the largest chunk", n)
	}
	if n := largest(0); n > 1<<20 {
		t.Errorf("without latency requests reach %d bytes, want no more than at the start", n)
	}
}

func TestTheEndOfTheContextEndsTheReader(t *testing.T) {
	t.Parallel()
	for name, ranges := range map[string]bool{"ranges": true, "stream": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := &memory{data: content(4 << 20)}
				m.open = func(ctx context.Context, _, off, length int64) (io.ReadCloser, error) {
					return &paced{ctx: ctx, data: m.part(off, length), piece: 1000, pause: time.Second, stop: -1}, nil
				}
				lost := errors.New("the lease is lost")
				ctx, cancel := context.WithCancelCause(t.Context())
				r, err := transfer.NewReader(ctx, m, ofSize(m, ranges), transfer.Options{})
				if err != nil {
					t.Fatal(err)
				}
				time.AfterFunc(time.Minute, func() { cancel(lost) })
				_, err = io.ReadAll(r)
				wantError(t, err, context.Canceled, lost)
				if _, again := r.Read(make([]byte, 1)); !errors.Is(again, lost) {
					t.Errorf("the next Read gives %v, want the same", again)
				}
				if err := r.Close(); err != nil {
					t.Error(err)
				}
				wantError(t, second(r.Read(make([]byte, 1))), fs.ErrClosed)
			})
		})
	}
}

func TestCloseEndsAReadThatWaitsAndAPauseThatLasts(t *testing.T) {
	t.Parallel()
	for name, ranges := range map[string]bool{"ranges": true, "stream": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := &memory{data: content(4 << 20)}
				m.open = func(context.Context, int64, int64, int64) (io.ReadCloser, error) {
					return nil, &transfer.StatusError{Code: 503, RetryAfter: time.Hour}
				}
				r, err := transfer.NewReader(t.Context(), m, ofSize(m, ranges),
					transfer.Options{Budget: transfer.NewBudget(transfer.BudgetOptions{Max: time.Hour})})
				if err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				time.AfterFunc(time.Second, func() { _ = r.Close() })
				_, err = io.ReadAll(r)
				wantError(t, err, fs.ErrClosed)
				if took := time.Since(began); took != time.Second {
					t.Errorf("Read ended after %v, want 1s", took)
				}
				_ = r.Close()
			})
		})
	}
}

func TestAnEndedReaderStaysAtItsEnd(t *testing.T) {
	t.Parallel()
	for _, ranges := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			m := &memory{data: content(1000)}
			r, err := transfer.NewReader(t.Context(), m, ofSize(m, ranges), transfer.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if _, err := io.ReadAll(r); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Errorf("Read after the end = %d, %v", n, err)
			}
		})
	}
}

func second(_ int, err error) error { return err }
