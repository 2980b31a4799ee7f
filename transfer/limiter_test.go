package transfer_test

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyper2kvm/hyper2kvm/transfer"
)

// passed returns how many bytes readers, each reading piece bytes at a time,
// get through l in d of virtual time.
func passed(t *testing.T, l *transfer.Limiter, readers, piece int, d time.Duration) int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	var total atomic.Int64
	var group sync.WaitGroup
	for range readers {
		group.Go(func() {
			for l.Wait(ctx, piece) == nil {
				total.Add(int64(piece))
			}
		})
	}
	group.Wait()
	return total.Load()
}

func wantWithin(t *testing.T, got int64, want float64) {
	t.Helper()
	if math.Abs(float64(got)-want) > 0.02*want {
		t.Errorf("%d bytes passed, want %.0f within 2 %%", got, want)
	}
}

func TestTheLimitIsKeptWithinTwoPercentOverTenSeconds(t *testing.T) {
	t.Parallel()
	for _, limit := range []int64{1_000_000, 25_000_000, 200_000_000} {
		for _, readers := range []int{1, 8} {
			synctest.Test(t, func(t *testing.T) {
				l := transfer.NewLimiter(limit, nil)
				wantWithin(t, passed(t, l, readers, int(limit/200), 10*time.Second), float64(limit)*10)
			})
		}
	}
}

func TestAChildKeepsItsOwnLimitAndItsParents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		daemon := transfer.NewLimiter(30_000_000, nil)
		slow, fast := transfer.NewLimiter(10_000_000, daemon), transfer.NewLimiter(0, daemon)
		var slowBytes, fastBytes int64
		var jobs sync.WaitGroup
		jobs.Go(func() { slowBytes = passed(t, slow, 4, 64<<10, 10*time.Second) })
		jobs.Go(func() { fastBytes = passed(t, fast, 4, 64<<10, 10*time.Second) })
		jobs.Wait()
		if slowBytes > 102_000_000 {
			t.Errorf("%d bytes passed the child of 10 MB/s", slowBytes)
		}
		wantWithin(t, slowBytes+fastBytes, 300_000_000)
	})
}

func TestALimitChangesWhileReadersWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := transfer.NewLimiter(1_000_000, nil)
		time.AfterFunc(10*time.Second, func() { l.SetLimit(50_000_000) })
		wantWithin(t, passed(t, l, 4, 64<<10, 20*time.Second), 510_000_000)
		if l.Limit() != 50_000_000 {
			t.Errorf("Limit is %d", l.Limit())
		}
	})
}

func TestALimitCanBeTakenAwayAndSetAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := transfer.NewLimiter(1000, nil)
		l.SetLimit(0)
		began := time.Now()
		if err := l.Wait(t.Context(), 1<<30); err != nil || time.Since(began) != 0 || l.Limit() != 0 {
			t.Errorf("without a limit Wait took %v, %v", time.Since(began), err)
		}
		l.SetLimit(1_000_000)
		wantWithin(t, passed(t, l, 1, 1000, 10*time.Second), 10_000_000)
	})
}

func TestNoLimiterIsNoLimit(t *testing.T) {
	t.Parallel()
	var l *transfer.Limiter
	if err := l.Wait(t.Context(), 1<<40); err != nil || l.Limit() != 0 {
		t.Errorf("Wait = %v, Limit = %d", err, l.Limit())
	}
}

func TestReadersShareALimiter(t *testing.T) {
	t.Parallel()
	for _, ranges := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			l := transfer.NewLimiter(1_000_000, nil)
			began := time.Now()
			var readers sync.WaitGroup
			for range 2 {
				readers.Go(func() {
					m := &memory{data: content(5_000_000)}
					got, err := readAs(t, m, ofSize(m, ranges), transfer.Options{Limiter: l})
					if err != nil {
						t.Error(err)
					}
					wantBytes(t, got, m.data)
				})
			}
			readers.Wait()
			if took := time.Since(began).Seconds(); math.Abs(took-10) > 0.2 {
				t.Errorf("10 MB at 1 MB/s took %.2f s", took)
			}
		})
	}
}
