package migrate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/hyper2kvm/hyper2kvm/job"
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
func FindWork(dir string) (found []string, skipped []error, err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, nil, err
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil && path == dir:
			return err
		case err != nil:
			skipped = append(skipped, err)
			return fs.SkipDir
		case d.IsDir() && strings.HasPrefix(d.Name(), workPrefix):
			found = append(found, path)
			return fs.SkipDir
		}
		return nil
	})
	return found, skipped, err
}

// Settle puts back what the ledger in a work directory says is owed. ok is false
// when it is not of the VM that is asked for.
func (c *Cleaner) Settle(ctx context.Context, dir string, o CleanOptions) (out Cleaned, ok bool) {
	var l ledger
	err := readJSON(filepath.Join(dir, ledgerName), &l)
	out = Cleaned{Dir: dir, VM: l.VMPath, VCenter: l.VM.VCenter, JobID: l.JobID, Snapshot: l.Snapshot}
	if o.VM != "" && !l.of(o.VM) {
		return out, false
	}
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		out.State, out.Error = CleanFailed, fmt.Sprintf("the ledger cannot be read, so that nobody knows what is owed: %v; look for snapshots %s* and CD/DVD drives of the VM, and remove the directory", err, vsphere.SnapshotPrefix)
	case l.Version != 0 && l.Version != ledgerVersion:
		out.State, out.Error = CleanFailed, fmt.Sprintf("the ledger is of version %d; this program knows version %d", l.Version, ledgerVersion)
	case o.DryRun:
		c.look(&out, &l)
	default:
		c.settle(ctx, &out, o)
	}
	return out, true
}

// of reports whether the ledger is of the VM that is called so.
func (l *ledger) of(vm string) bool {
	return vm == l.VMPath || vm == l.JobVM || strings.EqualFold(vm, l.VM.InstanceUUID) || vm == l.VMRef ||
		vm == path.Base(l.VMPath)
}

// look says what settle would find.
func (c *Cleaner) look(out *Cleaned, l *ledger) {
	w := workdir{dir: out.Dir, ledger: *l}
	out.Complete, out.Partial = w.kept()
	if out.Owed = w.debts(); len(out.Owed) > 0 {
		out.State = CleanOwed
	} else {
		out.State = CleanNothing
	}
	if lock := flock.New(w.path(lockName)); exists(lock.Path()) {
		if locked, err := lock.TryLock(); err == nil && !locked {
			out.State, out.Owed = CleanRunning, nil
		}
		_ = lock.Close()
	}
}

// settle works in one directory.
func (c *Cleaner) settle(ctx context.Context, out *Cleaned, o CleanOptions) {
	fail := func(err error) {
		out.State, out.Error = CleanFailed, err.Error()
	}
	r := c.m.newRun(job.Definition{VMPath: out.VM, OutputPath: filepath.Dir(out.Dir)}, c.t)
	work, err := openWorkdir(r.def.OutputPath, strings.TrimPrefix(filepath.Base(out.Dir), workPrefix))
	if errors.Is(err, ErrLocked) {
		out.State = CleanRunning
		return
	}
	if err != nil {
		fail(err)
		return
	}
	r.work, c.run = work, r
	before := work.debts()
	out.State = CleanNothing
	if in := work.ledger.Install; in != nil {
		if err := work.finishInstall(in.Replace); err != nil {
			fail(fmt.Errorf("every file is verified, and cannot get its name: %w", err))
			out.Owed = before
			_ = work.close(true)
			return
		}
		out.State = CleanFinished
		err = work.strike(func(l *ledger) { l.CDROM = nil }) // they stay out, because the export succeeded
		before = work.debts()
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
		err = errors.Join(err, work.retire())
	} else {
		out.Complete, out.Partial = work.kept()
		if o.Parts {
			out.Complete, out.Partial = 0, 0
		}
		err = errors.Join(err, work.close(!o.Parts))
	}
	out.tally(before, work.debts(), err)
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
	here, there := c.client.About().Host, r.work.ledger.VM.VCenter
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
		return permanent{err}
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
