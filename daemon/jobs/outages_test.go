package jobs_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
)

// beside are options of a daemon on a store that others share.
func beside(id string) jobs.Options {
	o := named(id, 1)
	o.Notices, o.MaxJobs, o.Sealer = unheard{}, 2, reversing{}
	return o
}

func TestAnOutageThatOneDaemonMeetsIsKnownToAllAndAskedByOneAtATime(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		s := newSite()
		s.takes = time.Minute
		s.set("lab", jobs.Unreachable)
		a := s.open(t, store, beside("a"))
		submit(t, a.Manager, many(20, "lab")...)
		time.Sleep(10 * time.Second)
		b, c := s.open(t, store, beside("b")), s.open(t, store, beside("c"))
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		// Once a minute, by whomever; three that do not know of each other ask three times.
		if n := s.asked("lab"); n < 8 || n > 20 {
			t.Errorf("the vCenter was asked %d times in ten minutes", n)
		}
		for _, d := range []*daemon{b, c} {
			v, err := d.VCenters(t.Context())
			if err != nil || len(v) != 1 || v[0].State != jobs.Unreachable || v[0].Waiting != 20 {
				t.Errorf("vCenters %+v, %v", v, err)
			}
		}
		s.set("lab", "")
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		for _, d := range []*daemon{a, b, c} {
			if v, err := d.VCenters(t.Context()); err != nil || len(v) > 0 {
				t.Errorf("vCenters %+v, %v when it is back", v, err)
			}
		}
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		if n := counts(t, a.Manager); n.Completed != 20 {
			t.Errorf("%+v", n)
		}
	})
}

func TestADaemonThatAloneCannotUseAVCenterDoesNotKeepTheOthersFromIt(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		broken, fine := newSite(), newSite()
		broken.set("lab", jobs.Unreachable)
		fine.takes = time.Minute
		a := broken.open(t, store, beside("a"))
		submit(t, a.Manager, many(100, "lab")...)
		time.Sleep(10 * time.Second)
		b := fine.open(t, store, beside("b"))
		time.Sleep(75 * time.Minute)
		synctest.Wait()
		if n := counts(t, b.Manager); n.Completed != 100 || n.Failed > 0 {
			t.Errorf("%+v: want all completed by the one that can", n)
		}
		if v, err := a.VCenters(t.Context()); err != nil || len(v) != 1 {
			t.Errorf("vCenters of the one that cannot: %+v, %v", v, err)
		}
		if v, err := b.VCenters(t.Context()); err != nil || len(v) > 0 {
			t.Errorf("vCenters of the one that can: %+v, %v", v, err)
		}
	})
}

func TestAnOutageThatOnlyADeadDaemonMetIsForgotten(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		s, fine := newSite(), newSite()
		s.set("", jobs.Unreachable)
		a := s.open(t, store, beside("a"))
		one := def("one")
		one.VCenter, one.VCenterURL, one.Username, one.Password = "", "https://elsewhere.example/sdk", "u", "p"
		submit(t, a.Manager, one)
		time.Sleep(10 * time.Second)
		b := fine.open(t, store, beside("b"))
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if v, err := b.VCenters(t.Context()); err != nil || len(v) != 1 {
			t.Errorf("vCenters %+v, %v", v, err)
		}
		if err := a.stop(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := counts(t, b.Manager); n.Completed != 1 {
			t.Errorf("%+v", n)
		}
	})
}

func TestWhileTheStoreIsAwayADaemonAsksForItself(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		s := newSite()
		s.set("lab", jobs.Unreachable)
		o := beside("a")
		o.Outages = noOutages{}
		a := s.open(t, store, o)
		submit(t, a.Manager, many(1, "lab")...)
		time.Sleep(10 * time.Second)
		s.set("lab", "")
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := counts(t, a.Manager); n.Completed != 1 {
			t.Errorf("%+v", n)
		}
	})
}

// noOutages is where nothing can be told or asked.
type noOutages struct{}

func (noOutages) ShareOutages(context.Context, string, time.Duration, []jobs.Outage, []string) ([]jobs.Outage, error) {
	return nil, errCut
}

func (noOutages) ClaimProbe(context.Context, string, string, time.Duration, bool) (bool, error) {
	return false, errCut
}
