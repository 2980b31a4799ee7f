// Package migrate takes one VM from vSphere to files that KVM can use.
//
// A run passes through the phases of package progress. It finds the VM, lists
// every obstacle before a byte moves, prepares the VM (CD/DVD drives out, a
// temporary snapshot when it runs), opens an NFC lease and keeps it alive, and
// fetches the disks side by side. Each disk comes by a route (see route.go), as a
// rule as one stream: read ahead, hashed as sent, checked or decoded, and written,
// all at the same time and without a temporary copy. What arrived is compared with the lease's manifest, and only
// when every file of the VM is verified do the files get their final names. What is
// to be done with them then is a step (see step.go).
//
// Files grow in a hidden work directory beside their final place, together
// with a ledger of what is finished. A run that ends early undoes what it did
// at vSphere and leaves in the work directory only what the next run can use:
// verified disks, and disks from a server that honours ranges, up to their
// last checkpoint. A disk that comes as one plain stream starts again from its
// beginning (F-NFC-9).
//
// All disks are of one state of the VM: one that is changed between two leases, or
// two runs, is fetched again from the beginning.
//
// Not promised: that a VM which is powered on and off again between two leases,
// without a change to its configuration, is noticed. The change version, the power
// state, and what vSphere reports of each disk are what decides whether a finished
// disk is still good.
package migrate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/hyper2kvm/hyper2kvm/guestnet"
	"github.com/hyper2kvm/hyper2kvm/inspect"
	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/internal/panics"
	"github.com/hyper2kvm/hyper2kvm/internal/safetext"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate/outdir"
	"github.com/hyper2kvm/hyper2kvm/migrate/workdir"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/transfer"
	"github.com/hyper2kvm/hyper2kvm/units"
	"github.com/hyper2kvm/hyper2kvm/v2v"
	"github.com/hyper2kvm/hyper2kvm/vddk"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// Migrator runs exports. One Migrator serves any number of runs at a time.
type Migrator struct {
	// Endpoint says which vCenter a job is for, and with which credentials.
	Endpoint func(job.Definition) (vsphere.Config, error)

	Limits       *Limits           // shared by all runs; nil means limits of this run alone
	Limiter      *transfer.Limiter // bandwidth of all runs; nil is unlimited
	Reservations *Reservations     // of space, shared by all runs; nil is none
	JobLimits    *JobLimits        // changes a job's bandwidth while it runs; may be nil
	Outputs      outdir.Roots      // where output directories may be; the zero value is anywhere
	Log          *slog.Logger      // nil discards
	StallTimeout time.Duration     // without a byte; 0 is package transfer's default
	Budget       transfer.BudgetOptions
	LeasePause   time.Duration // before the second lease, growing from there; 0 is a second

	// VDDK reads disks of jobs with transport vddk, and of those with auto where
	// neither datastore nor port 902 serves; nil is nobody.
	VDDK *vddk.Tool

	// V2V converts guests of jobs that ask for it; nil is what this machine has.
	V2V *v2v.Tool
	// Fish reaches into guests for keep_ip; nil is the guestfish of this
	// machine, and finds out anew with each job whether KVM works.
	Fish *guestnet.Fish

	// Look looks into disks for CheckInside; nil is what this machine has.
	Look *inspect.Tool

	// AcceptFinished lets an export that is there and whole count as this run's, if
	// it is of the same VM and the same options, whatever job made it. Without it
	// that is so for a job's own export only, and anything else is [ErrExists].
	AcceptFinished bool

	// ManifestPatience is how long a run waits for a manifest that can be read to
	// list a disk; 0 is 30 seconds.
	ManifestPatience time.Duration

	// Arrival is how long a change that vSphere was asked for without an answer
	// may still come to be; 0 is a minute.
	Arrival time.Duration

	steps func(*run) []step // nil is those of the package; for tests
	parts func(*run) []part // the same, of insideStep

	// Reach checks that an ESXi host can be spoken to; nil means package
	// vsphere's own check.
	Reach func(ctx context.Context, host string, port int) error
}

// Run exports the VM that def asks for into its output directory and counts
// into t, or goes back from such an export (see [job.Rollback]). It returns when nothing of the run is left behind, at vSphere or as a
// goroutine, also when ctx ends. The cause of ctx may be one of package
// job: see [job.Cancelled] for what happens to part files.
//
// Errors that only a person can mend satisfy [Permanent]; [Hint] gives the
// advice that comes with an error.
func (m *Migrator) Run(ctx context.Context, def job.Definition, t *progress.Tracker) (job.Result, error) {
	r := m.newRun(def, t)
	defer m.JobLimits.hold(def.ID, r.limiter)()
	var result job.Result
	err := panics.Catch(func() (err error) {
		if def.Options.Back {
			result, err = r.runRollback(ctx)
		} else {
			result, err = r.do(ctx)
		}
		return err
	})
	panics.Log(r.log, err)
	if ctx.Err() != nil && !result.Success {
		// The end of ctx is the reason, whatever broke because of it. What could
		// not be put back is another error: such a run did not just end.
		if r.undone != nil {
			return job.Result{}, fmt.Errorf("%v, and not everything could be put back: %w", context.Cause(ctx), r.undone) //nolint:errorlint // it is not one that just ended
		}
		return job.Result{}, fmt.Errorf("%w: %w", ctx.Err(), context.Cause(ctx))
	}
	if err != nil {
		return job.Result{}, errors.Join(err, r.undone)
	}
	t.SetPhase(progress.Done)
	return result, nil
}

// newRun returns a run with every default in place.
func (m *Migrator) newRun(def job.Definition, t *progress.Tracker) *run {
	r := &run{m: m, def: def.WithDefaults(), t: t, log: m.Log, limits: m.Limits, started: time.Now()}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	r.log = r.log.With("vm", def.VMPath)
	if def.ID != "" {
		r.log = r.log.With("job", def.ID)
	}
	if r.limits == nil {
		r.limits = &Limits{}
	}
	rate, _ := units.ParseRate(def.Options.Limit) // validated when the job was taken
	r.limiter = transfer.NewLimiter(rate, m.Limiter)
	return r
}

// run is one VM's export. Its fields are set in the order of the phases.
type run struct {
	m       *Migrator
	def     job.Definition
	t       *progress.Tracker
	log     *slog.Logger
	limits  *Limits
	limiter *transfer.Limiter // the job's bandwidth, within that of all runs
	started time.Time

	client *vsphere.Client
	vm     vsphere.VM
	here   *Here  // in place of client: see InsideHere
	domain string // what the VM is called at libvirt
	work   *workdir.Dir
	target vsphere.Target
	disks  []*diskRun
	extras []extra
	tool   toolCheck
	states int // how often the VM was another one than before

	unlocked bool // a lease ended before it was completed or aborted: see settle
	notes    []string
	again    bool             // the job was finished earlier, and its files are gone
	doubt    vsphere.Obstacle // about the host, worth telling if the transfer fails

	prepared bool // the VM may have been changed
	done     bool // every file has its name
	complete bool // so it has, and every step that follows is done
	staysOff bool // a VM that was stopped is not powered on for now
	// unsettled is why a step that follows the export has no end: see follow.go.
	unsettled error
	undone    error // what could not be put back
}

// extra is a file of the VM that is no disk: its NVRAM (F-NFC-14).
type extra struct {
	key  string // lease key of the item
	name string // final file name
	size int64
	sum  string // "sha256:<hex>" of the file
}

// maxNote bounds what is told of a run at once, in bytes: much of it comes from
// vSphere.
const maxNote = 4 << 10

// note tells people something that does not stop the run, now and in the
// result.
func (r *run) note(format string, args ...any) {
	text := safetext.Bounded(fmt.Sprintf(format, args...), maxNote)
	r.notes = append(r.notes, text)
	r.t.Event(progress.Warning, "", text)
	r.log.Warn(text)
}

func (r *run) info(file, format string, args ...any) {
	text := safetext.Bounded(fmt.Sprintf(format, args...), maxNote)
	r.t.Event(progress.Info, file, text)
	r.log.Info(text, "file", file)
}

// do runs the phases. What each of them begins is undone from the last to the
// first: the changes at vSphere, the work directory, the space, the session.
func (r *run) do(ctx context.Context) (result job.Result, err error) {
	var end undos
	defer func() { err = errors.Join(err, end.unwind(ctx)) }()

	if err := r.m.Outputs.Check(r.def.OutputPath); err != nil {
		return result, err
	}
	if err := r.connect(ctx, r.findAsked); err != nil {
		return result, err
	}
	end.push(func() { r.hangUp(ctx) })

	release := func() {}
	end.push(func() { release() }) // after the part files have gone, if they go

	if err := r.openWork(); err != nil {
		return result, err
	}
	end.pushOwn(func() { r.leaveWork(ctx, &result) }, func() { _ = r.work.Unlock() })
	end.pushOwn(func() { r.undoChanges(ctx) }, nil)

	receipt, done, err := r.earlier(ctx)
	if err != nil {
		return result, err
	}
	if r.done = done; done {
		return r.followEarlier(ctx, receipt)
	}
	if err := r.putBackEarlier(ctx); err != nil {
		return result, err
	}
	if err := r.check(ctx); err != nil {
		return result, err
	}
	if release, err = r.reserve(ctx); err != nil {
		return result, err
	}
	if err := r.prepare(ctx); err != nil {
		return result, err
	}
	if err := r.export(ctx); err != nil {
		if r.doubt.Text != "" && Hint(err) == "" {
			err = fault.WithHint(err, r.doubt.Text+"; "+r.doubt.Hint)
		}
		return result, err
	}
	if !r.ova() {
		release() // what is still to come is small, and the disks leave the work directory
	}
	if receipt, err = r.describe(ctx); err != nil {
		return result, err
	}
	r.done = true
	return r.follow(ctx, receipt)
}

// openWork opens the VM's work directory. It bears the VM's name, which another
// one in another folder may have too (F-INV-1): what that one has there is its
// own.
func (r *run) openWork() (err error) {
	if r.work, err = workdir.Open(r.m.Outputs, r.def.OutputPath, job.FileBase(r.vm.Name)); err != nil {
		return err
	}
	if id := r.work.VM().InstanceUUID; id != "" && id != r.vm.InstanceUUID {
		return errors.Join(fault.Permanent(fault.WithHint(
			fmt.Errorf("%w: %s holds an unfinished export of another VM with the same file name", ErrExists, r.work.Path()),
			"finish or cancel that one, or give this VM an output directory of its own")), r.work.Unlock())
	}
	return nil
}

// hangUp logs out. A session that cannot be ended ends by itself (F-INV-2).
func (r *run) hangUp(ctx context.Context) {
	if err := detached(ctx, r.client.Close); err != nil {
		r.log.Warn("log out", "error", err)
	}
}

// connect opens the session and finds the VM, with find.
func (r *run) connect(ctx context.Context, find func(context.Context) error) error {
	if err := r.absolute(); err != nil {
		return err
	}
	r.t.SetPhase(progress.Connecting)
	cfg, err := r.m.Endpoint(r.def)
	if err != nil {
		return fault.Permanent(err)
	}
	if r.client, err = r.dial(ctx, cfg); err != nil {
		return err
	}
	r.t.SetPhase(progress.Discovering)
	if err := find(ctx); err != nil {
		return errors.Join(err, detached(ctx, r.client.Close))
	}
	return nil
}

// findAsked finds the VM that the job asks for.
func (r *run) findAsked(ctx context.Context) (err error) {
	var all []vsphere.VM
	r.vm, all, err = r.client.FindAmong(ctx, r.def.VMPath)
	err = r.rename(ctx, err)
	r.domain = domainName(r.vm, all)
	return err
}

// absolute makes the output path, if there is one, an absolute one.
func (r *run) absolute() (err error) {
	if r.def.OutputPath != "" {
		r.def.OutputPath, err = filepath.Abs(r.def.OutputPath)
	}
	return err
}

// dial opens the session. What vSphere is waited for is shown, and the tasks that
// it makes are written down.
func (r *run) dial(ctx context.Context, cfg vsphere.Config) (*vsphere.Client, error) {
	cfg.OnOutage = (&outage{r: r, also: cfg.OnOutage}).tell
	if cfg.OnTask == nil {
		cfg.OnTask = r.named
	}
	cfg.OnRenewal = r.renewed
	cfg.OnWait = func(w vsphere.Wait) (over func()) { return r.slow("", "%s", w).end }
	return vsphere.Dial(ctx, cfg)
}

// detached calls f with a context that outlives ctx, for a bounded time.
func detached(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	return f(ctx)
}

// keepParts reports whether the work directory should survive a run that ends
// now.
func keepParts(ctx context.Context) bool {
	var c job.Cancelled
	if errors.As(context.Cause(ctx), &c) {
		return c.KeepParts
	}
	return true
}
