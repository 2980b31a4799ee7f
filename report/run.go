package report

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/job/outcome"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/tui/runs"
)

// Outcomes of a VM in a [Run].
const (
	Done      = "done"
	Failed    = "failed"
	Cancelled = "cancelled" // it was running when the run was stopped
	NotBegun  = "not begun" // the run was stopped before its turn came
)

// Run is what came of the exports of several VMs. Those that failed are the last.
type Run struct {
	Version  string        `json:"version"` // of the program
	Started  time.Time     `json:"started"`
	Ended    time.Time     `json:"ended"`
	Duration time.Duration `json:"duration"` // nanoseconds

	Total     int   `json:"total"` // VMs
	Done      int   `json:"done"`
	Earlier   int   `json:"earlier"` // of those done: finished by an earlier run
	Failed    int   `json:"failed"`
	Cancelled int   `json:"cancelled"`
	NotBegun  int   `json:"not_begun"`
	Bytes     int64 `json:"bytes"`    // of all files that are there now
	Received  int64 `json:"received"` // off the wire in this run

	VMs      []VM      `json:"vms"`
	Unmapped []Network `json:"unmapped_networks"` // port groups for which no network was named
	Next     []string  `json:"next"`              // commands that make use of what is there
	Resume   string    `json:"resume,omitempty"`  // command that goes on with the rest
}

// VM is one of a [Run].
type VM struct {
	Name     string        `json:"name"`
	Path     string        `json:"vm_path"`
	Output   string        `json:"output_path"`
	Outcome  string        `json:"outcome"`
	Earlier  bool          `json:"earlier,omitempty"`
	Bytes    int64         `json:"bytes"`
	Duration time.Duration `json:"duration"` // nanoseconds, in this run
	Verified string        `json:"verified,omitempty"`
	Error    string        `json:"error,omitempty"`
	Hint     string        `json:"hint,omitempty"` // what to try
	Notes    []string      `json:"notes,omitempty"`
	Next     string        `json:"next,omitempty"` // command that makes use of it
	Result   *job.Result   `json:"result,omitempty"`
}

// Network is a port group, and the VMs on it.
type Network struct {
	Name string   `json:"name"`
	VMs  []string `json:"vms"`
}

// NewRun makes a report of what became of jobs.
func NewRun(version string, started, ended time.Time, jobs []runs.Status) Run {
	r := Run{
		Version: version, Started: started, Ended: ended, Duration: ended.Sub(started).Round(time.Second),
		Total: len(jobs), VMs: []VM{}, Unmapped: []Network{}, Next: []string{},
	}
	var last []VM
	for _, s := range jobs {
		vm := vmOf(s)
		r.Received += s.Progress.Received()
		switch vm.Outcome {
		case Done:
			r.Done++
			if vm.Earlier {
				r.Earlier++
			}
			r.Bytes += vm.Bytes
			r.VMs = append(r.VMs, vm)
			r.unmapped(vm)
			if vm.Next != "" {
				r.Next = append(r.Next, vm.Next)
			}
			continue
		case Failed:
			r.Failed++
		case Cancelled:
			r.Cancelled++
		default:
			r.NotBegun++
		}
		last = append(last, vm)
	}
	// What was stopped comes before what failed, which is to be read last.
	slices.SortStableFunc(last, func(a, b VM) int { return rank(a) - rank(b) })
	r.VMs = append(r.VMs, last...)
	return r
}

func rank(vm VM) int { return slices.Index([]string{NotBegun, Cancelled, Failed}, vm.Outcome) }

// vmOf is what became of one job.
func vmOf(s runs.Status) VM {
	vm := VM{Name: s.Name, Path: s.Def.VMPath, Output: s.Def.OutputPath, Outcome: NotBegun}
	if !s.Started.IsZero() && !s.Ended.IsZero() {
		vm.Duration = s.Ended.Sub(s.Started).Round(time.Second)
	}
	switch s.State {
	case runs.Done:
		result := s.Result
		vm.Outcome, vm.Earlier, vm.Bytes, vm.Notes, vm.Result = Done, result.Earlier, result.TotalSize, result.Notes, &result
		vm.Verified = outcome.Verification(result.Disks)
		vm.Next = strings.TrimPrefix(outcome.NextStep(result), "Next: ")
	case runs.Failed:
		vm.Outcome, vm.Error, vm.Hint = Failed, s.Err.Error(), migrate.Hint(s.Err)
	case runs.Cancelled, runs.Stopping:
		vm.Outcome = Cancelled
		if s.Started.IsZero() {
			vm.Outcome = NotBegun
		}
	}
	return vm
}

// unmapped takes in the port groups of vm that no network was named for.
func (r *Run) unmapped(vm VM) {
	for _, name := range vm.Result.Unmapped {
		i := slices.IndexFunc(r.Unmapped, func(n Network) bool { return n.Name == name })
		if i < 0 {
			i, r.Unmapped = len(r.Unmapped), append(r.Unmapped, Network{Name: name})
		}
		r.Unmapped[i].VMs = append(r.Unmapped[i].VMs, vm.Name)
	}
}

// Stopped reports whether the run was ended before its time.
func (r Run) Stopped() bool { return r.Cancelled+r.NotBegun > 0 }

// Err is nil when every VM is done. It unwraps to the errors of the VMs that failed,
// and to context.Canceled when the run was stopped.
func (r Run) Err(jobs []runs.Status) error {
	if r.Done == r.Total {
		return nil
	}
	e := &RunError{Run: r}
	for _, s := range jobs {
		if s.State == runs.Failed {
			e.errs = append(e.errs, s.Err)
		}
	}
	if r.Stopped() {
		e.errs = append(e.errs, context.Canceled)
	}
	return e
}

// RunError says that not every VM of a run is done.
type RunError struct {
	Run  Run
	errs []error
}

// Error counts.
func (e *RunError) Error() string { return e.Run.counts() }

// Unwrap gives the errors of the VMs.
func (e *RunError) Unwrap() []error { return e.errs }

// Partial reports whether some VMs failed and some are done.
func (e *RunError) Partial() bool {
	return !errors.Is(e, context.Canceled) && e.Run.Failed > 0 && e.Run.Done > 0
}
