package report_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/report"
	"github.com/hyper2kvm/hyper2kvm/tui/runs"
)

// paper is a [report.Printer].
type paper struct{ strings.Builder }

func (p *paper) line(word, format string, args []any) {
	fmt.Fprintf(p, "%s %s\n", word, fmt.Sprintf(format, args...))
}
func (p *paper) Success(format string, args ...any) { p.line("SUCCESS", format, args) }
func (p *paper) Info(format string, args ...any)    { p.line("INFO", format, args) }
func (p *paper) Warning(format string, args ...any) { p.line("WARNING", format, args) }
func (p *paper) Error(format string, args ...any)   { p.line("ERROR", format, args) }

var errDisk = fault.WithHint(errors.New("the disk is <b>gone</b>\x1b[2J"), "look for it")

// ends are one job of each outcome.
func ends() []runs.Status {
	begun := time.Date(2026, 11, 28, 1, 0, 0, 0, time.UTC)
	def := func(name string) runs.Spec {
		return runs.Spec{Name: name, Def: job.Definition{VMPath: "/DC0/vm/" + name, OutputPath: "/out/" + name}}
	}
	done := func(name string, earlier bool) runs.Status {
		return runs.Status{Spec: def(name), State: runs.Done, Started: begun, Ended: begun.Add(90 * time.Second), Result: job.Result{
			VMName: name, OutputDir: "/out/" + name, DomainXML: "/out/" + name + "/x.xml", TotalSize: 1 << 30, Earlier: earlier, Success: true,
			Unmapped: []string{"DMZ"}, Notes: []string{"nic 0: was on network \"DMZ\", for which no libvirt network was named; it is on \"default\" now", "a note"},
		}}
	}
	return []runs.Status{
		{Spec: def("<script>alert(1)</script>"), State: runs.Failed, Started: begun, Ended: begun.Add(time.Second), Err: errDisk},
		done("one", false), done("two", true),
		{Spec: def("later"), State: runs.Waiting},
		{Spec: def("stopped"), State: runs.Cancelled, Started: begun, Ended: begun.Add(time.Second), Err: context.Canceled},
	}
}

func TestTheReportCountsAndHasWhatFailedAtItsEnd(t *testing.T) {
	t.Parallel()
	jobs := ends()
	r := report.NewRun("1.2.3", jobs[1].Started, jobs[1].Ended, jobs)
	if r.Total != 5 || r.Done != 2 || r.Earlier != 1 || r.Failed != 1 || r.Cancelled != 1 || r.NotBegun != 1 || r.Bytes != 2<<30 {
		t.Errorf("counts are %+v", r)
	}
	r.Resume = "hyper2kvm resume"
	var p paper
	r.Print(&p)
	text := p.String()
	at := -1
	for _, part := range []string{
		"SUCCESS one: 1.0 GiB in /out/one, in 1m30s", "WARNING one: a note", "SUCCESS two: exported by an earlier run",
		`"DMZ"`, "cards of one, two", "virsh define /out/one/x.xml", "virsh define /out/two/x.xml", "WARNING stopped: stopped",
		"2 of 5 VM(s) done (1 by an earlier run), 1 failed, 1 stopped, 1 not begun; 2.0 GiB on disk", "off the wire, in 1m30s",
		`ERROR <script>alert(1)</script>: the disk is <b>gone</b>\x1b[2J`, "hint: look for it", "hyper2kvm resume",
	} {
		i := strings.Index(text, part)
		if i < at {
			t.Errorf("%q is missing, or not in its place:\n%s", part, text)
		}
		at = max(at, i)
	}
	if strings.Count(text, "no libvirt network was named") != 1 || strings.ContainsRune(text, '\x1b') {
		t.Errorf("not one warning of networks, or an escape sequence:\n%s", text)
	}
}

func TestAPartialFailureIsToldFromOthers(t *testing.T) {
	t.Parallel()
	jobs := ends()
	for name, c := range map[string]struct {
		jobs    []runs.Status
		is      error
		partial bool
	}{
		"some failed": {jobs[:3], errDisk, true}, "all failed": {jobs[:1], errDisk, false}, "stopped": {jobs, context.Canceled, false},
		"all done": {jobs[1:3], nil, false},
	} {
		err := report.NewRun("", time.Time{}, time.Time{}, c.jobs).Err(c.jobs)
		var several *report.RunError
		if !errors.Is(err, c.is) || errors.As(err, &several) != (c.is != nil) || several != nil && several.Partial() != c.partial {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestThePageOfARunNeedsNothingElseAndRunsNothing(t *testing.T) {
	t.Parallel()
	jobs := ends()
	r := report.NewRun("1.2.3", jobs[1].Started, jobs[1].Ended, jobs)
	var b strings.Builder
	if err := r.HTML(&b); err != nil {
		t.Fatal(err)
	}
	alone(t, b.String())
	for _, part := range []string{"2 of 5 VMs done", "&lt;script&gt;", "look for it", "virsh define /out/one/x.xml\nvirsh define /out/two/x.xml"} {
		if !strings.Contains(b.String(), part) {
			t.Errorf("%q is missing", part)
		}
	}
}

// alone fails when a page refers to something outside of it or holds a script.
func alone(t *testing.T, page string) {
	t.Helper()
	for _, part := range []string{"<script", "src=", "href=", "url(", "@import", "<link", "<iframe", "http:", "https:", "onclick", "\x1b"} {
		if strings.Contains(strings.ToLower(page), part) {
			t.Errorf("the page has %q", part)
		}
	}
	if !strings.HasPrefix(page, "<!DOCTYPE html>") || !strings.HasSuffix(strings.TrimSpace(page), "</html>") {
		t.Error("it is not one whole page")
	}
}
