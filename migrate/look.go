package migrate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/hyper2kvm/hyper2kvm/inspect"
	"github.com/hyper2kvm/hyper2kvm/internal/appliance"
	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate/outdir"
	"github.com/hyper2kvm/hyper2kvm/migrate/workdir"
	"github.com/hyper2kvm/hyper2kvm/transfer"
	"github.com/hyper2kvm/hyper2kvm/units"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// Looking into the disks of a VM that is still at vSphere.
//
// They are read at random where an export could read them so: from their datastores,
// or over port 902 of the host. What package inspect asks for is a small part of them,
// and kept, so that it is not fetched twice. There is no lease: a VM that is powered on
// meanwhile has its disks locked, which ends the look.
//
// A VM that runs is looked into by a temporary snapshot if the job wants one. It is
// written down first, as that of an export is, in a work directory among temporary files.

// Inside is what a look into the disks of a VM has found.
type Inside struct {
	inspect.Guest

	Ways  []string      `json:"read_from"`   // how each disk was read, in the VM's order
	Read  int64         `json:"bytes_read"`  // of the disks
	Disks int64         `json:"bytes_total"` // that they have
	Took  time.Duration `json:"duration"`    // nanoseconds
}

// Bounds of a look, in bytes.
const (
	lookCache = 96 << 20 // of what is kept of all disks
	lookMost  = 4 << 30  // that are fetched of one disk
)

// lookFirst bounds the first answer about a disk.
const lookFirst = time.Minute

// CheckInside is [Migrator.Check], and then looks into the VM's disks without writing to
// them. What it finds is in inside, and what is in the way among obstacles. lookErr says
// why that could not be done, in which case inside is nil and the rest is as of Check.
// tell hears what takes long.
func (m *Migrator) CheckInside(ctx context.Context, def job.Definition, tell func(text string)) (vm vsphere.VM, obstacles []vsphere.Obstacle, inside *Inside, lookErr, err error) {
	vm, obstacles, err = m.checked(ctx, def, func(r *run, found []vsphere.Obstacle) []vsphere.Obstacle {
		inside, lookErr = r.look(ctx, found, tell)
		if lookErr != nil {
			return found
		}
		return append(found, r.insideObstacles(inside)...)
	})
	return vm, obstacles, inside, lookErr, err
}

// insideObstacles are the findings of a look, as the job has to take them.
func (r *run) insideObstacles(in *Inside) (out []vsphere.Obstacle) {
	for _, f := range in.Findings(inspect.Machine{EFI: r.vm.Firmware == vsphere.EFI}) {
		o := vsphere.Obstacle{Code: f.Code, Severity: vsphere.SeverityWarning, Text: f.Text, Hint: f.Hint}
		if f.Conversion && r.def.Options.Convert || f.Addresses && r.def.Options.KeepIP {
			o.Severity = vsphere.SeverityError
		}
		out = append(out, o)
	}
	return out
}

func (r *run) looker() *inspect.Tool {
	if r.m.Look != nil {
		return r.m.Look
	}
	return new(inspect.Tool)
}

// look looks into the VM's disks.
func (r *run) look(ctx context.Context, obstacles []vsphere.Obstacle, tell func(string)) (in *Inside, err error) {
	began := time.Now()
	if err := inTheWay(r.looker().Problems()); err != nil {
		return nil, err
	}
	var end undos
	defer func() {
		err = errors.Join(err, end.unwind(ctx))
		if err != nil && r.undone != nil && ctx.Err() != nil {
			err = errors.New(context.Cause(ctx).Error() + ", and not everything could be put back") // not one that just ended
		}
		if err = errors.Join(err, r.undone); err != nil {
			in = nil
		}
	}()
	r.target = vsphere.Target{VM: r.vm}
	if r.vm.Power != vsphere.PoweredOff {
		if err := r.freeze(ctx, obstacles, tell, &end); err != nil {
			return nil, err
		}
	}
	in = new(Inside)
	var disks []inspect.Disk
	var readers []*transfer.Random
	for _, d := range r.vm.Disks {
		reader, way, release, err := r.openAtRandom(ctx, d)
		if err != nil {
			return nil, fmt.Errorf("%s cannot be looked into: %w", d.Label, err)
		}
		end.push(release)
		readers = append(readers, reader)
		disks = append(disks, inspect.Disk{Size: d.Capacity, Read: func(ctx context.Context, p []byte, off int64) error {
			return unread(d, reader.Read(ctx, p, off))
		}})
		in.Ways, in.Disks = append(in.Ways, way), in.Disks+d.Capacity
	}
	if len(disks) == 0 {
		return nil, errors.New("the VM has no disks to look into")
	}
	tell(fmt.Sprintf("looking into %d disk(s) of %s, by %s", len(disks), units.Bytes(in.Disks), appliance.Guestfish.Name))
	if in.Guest, err = r.looker().Look(ctx, disks, tell); err != nil {
		return nil, err
	}
	for _, reader := range readers {
		in.Read += reader.Fetched()
	}
	in.Took = time.Since(began)
	return in, nil
}

// unread is the error of a disk that cannot be read any more.
func unread(d vsphere.Disk, err error) error {
	if err == nil {
		return nil
	}
	hint := fault.Hint(err)
	switch {
	case hint != "":
	case errors.Is(err, transfer.ErrTooMuch):
		hint = "there is too much to look at on it: leave -inspect out"
	default:
		hint = "see whether the VM was powered on, moved or deleted meanwhile, and whether its host can be reached; then run the same check again"
	}
	return fault.WithHint(fmt.Errorf("%s cannot be read any more: %w", d.Label, err), hint)
}

// inTheWay is the error of problems that keep something from being done.
func inTheWay(problems []appliance.Problem) error {
	var errs []error
	for _, p := range problems {
		if p.Fatal {
			errs = append(errs, fault.Permanent(fault.WithHint(errors.New(p.Text), p.Hint)))
		}
	}
	return errors.Join(errs...)
}

// freeze takes the temporary snapshot by which a VM that runs is looked into, if that is
// wanted. end undoes it.
func (r *run) freeze(ctx context.Context, obstacles []vsphere.Obstacle, tell func(string), end *undos) error {
	o := r.def.Options
	what := "the VM is " + r.vm.Power + ", and its disks are locked"
	switch {
	case !o.Snapshot:
		return fault.Permanent(fault.WithHint(errors.New(what),
			"look into it while it is off, or by a temporary snapshot over port 902 of its host (-snapshot -transport auto)"))
	case !atPort902(o.Transport):
		return fault.Permanent(fault.WithHint(errors.New(what+"; what a snapshot has frozen is served over port 902 of the host alone"),
			"add -transport auto, or nfc902"))
	case slices.ContainsFunc(obstacles, func(o vsphere.Obstacle) bool { return o.Severity == vsphere.SeverityError }):
		return fault.Permanent(errors.New("no snapshot is taken of a VM that cannot be exported as it is"))
	}
	dir, err := os.MkdirTemp("", "hyper2kvm-look-")
	if err != nil {
		return err
	}
	end.push(func() { _ = os.Remove(dir) }) // it stays while something is written down in it
	if r.work, err = workdir.Open(outdir.Roots{}, dir, job.FileBase(r.vm.Name)); err != nil {
		return err
	}
	end.push(func() { r.undone = errors.Join(r.undone, r.work.Close(false)) })
	r.prepared, r.def.Options.Shutdown, r.def.Options.PowerOff = true, false, false // nothing is stopped
	end.push(func() { r.undoChanges(ctx) })
	if _, _, err := r.beginLedger(ctx); err != nil {
		return err
	}
	tell("taking a temporary snapshot, which is written down in " + r.work.Path())
	r.target.Snapshot, err = r.snapshot(ctx)
	return err
}

// atPort902 reports whether disks may be read over port 902.
func atPort902(t job.Transport) bool { return t == job.TransportNFC902 || t == job.TransportAuto }

// openAtRandom opens a disk to be read at random.
func (r *run) openAtRandom(ctx context.Context, d vsphere.Disk) (reader *transfer.Random, way string, release func(), err error) {
	var source transfer.Source
	transport := r.def.Options.Transport
	var no []error // why it is not read one way or the other
	if transport != job.TransportNFC902 {
		source, release, err = r.client.DatastoreSource(r.vm, d)
		if err == nil {
			if reader, err = r.atRandom(ctx, lockedSource{source}, source, d); err == nil {
				return reader, "its datastore", release, nil
			}
			release()
		}
		no = append(no, fmt.Errorf("from its datastore: %w", plain(err)))
	}
	if atPort902(transport) && ctx.Err() == nil {
		var disk *vsphere.FrozenDisk
		disk, err = r.client.OpenFrozen(ctx, r.target, d, vsphere.FrozenOptions{Stall: r.m.StallTimeout})
		if err == nil {
			if reader, err = r.atRandom(ctx, disk, disk, d); err == nil {
				return reader, "port 902 of its host", disk.Close, nil
			}
			disk.Close()
		}
		no = append(no, fmt.Errorf("over port 902: %w", plain(err)))
	}
	err = errors.Join(no...)
	if !atPort902(transport) {
		err = fault.WithHint(err, "try it over port 902 of the host, too: -transport auto")
	}
	return nil, "", nil, err
}

// plain is err without the hint of package vsphere, which is about exports.
func plain(err error) error {
	if v := (*vsphere.Error)(nil); errors.As(err, &v) && v.Err != nil {
		return v.Err
	}
	return err
}

// atRandom asks probe whether a disk is there, of the size that it has, and served at
// random, and returns it.
func (r *run) atRandom(ctx context.Context, probe, source transfer.Source, d vsphere.Disk) (*transfer.Random, error) {
	o := transfer.RandomOptions{
		Options: transfer.Options{StallTimeout: r.m.StallTimeout, Limiter: r.limiter, Budget: transfer.NewBudget(r.m.Budget)},
		Cache:   lookCache / int64(max(len(r.vm.Disks), 1)), Most: lookMost,
	}
	soon, cancel := context.WithTimeoutCause(ctx, lookFirst, fmt.Errorf("no answer within %v", lookFirst))
	defer cancel()
	info, err := transfer.Probe(soon, probe, o.Options)
	switch {
	case ctx.Err() == nil && soon.Err() != nil:
		return nil, context.Cause(soon)
	case err != nil:
		return nil, err
	case info.Ranges && info.Size != d.Capacity:
		return nil, fmt.Errorf("its file has %d bytes, the disk %d", info.Size, d.Capacity)
	}
	return transfer.NewRandom(source, info, o)
}
