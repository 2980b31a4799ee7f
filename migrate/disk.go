package migrate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/internal/panics"
	"github.com/hyper2kvm/hyper2kvm/internal/volume"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate/workdir"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/transfer"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// diskState is how far a disk is.
//
//	missing ──arrive──► arrived ──enter──► verified
//	   │ ▲                 │                  ▲
//	   │ └───beginAgain────┘                  │
//	   └──────────────────enter───────────────┘
//
// What is in the ledger follows each step before the state does.
type diskState int

const (
	missing  diskState = iota // not whole; the ledger may have a checkpoint
	arrived                   // whole by its own structure, and durable
	verified                  // and found to be what was sent
)

// diskRun is one disk on its way. See [route] for how it comes.
type diskRun struct {
	r    *run
	disk vsphere.Disk
	name string // final file name
	data Space  // that vSphere tells of
	file *progress.File

	state    diskState
	arrival              // when it is here
	lease    *leaseRoute // the route that always is there
	route    route       // the one that is taken
	others   []route     // that may be taken where it cannot be, the next first
	detour   string      // why it is not the first one that the job asks for
	differed bool        // it was fetched again because it was not what was sent
}

// planDisks makes a diskRun for each disk of the VM; those that the ledger
// knows to be finished need nothing more.
func (r *run) planDisks() {
	r.t.ResetFiles()
	r.disks = nil
	expected := dataOf(r.vm)
	for i, vd := range r.vm.Disks {
		d := &diskRun{r: r, disk: vd, name: r.diskName(i), data: expected[i], file: r.t.AddFile(r.diskName(i), vd.Capacity)}
		d.expect()
		d.lease = &leaseRoute{d: d}
		d.route = d.lease
		d.takeRoutes()
		r.disks = append(r.disks, d)
		if e, ok := r.work.Disk(d.key()); ok && e.Whole() {
			d.takeUp(e)
		}
	}
}

// expect says how much of the disk is data, as far as is known before it comes.
func (d *diskRun) expect() { d.file.Expect(d.data.AtLeast, d.data.AtMost) }

// takeUp makes d the disk that an earlier run fetched as a whole, if it is that
// disk and was verified in a way that this job accepts.
func (d *diskRun) takeUp(e workdir.Disk) {
	verify, by := d.r.def.Options.Verify, e.Result.Verified
	tooWeak := e.Done && (!by.Known() || verify == job.VerifyManifest && by != job.ByManifest || verify == job.VerifyFull && by == job.BySize)
	if tooWeak || e.Capacity != d.disk.Capacity || e.Part != d.part() || !d.r.work.Has(e.Part) {
		return
	}
	d.arrival = arrival{result: e.Result, sha256: e.SHA256, inflated: e.Inflated}
	if d.sha256 == "" && strings.HasPrefix(e.Result.Digest, algSHA256+":") { // from an earlier version
		d.sha256 = e.Result.Digest
	}
	d.result.Resumed, d.result.Transferred = true, 0
	d.file.SetPosition(d.disk.Capacity)
	d.state, d.route, d.others = arrived, d.lease, nil // only a lease's manifest lets a disk wait
	if e.Done {
		d.state = verified
		d.file.SetState(progress.Complete)
	}
}

// diskName is the final file name of disk number i, in an OVA if that is asked for.
func (r *run) diskName(i int) string {
	ext := map[job.Format]string{job.FormatOVF: "vmdk", job.FormatOVA: "vmdk", job.FormatRaw: "raw", job.FormatQcow2: "qcow2"}
	return fmt.Sprintf("%s-disk-%d.%s", r.work.Base(), i, ext[r.def.Options.Format])
}

func (d *diskRun) key() string  { return strconv.Itoa(int(d.disk.Key)) }
func (d *diskRun) part() string { return d.name + ".part" }

// takeRoutes sets the routes that the job allows.
func (d *diskRun) takeRoutes() {
	switch d.r.def.Options.Transport {
	case job.TransportDatastore:
		d.route = &flatRoute{d: d}
	case job.TransportNFC902:
		d.route = &nfcRoute{d: d}
	case job.TransportVDDK:
		d.route = &vddkRoute{d: d}
	case job.TransportAuto:
		d.route, d.others = &flatRoute{d: d}, []route{&nfcRoute{d: d}, d.lease}
		if d.r.m.VDDK != nil {
			d.others = []route{&nfcRoute{d: d}, &vddkRoute{d: d}, d.lease}
		}
	}
}

// identityOf names the error that a job ends with which wants one transport and no
// other.
func identityOf(t job.Transport) error {
	switch t {
	case job.TransportDatastore:
		return ErrDatastore
	case job.TransportNFC902:
		return ErrNFC902
	case job.TransportVDDK:
		return ErrVDDK
	}
	return ErrNotOffered
}

// move brings the disk here under the lease that is open, by the first route that can
// be taken.
func (d *diskRun) move(ctx context.Context, o pace) error {
	return panics.Catch(func() error { return d.bring(ctx, o) })
}

// bring is move, and may panic: it runs code for what comes from outside.
func (d *diskRun) bring(ctx context.Context, o pace) error {
	for {
		err := d.route.able()
		if err == nil {
			err = d.fetch(ctx, o)
		}
		var refused *refusedError
		if ctx.Err() != nil || !errors.As(err, &refused) {
			return err
		}
		if len(d.others) == 0 {
			d.file.SetState(progress.Failed)
			return fault.Permanent(fault.WithHint(fmt.Errorf("%s (%s) %w: %w", d.disk.Label, d.name, identityOf(d.r.def.Options.Transport), err),
				cmp.Or(fault.Hint(err), "use transport nfc, or auto, which takes the lease where nothing else serves")))
		}
		if d.detour != "" {
			d.detour += "; "
		}
		d.detour += "not " + d.route.way() + ": " + refused.Error()
		d.route, d.others = d.others[0], d.others[1:]
		d.file.Event(progress.Warning, "reading "+d.route.way()+"; "+d.detour)
		d.file.SetPosition(0)
	}
}

// fetch brings the disk here by its route, and verifies it as far as that can be
// done now. Attempts that broke off, and disks that are not what was sent, begin
// again here, and only here, out of one budget. The disk's place under the limits
// is given back before anything but bytes is waited for.
func (d *diskRun) fetch(ctx context.Context, o pace) error {
	o.StallTimeout, o.Limiter, o.File = d.r.m.StallTimeout, d.r.limiter, d.file
	o.Budget = transfer.NewBudget(d.r.m.Budget)
	t := turn{d: d}
	defer t.end()
	err := keepTrying(ctx, func() error {
		if err := t.begin(ctx); err != nil {
			return err
		}
		if err := d.attempt(ctx, o); err != nil || d.state == verified {
			return err
		}
		t.end()
		return d.route.verify(ctx)
	}, func(err error) error { return d.mend(ctx, o.Budget, d.route.judge(err)) })
	if err == nil || ctx.Err() != nil || errors.As(err, new(*refusedError)) {
		return err
	}
	d.file.SetState(progress.Failed)
	return fmt.Errorf("%s (%s): %w", d.disk.Label, d.name, err)
}

// keepTrying calls try until it succeeds, ctx ends, or mend, which is called with
// each failure, returns an error: that is its own then.
func keepTrying(ctx context.Context, try func() error, mend func(error) error) error {
	for {
		err := try()
		if err == nil || ctx.Err() != nil {
			return err
		}
		if err := mend(err); err != nil {
			return err
		}
	}
}

// turn is a disk's place under the limits of its host and of vCenter.
type turn struct {
	d       *diskRun
	release func() // nil while it has none
}

// begin waits for the place, unless it is there already.
func (t *turn) begin(ctx context.Context) (err error) {
	if t.release != nil {
		return nil
	}
	host := t.d.lease.item.Host
	waiting := t.d.r.slow(t.d.name, "waiting for its turn: as many disks as the limits allow come through %s or vCenter", host)
	defer waiting.end()
	t.release, err = t.d.r.limits.Acquire(ctx, t.d.r.work.VM().VCenter, host)
	t.d.file.SetHost(host)
	return err
}

// end gives the place back, if there is one.
func (t *turn) end() {
	if t.release != nil {
		t.release()
		t.release = nil
	}
}

// mend returns nil when the disk should be tried again after a failure, and
// forgets what cannot be resumed from.
func (d *diskRun) mend(ctx context.Context, budget *transfer.Budget, err error) error {
	switch {
	case errors.Is(err, errRefetch):
		return d.beginAgain(err)
	case errors.Is(err, transfer.ErrRestart):
		if errors.Is(err, transfer.ErrChanged) || errors.Is(err, transfer.ErrNoRange) {
			if err := d.forget(); err != nil {
				return err
			}
		}
		d.file.Event(progress.Warning, fmt.Sprintf("%v; beginning again", err))
		d.file.SetPosition(0)
		return nil
	case errors.Is(err, disk.ErrTruncated), errors.Is(err, disk.ErrCorrupt), errors.Is(err, disk.ErrNotResumable):
		d.file.SetState(progress.Retrying)
		d.file.AddRetryFor("damaged")
		d.file.Event(progress.Warning, fmt.Sprintf("%v; beginning again", err))
		d.file.SetPosition(0)
		if err := d.forget(); err != nil {
			return err
		}
		return budget.Retry(ctx, err)
	}
	return err
}

// attempt reads the disk once, from its checkpoint if there is a usable one. After
// a success the disk has arrived or is verified.
func (d *diskRun) attempt(ctx context.Context, o pace) (err error) {
	d.file.SetState(progress.Active)
	from, err := d.route.open(ctx, o)
	if err != nil {
		return err
	}
	defer from.close()
	at := from.resumes()
	out, err := d.openSink(at)
	if err != nil {
		return err
	}
	var got arrival
	err = panics.Catch(func() (err error) {
		if got, err = from.read(ctx, out); err != nil {
			return err
		}
		return out.commit()
	})
	if err != nil {
		return errors.Join(err, d.giveUp(out))
	}
	if info, err := d.r.work.Stat(d.part()); err == nil {
		d.file.AddWritten(volume.Allocated(info))
	}
	d.arrival = got
	d.result.File, d.result.Capacity, d.result.Resumed = d.r.finalPath(d.name), d.disk.Capacity, at != nil
	if got.result.Verified != "" {
		return d.enter()
	}
	return d.arrive()
}

// openSink opens the disk's part file, to go on at from or to begin again. In
// the second case it is emptied, so that nothing may vouch for it from here on:
// a raw file does not tell that it has lost what a checkpoint speaks of.
func (d *diskRun) openSink(from *disk.Position) (sink, error) {
	if _, known := d.r.work.Disk(d.key()); known && from == nil {
		if err := d.forget(); err != nil {
			return nil, err
		}
	}
	out, err := d.r.openSink(d.r.work.At(d.part()), d.disk.Capacity, from)
	if from != nil && errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: %w", disk.ErrNotResumable, err)
	}
	return out, err
}

// giveUp leaves the part file for the next attempt when the ledger knows a
// checkpoint of it, and removes it otherwise.
func (d *diskRun) giveUp(out sink) error {
	if d.hasCheckpoint() {
		return out.abandon()
	}
	return out.discard()
}

// arrive writes down that the disk is here as a whole. From now on only its
// manifest is missing: neither an outage nor the death of this process costs the
// bytes.
func (d *diskRun) arrive() error {
	return d.reach(arrived, workdir.Disk{Arrived: true, Inflated: d.inflated})
}

// enter enters the disk, which is verified, into the ledger as finished.
func (d *diskRun) enter() error {
	counted := d.file.Snapshot()
	d.result.Transferred, d.result.Retries = counted.Received, counted.Retries
	if err := d.reach(verified, workdir.Disk{Done: true}); err != nil {
		return err
	}
	d.file.SetState(progress.Complete)
	return nil
}

// reach writes e, with what is known of the disk, into the ledger and makes state
// its state.
func (d *diskRun) reach(state diskState, e workdir.Disk) error {
	e.Part, e.Capacity, e.LeaseKey, e.SHA256, e.Result = d.part(), d.disk.Capacity, d.leaseKey(), d.sha256, d.result
	if err := d.r.work.SetDisk(d.key(), e); err != nil {
		return err
	}
	d.state = state
	d.file.SetPosition(d.disk.Capacity)
	return nil
}

// beginAgain forgets the disk, which cannot be used as it came because of err.
func (d *diskRun) beginAgain(err error) error {
	d.file.Event(progress.Warning, err.Error())
	d.state = missing
	d.file.SetPosition(0)
	return d.forget()
}

// orBeginAgain begins the disk again when err says that it has to be fetched again.
// Otherwise it returns err.
func (d *diskRun) orBeginAgain(err error) (again bool, _ error) {
	if !errors.Is(err, errRefetch) {
		return false, err
	}
	return true, d.beginAgain(err)
}

// refetch says that the disk has to be fetched again because what came is not what
// was sent; the second time it is an error. source is what it came from.
func (d *diskRun) refetch(mismatch, source string) error {
	if d.r != nil { // a disk that is judged alone is of no run
		d.r.t.Count(progress.Mismatches)
	}
	if d.differed {
		return fault.WithHint(fmt.Errorf("%w twice: %s", ErrVerify, mismatch),
			"something between "+source+" and this machine changes bytes: check memory, network cards and proxies")
	}
	d.differed = true
	return fmt.Errorf("%w: %s", errRefetch, mismatch)
}
