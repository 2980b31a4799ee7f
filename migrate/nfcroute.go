package migrate

import (
	"context"
	"errors"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/transfer"
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

// overloaded says whether err is of a host that has too much to do.
func overloaded(err error) bool { return errors.Is(err, nfc.ErrMemory) || errors.Is(err, nfc.ErrBusy) }

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
	info, err := d.probeFrozen(ctx, disk, o.Options, patience{first: firstTry, worked: n.worked, wait: overloaded})
	if err != nil {
		return nil, err
	}
	n.worked = true
	if n.areas == nil {
		areas, err := d.frozenAreas(ctx, disk, "over port 902 of the host, which serves it at random", disk.Single)
		if err != nil {
			return nil, err
		}
		n.areas = &areas
	}
	// Two chunks on a connection at a time, so that none waits between two; shorter
	// ones than of a server with a round trip for each, so that all that are on their
	// way fit the window, and no connection waits for memory.
	o.Workers = min(2*o.Workers, transfer.MaxWorkers)
	o.ChunkSize = min(nfcChunk, o.Window/int64(o.Workers+4))
	return d.copyAreas(areaSource{
		kind: kindNFC902, name: "the host's port 902", source: disk, info: info, areas: *n.areas, release: disk.Close,
	}, o), nil
}
