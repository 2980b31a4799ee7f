package migrate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/transfer"
	"github.com/hyper2kvm/hyper2kvm/units"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// What the routes have in common that read a frozen disk at random: [nfcRoute] by
// itself, [vddkRoute] by another program.

// Codes of the obstacles that a disk cannot be read over port 902, or by VDDK, although
// the job wants it so.
const (
	CodeNFC902 = "nfc902"
	CodeVDDK   = "vddk"
)

// frozenObstacles lists what can be known beforehand to keep the disks from being read
// at random, where the job wants no other way.
func (r *run) frozenObstacles(ctx context.Context) []vsphere.Obstacle {
	var code string
	var reason error
	switch r.def.Options.Transport {
	case job.TransportNFC902:
		code, reason = CodeNFC902, ErrNFC902
	case job.TransportVDDK:
		code, reason = CodeVDDK, ErrVDDK
	default:
		return nil
	}
	var out []vsphere.Obstacle
	if code == CodeVDDK {
		if err := r.tool.check(ctx, r.m.VDDK); err != nil {
			out = append(out, vsphere.Obstacle{Code: code, Severity: vsphere.SeverityError, Text: err.Error(), Hint: Hint(err)})
		}
	}
	if r.vm.Power != vsphere.PoweredOff && !r.def.Options.Snapshot {
		return out // a running VM without a snapshot is an obstacle in itself
	}
	target := vsphere.Target{VM: r.vm}
	if r.vm.Power != vsphere.PoweredOff {
		target.Snapshot.Ref = "to be taken"
	}
	for _, d := range r.vm.Disks {
		if err := r.frozen(target, d); err != nil {
			out = append(out, vsphere.Obstacle{Code: code, Severity: vsphere.SeverityError,
				Text: fmt.Sprintf("%s %v: %v", d.Label, reason, err), Hint: "use transport nfc or auto"})
		}
	}
	return out
}

// frozen says why a disk of target cannot be read at random, as far as is known without
// asking anybody. The error is a *refusedError.
func (r *run) frozen(target vsphere.Target, d vsphere.Disk) error {
	if err := r.notInAreas(); err != nil {
		return err
	}
	err := r.client.Frozen(target, d)
	if v := (*vsphere.Error)(nil); errors.As(err, &v) {
		err = v.Err // without its hint, which is what is done next
	}
	if err != nil {
		return &refusedError{err}
	}
	return nil
}

// frozenDisk is a disk that is read at random.
type frozenDisk interface {
	transfer.Source
	// Allocated lists the areas that may hold data.
	Allocated(ctx context.Context) ([]transfer.Area, error)
}

// patience says how long a route is tried where another one may be taken.
type patience struct {
	first  time.Duration    // for the first connection
	worked bool             // there has been one already
	wait   func(error) bool // what passes, so that it is tried again even so
}

// probeFrozen connects to a disk. What will not be done is final. Where another route
// may be taken, so is whatever else keeps the first connection from being made, unless
// it passes.
func (d *diskRun) probeFrozen(ctx context.Context, disk transfer.Source, o transfer.Options, p patience) (transfer.Info, error) {
	if d.r.def.Options.Transport == job.TransportAuto && !p.worked {
		first, cancel := context.WithTimeoutCause(ctx, p.first, errors.New("no answer within "+p.first.String()))
		defer cancel()
		info, err := disk.Probe(first)
		switch {
		case err == nil:
			return info, nil
		case ctx.Err() != nil:
			return info, ctx.Err()
		case first.Err() != nil:
			return info, &refusedError{context.Cause(first)}
		case !p.wait(err):
			return info, &refusedError{err}
		}
	}
	info, err := transfer.Probe(ctx, disk, o)
	switch {
	case err == nil || ctx.Err() != nil:
	case fault.IsPermanent(err), errors.Is(err, transfer.ErrChanged):
		err = &refusedError{err}
	}
	return info, err
}

// frozenAreas asks which areas of a disk hold data, and says why it is read that way.
// Where that is not told, it is all of the disk: so it is unless told is true.
func (d *diskRun) frozenAreas(ctx context.Context, disk frozenDisk, way string, told bool) (transfer.Areas, error) {
	why := "reading " + way
	if d.r.target.Snapshot.Ref != "" {
		why = "reading what the temporary snapshot has frozen " + way
	}
	whole := transfer.NewAreas([]transfer.Area{{Length: d.disk.Capacity}})
	if !told {
		d.r.info(d.name, "%s; all of its %s, because it is a chain of snapshots", why, units.Bytes(d.disk.Capacity))
		return whole, nil
	}
	list, err := disk.Allocated(ctx)
	switch {
	case ctx.Err() != nil:
		return whole, ctx.Err()
	case err != nil:
		d.r.info(d.name, "%s; all of its %s: %v", why, units.Bytes(d.disk.Capacity), err)
		return whole, nil
	}
	areas := transfer.NewAreas(list)
	d.r.info(d.name, "%s; %s of its %s, which is what is allocated", why, units.Bytes(areas.Total()), units.Bytes(d.disk.Capacity))
	return areas, nil
}
