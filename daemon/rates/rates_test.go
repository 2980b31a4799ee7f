package rates_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/rates"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/memory"
	"github.com/hyper2kvm/hyper2kvm/progress"
)

const mib = 1 << 20

// came is what a run counts when n bytes come through a host.
func came(host string, n int64) progress.Tally {
	t := progress.Tally{Received: map[progress.Route]int64{progress.NFCStream: n}}
	if host != "" {
		t.Hosts = map[string]int64{host: n}
	}
	return t
}

// begin runs a recorder over s and returns what ends it.
func begin(t *testing.T, s rates.Store) (r *rates.Recorder, end func()) {
	t.Helper()
	r = rates.NewRecorder(s, nil)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	return r, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func read(t *testing.T, s rates.Store, w rates.Window) rates.Series {
	t.Helper()
	got, err := rates.Read(context.Background(), s, w, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if n := len(got.Total); n != 360 {
		t.Fatalf("%d steps", n)
	}
	return got
}

// bytes is how many bytes a series stands for.
func bytes(s rates.Series, of []float64) (n float64) {
	for i, rate := range of {
		n += rate * min(s.Step, s.End.Sub(s.Start)-time.Duration(i)*s.Step).Seconds()
	}
	return n
}

func TestEveryWindowHasAllThatCameInIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &memory.Rates{}
		r, end := begin(t, store)
		other, endOther := begin(t, store) // another daemon
		defer endOther()
		defer end()
		for range 40 * 60 { // 40 minutes
			r.Counted(came("esx1:443", 3*mib))
			other.Counted(came("esx2:8443", mib))
			other.Counted(came("", mib))
			other.Counted(progress.Tally{}) // a run that waits
			time.Sleep(time.Second)
		}
		time.Sleep(20 * time.Second)
		for _, w := range rates.Windows() {
			s := read(t, store, w)
			if n := bytes(s, s.Total); n != 40*60*5*mib {
				t.Errorf("%s: %.0f bytes in all", w, n/mib)
			}
			var names []string
			for _, h := range s.Hosts {
				names = append(names, h.Name)
				if n := bytes(s, h.Rates); n != float64(h.Bytes) {
					t.Errorf("%s: %q has %d bytes, in the curve %.0f", w, h.Name, h.Bytes, n)
				}
			}
			if got := strings.Join(names, ","); got != "esx1,,esx2:8443" {
				t.Errorf("%s: hosts %s", w, got)
			}
		}
		s := read(t, store, rates.Hour)
		if s.Step != 10*time.Second || time.Since(s.End) > 20*time.Second {
			t.Errorf("the hour has steps of %v and ends %v ago", s.Step, time.Since(s.End))
		}
		if middle := s.Total[240]; middle != 5*mib {
			t.Errorf("%.0f bytes per second in the midst of it", middle)
		}
	})
}

func TestTheNumberOfSamplesIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &memory.Rates{}
		r, end := begin(t, store)
		for range 26 * 60 { // 26 hours
			r.Counted(came("esx1", 10))
			time.Sleep(time.Minute)
		}
		for i := range 150 {
			r.Counted(came("host-"+strconv.Itoa(i), 1))
		}
		end()
		for _, g := range rates.Grains() {
			all, err := store.Since(context.Background(), g.Span, time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			if most := int(g.Keep/g.Span) + 100; len(all) > most || len(all) < int(min(g.Keep, 26*time.Hour)/max(g.Span, time.Minute)) {
				t.Errorf("%d samples of %v", len(all), g.Span)
			}
			last := all[len(all)-1]
			if len(last.Bytes) > 101 || last.Bytes[rates.OtherHosts] < 50 {
				t.Errorf("the last of %v has %d hosts, %d bytes of others", g.Span, len(last.Bytes), last.Bytes[rates.OtherHosts])
			}
		}
	})
}

// away is a store that cannot be used for a while.
type away struct {
	*memory.Rates
	is    atomic.Bool
	calls atomic.Int64
}

func (a *away) Keep(ctx context.Context, writer string, samples []rates.Sample) error {
	a.calls.Add(1)
	if a.is.Load() {
		return errors.New("away")
	}
	return a.Rates.Keep(ctx, writer, samples)
}

func TestWhatCouldNotBeWrittenIsWrittenLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &away{Rates: &memory.Rates{}}
		r, end := begin(t, store)
		store.is.Store(true)
		for range 30 * 60 {
			r.Counted(came("esx1", mib))
			time.Sleep(time.Second)
		}
		store.is.Store(false)
		end()
		for _, w := range rates.Windows() {
			if s := read(t, store, w); bytes(s, s.Total) < 30*60*mib*0.99 {
				t.Errorf("%s: %.0f MiB", w, bytes(s, s.Total)/mib)
			}
		}
	})
}

func TestAnIdleDaemonWritesNothingAndABusyOneOnceInTenSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &away{Rates: &memory.Rates{}}
		r, end := begin(t, store)
		defer end()
		time.Sleep(time.Hour)
		if n := store.calls.Load(); n != 0 {
			t.Errorf("an idle daemon has written %d times", n)
		}
		for range 600 {
			r.Counted(came("esx1", 1))
			r.Counted(came("esx2", 1))
			time.Sleep(time.Second)
		}
		if n := store.calls.Load(); n < 59 || n > 61 {
			t.Errorf("written %d times in ten minutes", n)
		}
	})
}

func TestAWindowThatIsNoneIsRefused(t *testing.T) {
	t.Parallel()
	if _, err := rates.Read(t.Context(), &memory.Rates{}, "year", time.Now()); err == nil || !strings.Contains(err.Error(), "month") {
		t.Errorf("%v", err)
	}
}
