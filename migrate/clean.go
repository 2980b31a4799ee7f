package migrate

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate/workdir"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// Cleaner settles what exports have left, of whatever job: what their ledgers say
// is owed at vSphere, and temporary snapshots that no ledger knows of. It logs in
// once, and only when it has to. Close it to log out. Its methods are called one
// at a time.
type Cleaner struct {
	m      *Migrator
	t      *progress.Tracker
	client *vsphere.Client
	run    *run // whose work directory is settled
}

// NewCleaner returns a Cleaner that shows in t what it waits for. m's Endpoint is
// asked with the zero job.
func (m *Migrator) NewCleaner(t *progress.Tracker) *Cleaner { return &Cleaner{m: m, t: t} }

// Close logs out, if need be.
func (c *Cleaner) Close(ctx context.Context) error {
	if c.client == nil {
		return nil
	}
	return c.client.Close(ctx)
}

// CleanOptions says what to settle.
type CleanOptions struct {
	VM     string // the VM's path, name or UUID; "" is every VM
	Parts  bool   // part files go, too
	DryRun bool   // nothing is done
}

// CleanState says what became of a work directory.
type CleanState string

// States of a work directory.
const (
	CleanRunning  CleanState = "running"  // another process works in it: it was left alone
	CleanOwed     CleanState = "owed"     // something at vSphere is still to be put back
	CleanSettled  CleanState = "settled"  // nothing is owed any more
	CleanNothing  CleanState = "clean"    // nothing was owed
	CleanFinished CleanState = "finished" // every file was verified, and has its name now
	CleanFailed   CleanState = "failed"   // see Error
)

// Cleaned is what was found and done in one work directory.
type Cleaned struct {
	Dir      string     `json:"dir"`
	VM       string     `json:"vm,omitempty"` // inventory path when it was last seen
	VCenter  string     `json:"vcenter,omitempty"`
	JobID    string     `json:"job_id,omitempty"`
	State    CleanState `json:"state"`
	Settled  []Debt     `json:"settled,omitempty"` // put back now
	Owed     []Debt     `json:"owed,omitempty"`    // not put back, with the reason
	Complete int        `json:"complete_disks"`    // kept for a later run
	Partial  int        `json:"partial_disks"`     // kept for a later run, up to a checkpoint
	Snapshot string     `json:"-"`                 // the temporary snapshot that the ledger looks after
	Error    string     `json:"error,omitempty"`
}

// Remains reports whether a person has to look at it again.
func (c Cleaned) Remains() bool { return c.State == CleanOwed || c.State == CleanFailed }

// FindWork lists the work directories at and below dir. skipped are directories
// that cannot be read.
func FindWork(dir string) (found []string, skipped []error, err error) { return workdir.Find(dir) }

// Settle puts back what the ledger in a work directory says is owed. ok is false
// when it is not of the VM that is asked for.
func (c *Cleaner) Settle(ctx context.Context, dir string, o CleanOptions) (out Cleaned, ok bool) {
	output, base, _ := workdir.Split(dir)
	w, err := workdir.Peek(c.m.Outputs, output, base)
	defer w.Release()
	owed := w.Owed()
	out = Cleaned{Dir: dir, VM: owed.VMPath, VCenter: w.VM().VCenter, JobID: w.JobID(), Snapshot: owed.Snapshot}
	if o.VM != "" && !w.IsOf(o.VM) {
		return out, false
	}
	switch {
	case errors.As(err, new(*workdir.VersionError)):
		out.State, out.Error = CleanFailed, err.Error()
	case err != nil:
		out.State, out.Error = CleanFailed, fmt.Sprintf("the ledger cannot be read, so that nobody knows what is owed: %v; look for snapshots %s* and CD/DVD drives of the VM, and remove the directory", err, vsphere.SnapshotPrefix)
	case o.DryRun:
		c.look(&out, w)
	default:
		c.settle(ctx, &out, o)
	}
	return out, true
}

// look says what settle would find.
func (c *Cleaner) look(out *Cleaned, w *workdir.Dir) {
	out.Complete, out.Partial = w.Kept()
	out.Owed = w.Debts()
	if s, begun := w.Step(); begun {
		out.Owed = append(out.Owed, Debt{Kind: workdir.DebtStep, What: "what the step " + s.Name + " has begun"})
	}
	if len(out.Owed) > 0 {
		out.State = CleanOwed
	} else {
		out.State = CleanNothing
	}
	if w.InUse() {
		out.State, out.Owed = CleanRunning, nil
	}
}

// settle works in one directory.
func (c *Cleaner) settle(ctx context.Context, out *Cleaned, o CleanOptions) {
	fail := func(err error) {
		out.State, out.Error = CleanFailed, err.Error()
	}
	r := c.m.newRun(job.Definition{VMPath: out.VM, OutputPath: filepath.Dir(out.Dir)}, c.t)
	_, base, _ := workdir.Split(out.Dir)
	work, err := workdir.Open(c.m.Outputs, r.def.OutputPath, base)
	if errors.Is(err, ErrLocked) {
		out.State = CleanRunning
		return
	}
	if err != nil {
		fail(err)
		return
	}
	r.work, c.run = work, r
	out.State = CleanNothing
	if _, begun := work.Step(); begun {
		out.State = CleanSettled
		if err := r.settleStep(ctx); err != nil {
			fail(err)
			_ = work.Close(true)
			return
		}
	}
	before := work.Debts()
	if in, installing := work.Installing(); installing {
		if err := work.FinishInstall(in.Replace); err != nil {
			fail(fmt.Errorf("every file is verified, and cannot get its name: %w", err))
			out.Owed = before
			_ = work.Close(true)
			return
		}
		out.State = CleanFinished
		err = errors.Join(work.StrikeDrives(), work.StrikePower()) // they stay out, and it off, because the export succeeded
		before = work.Debts()
	}
	if len(before) > 0 && err == nil {
		if out.State == CleanNothing {
			out.State = CleanSettled
		}
		if err = c.connect(ctx, r); err == nil {
			err = r.putBack(ctx, cancelTimeout)
		}
	}
	if out.State == CleanFinished {
		err = errors.Join(err, work.Retire())
	} else {
		out.Complete, out.Partial = work.Kept()
		if o.Parts {
			out.Complete, out.Partial = 0, 0
		}
		err = errors.Join(err, work.Close(!o.Parts))
	}
	out.tally(before, work.Debts(), err)
}

// tally says which debts are settled, and why the others are not.
func (out *Cleaned) tally(before, after []Debt, err error) {
	var owed *OwedError
	if errors.As(err, &owed) {
		after = owed.Debts
	} else if err != nil {
		out.State, out.Error = CleanFailed, err.Error()
	}
	for _, d := range before {
		left := false
		for _, a := range after {
			left = left || a.Kind == d.Kind
		}
		if !left {
			d.Why = ""
			out.Settled = append(out.Settled, d)
		}
	}
	if out.Owed = after; len(after) > 0 && err == nil || owed != nil {
		out.State = CleanOwed
	}
}

// connect finds the VM of r at the vCenter that its ledger names.
func (c *Cleaner) connect(ctx context.Context, r *run) error {
	if err := c.dial(ctx); err != nil {
		return err
	}
	r.client = c.client
	here, there := c.client.About().Host, r.work.VM().VCenter
	err := r.findOwed(ctx)
	if errors.Is(err, vsphere.ErrNotFound) && there != "" && there != here {
		return fmt.Errorf("the VM is at %s, and not found at %s: set GOVC_URL to that vCenter", there, here)
	}
	return err
}

// dial logs in once. Tasks are entered into the ledger that is at work.
func (c *Cleaner) dial(ctx context.Context) error {
	if c.client != nil {
		return nil
	}
	cfg, err := c.m.Endpoint(job.Definition{})
	if err != nil {
		return fault.Permanent(err)
	}
	r := c.run
	if r == nil {
		r = c.m.newRun(job.Definition{}, c.t)
	}
	cfg.OnTask = func(t vsphere.Task) {
		if c.run != nil {
			c.run.named(t)
		}
	}
	c.client, err = r.dial(ctx, cfg)
	return err
}

// Stray is a temporary snapshot that no ledger knows of.
type Stray struct {
	VM      vsphere.VM          `json:"-"`
	Path    string              `json:"vm"`
	Snap    vsphere.SnapshotRef `json:"snapshot"`
	Removed bool                `json:"removed"`
	Why     string              `json:"why,omitempty"` // it was not removed
}

// Strays lists the temporary snapshots of a VM, or of every VM for "", whose
// names are not known.
func (c *Cleaner) Strays(ctx context.Context, vm string, known map[string]bool) ([]Stray, error) {
	if err := c.dial(ctx); err != nil {
		return nil, err
	}
	var vms []vsphere.VM
	var err error
	if vm == "" {
		vms, err = c.client.List(ctx)
	} else {
		vms = make([]vsphere.VM, 1)
		vms[0], err = c.client.Find(ctx, vm)
	}
	if err != nil {
		return nil, err
	}
	found, err := c.client.TemporarySnapshots(ctx, vms)
	if err != nil {
		return nil, err
	}
	var out []Stray
	for _, vm := range vms {
		for _, s := range found[vm.Ref] {
			if !known[s.Name] {
				out = append(out, Stray{VM: vm, Path: vm.Path, Snap: s})
			}
		}
	}
	return out, nil
}

// RemoveStray removes a snapshot that Strays has listed, if it is older than that.
func (c *Cleaner) RemoveStray(ctx context.Context, s *Stray, older time.Duration) {
	c.run = nil
	if age := time.Since(s.Snap.Created); age < older {
		s.Why = fmt.Sprintf("it is only %s old, and an export on another machine may use it (-older-than)", age.Round(time.Second))
		return
	}
	ctx, cancel := context.WithTimeout(ctx, undoTimeout)
	defer cancel()
	if err := c.client.RemoveSnapshot(ctx, s.Snap); err != nil {
		s.Why = err.Error()
		return
	}
	s.Removed = true
}
