package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/internal/panics"
)

// How inventories are read. A page shows what was read last, and never waits for a
// vCenter: one of 10,000 VMs may take minutes.
const (
	inventoryKept  = 2 * time.Minute        // older, it is read anew when somebody looks
	inventoryPause = 5 * time.Second        // younger, it is not read again for who wants that
	failurePause   = 30 * time.Second       // after a failure, unless somebody wants it tried again
	walkBound      = 15 * time.Minute       // one reading may take this long
	quickWalk      = 300 * time.Millisecond // a page waits this long for a vCenter that is quick
)

// reader reads all VMs of a vCenter, and tells seen how many have come.
type reader func(ctx context.Context, seen func(vms int)) ([]models.VM, error)

// inventories are those of all vCenters, by name.
type inventories struct {
	mu sync.Mutex
	by map[string]*shelf // no more than the configuration has
}

// shelf has what is known of one inventory.
type shelf struct {
	last   *inventory // that was read last; nil before the first
	walk   *walk      // that goes on; nil is none
	failed *failure   // of the walk after last; nil when there was none
}

// walk is one reading of an inventory, for all who want it. It goes on when nobody waits
// any more, because who comes next wants the same: it ends at walkBound and with the
// daemon.
type walk struct {
	began time.Time
	vms   atomic.Int64 // that have come
	over  chan struct{}
}

// failure is how a walk failed.
type failure struct {
	at  time.Time
	err error
}

// standing is how it stands with an inventory at a moment.
type standing struct {
	last   *inventory // nil: there is none yet
	walk   *walk      // nil: it is not being read
	failed *failure   // nil: the last walk did not fail
}

// look returns how it stands with the inventory of a vCenter, and has it read when it is
// old; with again, also when it is not, or when that has just failed.
func (s *Site) look(vcenter string, again bool, read reader) standing {
	i := &s.inventories
	i.mu.Lock()
	defer i.mu.Unlock()
	on := i.by[vcenter]
	if on == nil {
		on = &shelf{}
		if i.by == nil {
			i.by = make(map[string]*shelf)
		}
		i.by[vcenter] = on
	}
	kept, pause := inventoryKept, failurePause
	if again {
		kept, pause = inventoryPause, 0
	}
	old := on.last == nil || time.Since(on.last.read) >= kept
	if old && on.walk == nil && (on.failed == nil || time.Since(on.failed.at) >= pause) && s.ctx.Err() == nil {
		w := &walk{began: time.Now(), over: make(chan struct{})}
		on.walk = w
		s.busy.Go(func() { s.read(vcenter, on, w, read) })
	}
	return standing{on.last, on.walk, on.failed}
}

// read reads an inventory, and puts it or the failure on its shelf.
func (s *Site) read(vcenter string, on *shelf, w *walk, read reader) {
	ctx, cancel := context.WithTimeout(s.ctx, walkBound)
	defer cancel()
	var inv *inventory
	err := panics.Catch(func() error {
		vms, err := read(ctx, func(vms int) { w.vms.Store(int64(vms)) })
		if err == nil {
			inv = newInventory(vms)
		}
		return err
	})
	if err != nil && s.ctx.Err() == nil {
		panics.Log(s.log, err)
		s.log.WarnContext(ctx, "an inventory cannot be read", "vcenter", vcenter, "after", time.Since(w.began).Round(time.Second).String(), "error", err)
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = problem{http.StatusGatewayTimeout, fmt.Sprintf("vCenter did not give all of it within %v.", span(walkBound))}
		}
	}
	s.inventories.mu.Lock()
	defer s.inventories.mu.Unlock()
	on.walk, on.failed = nil, nil
	if err != nil {
		on.failed = &failure{time.Now(), err}
	} else {
		on.last = inv
	}
	close(w.over)
}

// stands returns how it stands with the inventory of a vCenter. An error is one that no
// reading mends: there is no such vCenter.
func (c *call) stands(vcenter string) (standing, error) {
	if len(c.o.VCenters) > 0 && !slices.Contains(c.o.VCenters, vcenter) || len(c.o.VCenters) == 0 && vcenter != "" {
		return standing{}, problem{http.StatusNotFound, api.ErrUnknownVCenter.Error()}
	}
	who := access.FromContext(c.r.Context())
	look := func(again bool) standing {
		return c.look(vcenter, again, func(ctx context.Context, seen func(int)) ([]models.VM, error) {
			return c.api.VMs(access.WithPrincipal(ctx, who), vcenter, seen)
		})
	}
	again := c.r.FormValue("again") != ""
	st := look(again)
	if st.walk != nil && (st.last == nil || again || !c.isFragment()) { // there may be more to show at once
		quick := time.NewTimer(quickWalk)
		defer quick.Stop()
		select {
		case <-st.walk.over:
			st = look(false)
		case <-quick.C:
		case <-c.r.Context().Done():
			return st, c.r.Context().Err()
		}
	}
	if st.last == nil && st.failed != nil {
		if status, _ := api.StatusOf(st.failed.err); status == http.StatusNotFound || status == http.StatusNotImplemented {
			return st, st.failed.err
		}
	}
	return st, nil
}

// reading says how it stands with an inventory, where there is something to say.
type reading struct {
	VCenter string // what it is called
	Known   bool   // an older one is there
	// Of a walk that goes on; Since is zero when none does.
	Since time.Time
	For   string
	VMs   int64
	// Of the walk that failed last; At is zero when it did not.
	At  time.Time
	Why string

	URL   string // where a script looks how it stands
	Every int    // seconds after which it does
	Here  string // address of the page, for who has no scripts
	Again string // address at which it is tried again; "" where a form does that
}

// mostEvery bounds how many seconds a page waits before it looks again.
const mostEvery = 15

// reading words how it stands. A page looks again the later the longer the walk takes.
func (st standing) reading(vcenter string) reading {
	r := reading{VCenter: strings.TrimSpace("vCenter " + vcenter), Known: st.last != nil}
	if w := st.walk; w != nil {
		took := time.Since(w.began)
		r.Since, r.For, r.VMs = w.began, span(took), w.vms.Load()
		r.Every = min(max(int(took/(10*time.Second)), 1), mostEvery)
	} else if st.failed != nil {
		r.At, r.Why = st.failed.at, st.failed.why()
	}
	return r
}

// Walking reports whether it is being read.
func (r reading) Walking() bool { return !r.Since.IsZero() }

// Failed reports whether the last walk has failed, and none goes on.
func (r reading) Failed() bool { return !r.At.IsZero() }

// why is the failure in words.
func (f *failure) why() string {
	text := textOf(f.err)
	return strings.TrimPrefix(text, "vms: ")
}

// span words how long something took or is ago, to a precision that people use.
func span(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	}
	return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
}
