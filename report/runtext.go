package report

import (
	"fmt"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/kvm"
	"github.com/hyper2kvm/hyper2kvm/progress/display"
	"github.com/hyper2kvm/hyper2kvm/units"
)

// Printer is where text goes, a line each. [terminal.Printer] is one.
type Printer interface {
	Success(format string, args ...any)
	Info(format string, args ...any)
	Warning(format string, args ...any)
	Error(format string, args ...any)
}

// Print tells a person what came of the run: what is done, the commands that make
// use of it, the counts, and at the end what failed, with what to do about it.
func (r Run) Print(p Printer) {
	safe := display.SafeText
	for _, vm := range r.VMs {
		switch {
		case vm.Outcome == Done && vm.Earlier:
			p.Success("%s: exported by an earlier run, in %s", safe(vm.Name), safe(vm.Output))
		case vm.Outcome == Done:
			p.Success("%s: %s in %s, in %s; %s", safe(vm.Name), units.Bytes(vm.Bytes), safe(vm.Output), display.Duration(vm.Duration), vm.Verified)
			for _, note := range vm.Notes {
				if !kvm.AboutNetworks(note) { // told below, once for all
					p.Warning("%s: %s", safe(vm.Name), safe(note))
				}
			}
		}
	}
	for _, n := range r.Unmapped {
		p.Warning("no libvirt network was named for %q: on \"default\" there are now cards of %s (-network-map)", n.Name, safe(several(n.VMs)))
	}
	for i, next := range r.Next {
		if i == 0 {
			p.Info("Next:")
		}
		p.Info("  %s", safe(next))
	}
	for _, vm := range r.VMs {
		if vm.Outcome == Cancelled {
			p.Warning("%s: stopped; what was changed at the vCenter is undone", safe(vm.Name))
		}
	}
	p.Info("%s", r.counts())
	for _, vm := range r.VMs {
		if vm.Outcome != Failed {
			continue
		}
		for line := range strings.Lines(vm.Error) {
			p.Error("%s: %s", safe(vm.Name), safe(strings.TrimRight(line, "\n")))
		}
		if vm.Hint != "" {
			p.Error("%s: hint: %s", safe(vm.Name), safe(vm.Hint))
		}
	}
	if r.Resume != "" {
		p.Info("To go on with what is not done: %s", safe(r.Resume))
	}
}

// counts is one line about the whole run.
func (r Run) counts() string {
	parts := []string{fmt.Sprintf("%d of %d VM(s) done", r.Done, r.Total)}
	if r.Earlier > 0 {
		parts[0] += fmt.Sprintf(" (%d by an earlier run)", r.Earlier)
	}
	for _, c := range []struct {
		n    int
		what string
	}{{r.Failed, "failed"}, {r.Cancelled, "stopped"}, {r.NotBegun, "not begun"}} {
		if c.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", c.n, c.what))
		}
	}
	return fmt.Sprintf("%s; %s on disk, %s off the wire, in %s", strings.Join(parts, ", "),
		units.Bytes(r.Bytes), units.Bytes(r.Received), display.Duration(r.Duration))
}

// several names the first of many.
func several(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", len(names)-most)
}
