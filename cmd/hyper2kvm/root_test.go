package main

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/internal/terminal"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// stuck is a session that cannot be ended.
type stuck struct{}

func (stuck) Close(context.Context) error { return errors.New("fault \x1b[2J") }

func TestALogOutThatFailsIsToldInSafeText(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	a := app{Printer: terminal.New(&out, &out)}
	a.hangUp(t.Context(), stuck{})
	if got := out.String(); !strings.Contains(got, `log out: fault \x1b[2J`) {
		t.Errorf("told %q", got)
	}
}

func TestTheSummaryIsSafeForATerminal(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	a := app{Printer: terminal.New(&out, &out)}
	a.summary(job.Result{
		VMName: "a", OutputDir: "/srv/a", DomainXML: "/srv/a\x1b[2J.xml",
		Disks: []job.DiskResult{{File: "a-disk-0.raw", Verified: "second-read"}},
	})
	for _, part := range []string{"read from the datastore twice", `Next: virsh define '/srv/a\x1b[2J.xml'`} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("%q is missing from %q", part, out.String())
		}
	}
}
