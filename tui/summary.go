package tui

import (
	"context"
	"fmt"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/internal/terminal"
	"github.com/hyper2kvm/hyper2kvm/job/outcome"
	"github.com/hyper2kvm/hyper2kvm/kvm"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/progress/display"
	"github.com/hyper2kvm/hyper2kvm/tui/cell"
	"github.com/hyper2kvm/hyper2kvm/tui/monitor"
	"github.com/hyper2kvm/hyper2kvm/tui/plan"
	"github.com/hyper2kvm/hyper2kvm/tui/runs"
	"github.com/hyper2kvm/hyper2kvm/units"
)

// summarize prints what became of the exports, and returns nil when all of them
// are done or go on elsewhere.
func summarize(p *terminal.Printer, jobs []runs.Status, forced, elsewhere bool) error {
	out := &OutcomeError{Total: len(jobs)}
	going := 0
	var next, groups []string
	for _, s := range jobs {
		name := cell.Safe(s.Name)
		switch s.State {
		case runs.Done:
			r := s.Result
			p.Success("%s: %d file(s), %s in %s, in %s; %s", name, len(r.Files), units.Bytes(r.TotalSize),
				cell.Safe(r.OutputDir), display.Duration(r.Duration), outcome.Verification(r.Disks))
			groups = append(groups, r.Unmapped...)
			for _, note := range r.Notes {
				if kvm.AboutNetworks(note) && len(r.Unmapped) > 0 {
					continue // told below, once for all VMs
				}
				p.Warning("%s: %s", name, cell.Safe(note))
			}
			next = append(next, outcome.NextStep(r))
		case runs.Failed:
			out.Failed++
			out.Errs = append(out.Errs, s.Err)
			p.Error("%s: %s", name, safeLines(s.Err.Error()))
			if hint := migrate.Hint(s.Err); hint != "" {
				p.Error("hint: %s", cell.Safe(hint))
			}
		case runs.Cancelled:
			out.Cancelled++
			p.Warning("%s: %s", name, monitor.Cleanup(s))
		default:
			going++
		}
	}
	if len(groups) > 0 {
		p.Warning("%s", cell.Safe(plan.UnmappedText(groups)))
	}
	for _, line := range next {
		if line != "" {
			fmt.Fprintln(p.Out, line)
		}
	}
	switch {
	case elsewhere && going > 0:
		p.Info("%d job(s) go on at the daemon; hyper2kvm watch shows them again", going)
	case forced:
		out.Cancelled += going
		p.Warning("left before %d export(s) were cleaned up: a lease ends by itself within minutes; remove snapshots named hyper2kvm-… by hand, or run the same export again, which does", going)
	}
	if out.Cancelled > 0 {
		out.Errs = append(out.Errs, context.Canceled)
	}
	if out.Failed+out.Cancelled > 0 {
		return out
	}
	return nil
}

// safeLines is text of several lines made safe for the terminal.
func safeLines(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = cell.Safe(lines[i])
	}
	return strings.Join(lines, "\n")
}
