package migrate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/transfer"
	"github.com/hyper2kvm/hyper2kvm/units"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/nfc"
)

// Reading a disk over port 902 of its host.
//
// The host's NFC service serves any frozen disk at random: of a VM that is off, and
// the file that a snapshot of a running VM has frozen (F-902-1). Where the disk has a
// single link the host tells which areas hold data; those are read, by several
// connections with several reads in flight on each, and zeros hardly cross the wire.
//
// The export lease is open meanwhile, and kept alive, though no disk is read through
// it: it keeps a VM that is off from being powered on (F-NFC-1). That it does not keep
// NFC from opening the disk is F-902-21.
//
// NFC has no checksum. What is verified is that every byte of every area came in an
// answer that agrees with what was asked for and with the disk's capacity; with verify
// "full" everything is read a second time, and both readings must have the same SHA-256.
//
// A disk is gone on with in its middle while vSphere's inventory tells nothing that
// would make it another one (F-902-22): within a run, and in a later run of a VM that
// was off. A snapshot of a later run is another state.

const kindNFC902 = string(job.TransportNFC902)

// firstTry bounds the first attempt at a host with transport "auto": one that a
// firewall hides is not waited for.
const firstTry = 30 * time.Second

// nfcChunk is the longest range that is asked for at once, in bytes: several reads.
const nfcChunk = 4 << 20

// CodeNFC902 is the code of the obstacle that a disk cannot be read over port 902
// although the job wants it so.
const CodeNFC902 = "nfc902"

// nfc902Obstacles lists the disks that can be known beforehand not to be readable over
// port 902, where the job wants no other way.
func (r *run) nfc902Obstacles() []vsphere.Obstacle {
	if r.def.Options.Transport != job.TransportNFC902 || r.vm.Power != vsphere.PoweredOff && !r.def.Options.Snapshot {
		return nil // a running VM without a snapshot is an obstacle in itself
	}
	target := vsphere.Target{VM: r.vm}
	if r.vm.Power != vsphere.PoweredOff {
		target.Snapshot.Ref = "to be taken"
	}
	var out []vsphere.Obstacle
	for _, d := range r.vm.Disks {
		if err := r.frozen(target, d); err != nil {
			out = append(out, vsphere.Obstacle{Code: CodeNFC902, Severity: vsphere.SeverityError,
				Text: fmt.Sprintf("%s %v: %v", d.Label, ErrNFC902, err), Hint: "use transport nfc or auto"})
		}
	}
	return out
}

// frozen says why a disk of target cannot be read over port 902, as far as is known
// without asking anybody. The error is a *refusedError.
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

// nfcRoute brings a disk over port 902.
type nfcRoute struct {
	d      *diskRun
	areas  *transfer.Areas // that hold data; nil before the first attempt, and after the disk has changed
	worked bool            // the host has been read already
}

func (*nfcRoute) way() string { return "over port 902" }

func (n *nfcRoute) able() error { return n.d.r.frozen(n.d.r.target, n.d.disk) }

// verify is not called: the disk is verified while it is read.
func (n *nfcRoute) verify(context.Context) error { return nil }

// judge makes what the host will not do again final, and forgets the areas of a disk
// that has changed.
func (n *nfcRoute) judge(err error) error {
	if errors.Is(err, transfer.ErrChanged) {
		n.areas = nil
	}
	if refused := n.refusal(err); refused != nil {
		return refused
	}
	return err
}

// refusal is err as a *refusedError, if it is an answer of the host that will not
// change; nil otherwise.
func (n *nfcRoute) refusal(err error) error {
	var e *nfc.Error
	var v *vsphere.Error
	if (errors.As(err, &e) || errors.As(err, &v)) && fault.IsPermanent(err) {
		return &refusedError{err}
	}
	return nil
}

// open finds out whether the host lets the disk be read, and asks for its areas when
// they are not known yet.
func (n *nfcRoute) open(ctx context.Context, o pace) (_ reading, err error) {
	d := n.d
	disk, err := d.r.client.OpenFrozen(ctx, d.r.target, d.disk, vsphere.FrozenOptions{
		Connections: max(o.Workers, 1),
		Place:       func() (func(), bool) { return d.r.limits.TryAcquire(d.r.work.VM().VCenter, d.lease.item.Host) },
		Tell:        func(text string) { d.file.Event(progress.Info, text) },
		Stall:       d.r.m.StallTimeout,
	})
	if errors.Is(err, vsphere.ErrUnsupported) {
		return nil, &refusedError{err}
	}
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			disk.Close()
		}
	}()
	d.file.SetRoute(progress.NFC902)
	info, err := n.probe(ctx, disk, o.Options)
	if err != nil {
		return nil, err
	}
	n.worked = true
	if n.areas == nil {
		areas := n.allocated(ctx, disk)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		n.areas = &areas
	}
	// Two chunks on a connection at a time, so that none waits between two; shorter
	// ones than of a server with a round trip for each, so that they fit the window.
	o.Workers, o.ChunkSize = min(2*o.Workers, transfer.MaxWorkers), nfcChunk
	return d.copyAreas(areaSource{
		kind: kindNFC902, name: "the host's port 902", source: disk, info: info, areas: *n.areas, release: disk.Close,
	}, o), nil
}

// probe connects. What vSphere or the host will not do is final. Where another route
// may be taken, so is whatever else keeps the first connection from being made, other
// than that the host is overloaded.
func (n *nfcRoute) probe(ctx context.Context, disk *vsphere.FrozenDisk, o transfer.Options) (transfer.Info, error) {
	if n.d.r.def.Options.Transport == job.TransportAuto && !n.worked {
		first, cancel := context.WithTimeoutCause(ctx, firstTry, errors.New("no answer within "+firstTry.String()))
		defer cancel()
		info, err := disk.Probe(first)
		switch {
		case err == nil:
			return info, nil
		case ctx.Err() != nil:
			return info, ctx.Err()
		case first.Err() != nil:
			return info, &refusedError{context.Cause(first)}
		case !errors.Is(err, nfc.ErrMemory) && !errors.Is(err, nfc.ErrBusy):
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

// allocated asks which areas hold data. Where that cannot be told, it is all of the
// disk.
func (n *nfcRoute) allocated(ctx context.Context, disk *vsphere.FrozenDisk) transfer.Areas {
	d := n.d
	why := "reading over port 902 of the host, which serves this disk at random"
	if d.r.target.Snapshot.Ref != "" {
		why = "reading what the temporary snapshot has frozen over port 902 of the host, which serves it at random"
	}
	whole := transfer.NewAreas([]transfer.Area{{Length: d.disk.Capacity}})
	if !disk.Single {
		d.file.Event(progress.Info, fmt.Sprintf("%s; all of its %s, because it is a chain of snapshots", why, units.Bytes(d.disk.Capacity)))
		return whole
	}
	list, err := disk.Allocated(ctx)
	if err != nil {
		d.file.Event(progress.Info, fmt.Sprintf("%s; all of its %s: %v", why, units.Bytes(d.disk.Capacity), err))
		return whole
	}
	areas := transfer.NewAreas(list)
	d.file.Event(progress.Info, fmt.Sprintf("%s; %s of its %s, which is what is allocated", why, units.Bytes(areas.Total()), units.Bytes(d.disk.Capacity)))
	return areas
}
