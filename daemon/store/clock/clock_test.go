package clock_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/store/clock"
)

func TestTheSteadyClockGoesOnEvenlyWhenTheWallClockJumps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var off time.Duration
		c := clock.New(func() time.Time { return time.Now().Add(off) })
		began := c.Steady()
		if began != c.Now() {
			t.Errorf("it starts at %v, the wall clock at %v", began, c.Now())
		}
		time.Sleep(time.Minute)
		off = -time.Hour
		if passed := c.Steady().Sub(began); passed != time.Minute {
			t.Errorf("%v passed, want 1m", passed)
		}
		due := c.Steady().Add(10 * time.Second)
		if in := c.Shown(due).Sub(c.Now()); in != 10*time.Second {
			t.Errorf("what is due in 10s is shown to be due in %v", in)
		}
	})
}
