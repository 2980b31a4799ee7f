package landing_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/landing"
	"github.com/hyper2kvm/hyper2kvm/landing/libvirttest"
)

// guest is a landed guest that runs, and hears nothing: its boot sector is all that it is.
type guest struct {
	t      *testing.T
	lv     *libvirttest.Server
	landed job.Landed
	told   []string
}

func newGuest(t *testing.T, lv *libvirttest.Server, name string) *guest {
	t.Helper()
	e := newExport(t, lv, name)
	e.plan.Pool = ""
	g := &guest{t: t, lv: lv, landed: e.must()}
	lv.Virsh("start", name)
	return g
}

// stop stops the guest at uri, and says what was told.
func (g *guest) stop(ctx context.Context, uri string, grace time.Duration) (string, error) {
	l := g.landed
	l.URI = uri
	g.told = nil
	err := landing.Stop(ctx, l, grace, landing.StopTeller{
		Info: func(text string) { g.told = append(g.told, text) },
		Wait: func(string) func() { return func() {} },
	})
	return strings.Join(g.told, "\n"), err
}

// is fails the test unless the domain is in that state.
func (g *guest) is(want string) {
	g.t.Helper()
	if state := g.lv.Virsh("domstate", g.landed.Domain); state != want {
		g.t.Errorf("the domain is %s, and not %s", state, want)
	}
}

func stopsDeafGuest(t *testing.T, lv *libvirttest.Server) {
	g := newGuest(t, lv, "deaf")
	lv.Virsh("autostart", "deaf")
	told, err := g.stop(t.Context(), lv.URI(), time.Second)
	g.is("shut off")
	if err != nil || !strings.Contains(told, "has not shut down within 1s") || !strings.Contains(told, "was switched off") {
		t.Errorf("told %q, %v", told, err)
	}
	if info := lv.Virsh("dominfo", "deaf"); !strings.Contains(strings.ReplaceAll(info, " ", ""), "Autostart:disable") {
		t.Errorf("it starts with its host:\n%s", info)
	}
	if told, err := g.stop(t.Context(), lv.URI(), time.Second); err != nil || !strings.Contains(told, "is off") {
		t.Errorf("once more: told %q, %v", told, err)
	}
	if err := landing.Off(t.Context(), g.landed); err != nil {
		t.Errorf("it is off, and that is said to be %v", err)
	}
	lv.Virsh("start", "--paused", "deaf")
	if err := landing.Off(t.Context(), g.landed); !errors.Is(err, landing.ErrRuns) || fault.Hint(err) == "" {
		t.Errorf("it was started again, and that is said to be %v", err)
	}
	if told, err := g.stop(t.Context(), lv.URI(), time.Hour); err != nil || !strings.Contains(told, "is paused and cannot shut down") {
		t.Errorf("paused: told %q, %v", told, err)
	}
	g.is("shut off")
}

func stopsGuestThatHears(t *testing.T, lv *libvirttest.Server) {
	g := newGuest(t, lv, "hears")
	uri := lv.Between(func(c libvirttest.Call) (v libvirttest.Verdict) {
		if c.Procedure == libvirttest.ShutdownFlags { // as if the guest had
			lv.Virsh("destroy", "hears")
			v.Reply = []byte{}
		}
		return v
	})
	if told, err := g.stop(t.Context(), uri, time.Hour); err != nil || !strings.Contains(told, "has shut down") {
		t.Errorf("told %q, %v", told, err)
	}
	g.is("shut off")
}

func knowsWhichGuest(t *testing.T, lv *libvirttest.Server) {
	g := newGuest(t, lv, "known")
	lv.Virsh("destroy", "known")
	xml := lv.Virsh("dumpxml", "--inactive", "known")
	lv.Virsh("undefine", "known")
	if told, err := g.stop(t.Context(), lv.URI(), time.Second); err != nil || !strings.Contains(told, "is gone") {
		t.Errorf("of a domain that is gone: told %q, %v", told, err)
	}
	lv.Virsh("create", write(t, xml)) // it is not defined, and runs
	if _, err := g.stop(t.Context(), lv.URI(), time.Second); err != nil {
		t.Errorf("of a transient one: %v", err)
	}
	if domains := lv.Virsh("list", "--all", "--name"); strings.Contains(domains, "known") {
		t.Errorf("there are %q", domains)
	}
	lv.Virsh("create", write(t, strings.ReplaceAll(xml, g.landed.UUID, uuid.NewString())))
	if told, err := g.stop(t.Context(), lv.URI(), time.Second); !errors.Is(err, landing.ErrRuns) || fault.Hint(err) == "" {
		t.Errorf("of another one with its name: told %q, %v", told, err)
	}
	g.is("running")
	lv.Virsh("destroy", "known")
	for name, l := range map[string]job.Landed{"images alone": {URI: "nowhere", Pool: "p"}, "nothing": {}} {
		if err := landing.Stop(t.Context(), l, 0, landing.StopTeller{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func cannotStop(t *testing.T, lv *libvirttest.Server) {
	g := newGuest(t, lv, "stays")
	refusing := lv.Between(func(c libvirttest.Call) (v libvirttest.Verdict) {
		if c.Procedure == libvirttest.Destroy {
			v.Refuse = "the process does not end"
		}
		return v
	})
	if _, err := g.stop(t.Context(), refusing, time.Millisecond); !errors.Is(err, landing.ErrRuns) || !strings.Contains(err.Error(), "does not end") || !strings.Contains(fault.Hint(err), "virsh destroy stays") {
		t.Errorf("a guest that cannot be stopped: %v (%s)", err, fault.Hint(err))
	}
	if _, err := g.stop(t.Context(), "qemu+unix:///system?socket=/nonexistent", time.Second); !errors.Is(err, landing.ErrAway) || fault.Hint(err) == "" {
		t.Errorf("libvirt is away: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	asked := lv.Between(func(c libvirttest.Call) (v libvirttest.Verdict) {
		if c.Procedure == libvirttest.ShutdownFlags {
			cancel(job.Cancelled{})
		}
		return v
	})
	if _, err := g.stop(ctx, asked, time.Hour); !errors.As(err, new(job.Cancelled)) {
		t.Errorf("cancelled, it ends with %v", err)
	}
	g.is("running")
	for _, p := range []libvirttest.Procedure{libvirttest.GetAutostart, libvirttest.IsActive, libvirttest.ShutdownFlags, libvirttest.Destroy} {
		for _, after := range []bool{false, true} {
			var cut atomic.Bool
			uri := lv.Between(func(c libvirttest.Call) (v libvirttest.Verdict) {
				if c.Procedure == p && !cut.Swap(true) {
					v.Cut, v.After = true, after
				}
				return v
			})
			if told, err := g.stop(t.Context(), uri, time.Millisecond); !errors.Is(err, landing.ErrAway) {
				t.Errorf("the connection ends at call %d (after it: %t): told %q, %v", p, after, told, err)
			}
			if _, err := g.stop(t.Context(), uri, time.Millisecond); err != nil {
				t.Errorf("and once more: %v", err)
			}
			g.is("shut off")
			lv.Virsh("start", "stays")
		}
	}
	lv.Virsh("destroy", "stays")
}
