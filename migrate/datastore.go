package migrate

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/progress/display"
	"github.com/hyper2kvm/hyper2kvm/transfer"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// Reading a disk from its datastore.
//
// The datastore browser serves the flat file of a powered-off VM's disk in
// ranges, all of its capacity and uncompressed (F-DS-1). With changed block
// tracking vSphere tells which areas hold data (F-DS-5); those are read, one
// after another as one stream by several workers, and written where they
// belong, and pieces of zeros are left out.
//
// The export lease is open meanwhile, and kept alive, though nothing is read
// through it: it keeps the VM from being powered on, moved or deleted
// (F-NFC-1). A lease that is lost stops the reading. A host that does not serve
// the file while a lease is open answers as for a locked file (F-DS-6), and with
// transport "auto" the disk comes through the lease.
//
// vSphere offers no checksum of a flat file. What is verified is that every
// byte of every area came in an answer that agrees with what was asked for and
// with the disk's size; with verify "full" everything is read a second time,
// and both readings must have the same SHA-256.
//
// Going on inside a disk needs an entity tag (F-DS-7): without one nothing would
// tell that the VM ran between two leases.

// How a disk that came from its datastore was verified.
const (
	bySize       = "size"
	bySecondRead = "second-read"
)

// areaPosition is how far a disk has been read from its datastore.
type areaPosition struct {
	Offset int64 `json:"offset"` // every byte of the disk before it is written
	Packed int64 `json:"packed"` // bytes of all areas, by which they are recognized
}

// refusedError says why a disk cannot be read from its datastore, where reading
// it through the lease may work.
type refusedError struct{ error }

func (e *refusedError) Unwrap() error { return e.error }

// move moves the disk the way that the job asks for, until it is verified or
// fails.
func (d *diskRun) move(ctx context.Context, lease *vsphere.Lease, item vsphere.Item, algorithm string, o transfer.Options) error {
	way := d.r.def.Options.Transport
	if d.viaLease == "" && (way == job.TransportDatastore || way == job.TransportAuto) {
		err := d.fetchFlat(ctx, item, o)
		var refused *refusedError
		switch {
		case err == nil || ctx.Err() != nil || !errors.As(err, &refused):
			return err
		case way == job.TransportDatastore:
			d.file.SetState(progress.Failed)
			return permanent{withHint(fmt.Errorf("%s (%s) %w: %w", d.disk.Label, d.name, ErrDatastore, err),
				"use transport nfc, or auto, which takes the lease where the datastore does not serve")}
		}
		d.viaLease = refused.Error()
		d.file.Event(progress.Warning, "reading through the export lease instead of the datastore: "+d.viaLease)
		d.file.SetPosition(0)
	}
	if e, _ := d.r.work.entry(d.key()); e.Checkpoint != nil && e.Checkpoint.Datastore != nil {
		if err := d.forget(); err != nil {
			return err
		}
	}
	return d.fetch(ctx, lease, item, algorithm, o)
}

// flatSource is where the disk's flat file can be read, if it can as far as is
// known beforehand. The error is a *refusedError.
func (r *run) flatSource(d vsphere.Disk) (transfer.Source, func(), error) {
	o := r.def.Options
	if r.ovf() {
		return nil, nil, &refusedError{errors.New("an OVF directory is made of the lease's stream")}
	}
	if o.Verify == job.VerifyManifest {
		return nil, nil, &refusedError{errors.New("a manifest vouches for the lease's stream only")}
	}
	if o.Compress {
		return nil, nil, &refusedError{errors.New("a compressed image is made of the lease's stream")}
	}
	source, release, err := r.client.DatastoreSource(r.vm, d)
	if err != nil {
		var v *vsphere.Error
		if errors.As(err, &v) {
			err = v.Err // without its hint, which is what is done next
		}
		return nil, nil, &refusedError{err}
	}
	return source, release, nil
}

// CodeDatastore is the code of the obstacle that a disk cannot be read from its
// datastore although the job wants it so.
const CodeDatastore = "datastore"

// datastoreObstacles lists the disks that can be known beforehand not to be
// readable from their datastore, where the job wants no other way.
func (r *run) datastoreObstacles() []vsphere.Obstacle {
	if r.def.Options.Transport != job.TransportDatastore {
		return nil
	}
	var out []vsphere.Obstacle
	for _, d := range r.vm.Disks {
		_, release, err := r.flatSource(d)
		if err == nil {
			release()
			continue
		}
		out = append(out, vsphere.Obstacle{Code: CodeDatastore, Severity: vsphere.SeverityError,
			Text: fmt.Sprintf("%s %v: %v", d.Label, ErrDatastore, err),
			Hint: "use transport nfc or auto"})
	}
	return out
}

// fetchFlat reads the disk from its datastore until it is complete, or fails.
func (d *diskRun) fetchFlat(ctx context.Context, item vsphere.Item, o transfer.Options) error {
	source, closeSource, err := d.r.flatSource(d.disk)
	if err != nil {
		return err
	}
	defer closeSource()
	d.item = item
	release, err := d.place(ctx)
	if err != nil {
		return err
	}
	defer release()
	budget := transfer.NewBudget(d.r.m.Budget)
	o.StallTimeout, o.Limiter, o.Budget, o.File = d.r.m.StallTimeout, d.r.limiter, budget, d.file
	f := flatRead{diskRun: d, source: source, o: o}
	for {
		d.file.SetState(progress.Active)
		err := f.attempt(ctx)
		switch {
		case err == nil:
			return d.enter()
		case ctx.Err() != nil, errors.As(err, new(*refusedError)):
			return err
		case errors.Is(err, transfer.ErrNoRange):
			return &refusedError{err}
		}
		if errors.Is(err, transfer.ErrChanged) {
			f.areas = nil // another file may have other areas
		}
		if err := d.mayRetry(ctx, budget, err); err != nil {
			d.file.SetState(progress.Failed)
			return fmt.Errorf("%s (%s): %w", d.disk.Label, d.name, err)
		}
		d.file.SetPosition(0)
	}
}

// flatRead is the reading of one disk from its datastore.
type flatRead struct {
	*diskRun
	source transfer.Source // the whole flat file
	o      transfer.Options
	info   transfer.Info
	areas  *transfer.Areas // nil before the first attempt
}

// attempt reads the disk once, from its checkpoint if there is a usable one.
func (f *flatRead) attempt(ctx context.Context) (err error) {
	if err := f.probe(ctx); err != nil {
		return err
	}
	if f.areas == nil {
		areas := f.allocated(ctx)
		f.areas = &areas
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	from, hash, err := f.from()
	if err != nil {
		return err
	}
	var resume *disk.Position
	if from > 0 {
		resume = &disk.Position{}
		f.file.Event(progress.Info, fmt.Sprintf("going on at byte %d of the disk", from))
	}
	out, err := f.openSink(resume)
	if err != nil {
		return err
	}
	image, ok := out.(imageSink)
	if !ok {
		return errors.Join(&refusedError{errors.New("not written as a disk image")}, out.discard())
	}
	c := &flatCopy{f: f, w: image.w, off: from, saved: from}
	if err := c.run(ctx, hash); err != nil {
		return errors.Join(err, c.stop(ctx, err), f.giveUp(out))
	}
	if err := out.commit(); err != nil {
		return errors.Join(err, f.giveUp(out))
	}
	f.result = job.DiskResult{
		File: f.r.work.final(f.name), Capacity: f.disk.Capacity, StreamSize: f.areas.Total(), Resumed: from > 0,
		Transport: string(job.TransportDatastore), Verified: bySize,
	}
	if f.full() {
		f.result.Digest, f.result.Verified = c.digest, bySecondRead
	}
	return nil
}

func (f *flatRead) full() bool { return f.r.def.Options.Verify == job.VerifyFull }

// probe asks whether the file is there, of the disk's size, and served in
// ranges. An answer of refusal is final: 404 is what vSAN gives, and 500 a
// locked file (F-DS-3). Only 401, a session that has ended, is not, and what
// may pass by itself.
func (f *flatRead) probe(ctx context.Context) error {
	info, err := transfer.Probe(ctx, lockedSource{f.source}, f.o)
	var status *transfer.StatusError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &status) && status.Code != http.StatusUnauthorized:
		return &refusedError{err}
	case err != nil:
		return err
	case !info.Ranges:
		return &refusedError{errors.New("the server does not honour ranges")}
	case info.Size != f.disk.Capacity:
		return &refusedError{fmt.Errorf("its file has %d bytes, the disk %d", info.Size, f.disk.Capacity)}
	}
	f.info = info
	return nil
}

// lockedSource makes a probe's 500 final: that is what a locked file gives.
type lockedSource struct{ transfer.Source }

func (s lockedSource) Probe(ctx context.Context) (transfer.Info, error) {
	info, err := s.Source.Probe(ctx)
	var status *transfer.StatusError
	if errors.As(err, &status) && status.Code == http.StatusInternalServerError {
		err = transfer.Permanent(err)
	}
	return info, err
}

// allocated asks which areas hold data. Where that cannot be told, it is all of
// the disk.
func (f *flatRead) allocated(ctx context.Context) transfer.Areas {
	const why = "reading from the datastore in ranges, since the VM is off and has no snapshots"
	list, err := f.r.client.AllocatedAreas(ctx, f.r.vm, f.disk)
	if err != nil {
		var v *vsphere.Error
		if errors.As(err, &v) {
			err = v.Err
		}
		f.file.Event(progress.Info, fmt.Sprintf("%s; all of its %s: %v", why, display.Bytes(f.disk.Capacity), err))
		return transfer.NewAreas([]transfer.Area{{Length: f.disk.Capacity}})
	}
	areas := transfer.NewAreas(list)
	f.file.Event(progress.Info, fmt.Sprintf("%s; %s of its %s, which is what is allocated", why, display.Bytes(areas.Total()), display.Bytes(f.disk.Capacity)))
	return areas
}

// from returns the byte of the disk to begin at, and the state of the hash at
// that byte or before. A checkpoint that is of no use is forgotten.
func (f *flatRead) from() (int64, hashState, error) {
	e, _ := f.r.work.entry(f.key())
	c := e.Checkpoint
	if c == nil {
		return 0, hashState{Algorithm: algSHA256}, nil
	}
	at := c.Datastore
	if at == nil || c.ETag != f.info.ETag || c.Size != f.info.Size || at.Packed != f.areas.Total() || f.full() && c.Hash.Algorithm == "" {
		return 0, hashState{Algorithm: algSHA256}, f.forget()
	}
	return at.Offset, c.Hash, nil
}

// reader returns the packed bytes of the areas from packed byte off on.
func (f *flatRead) reader(ctx context.Context, off int64) (io.ReadCloser, error) {
	if off == f.areas.Total() { // an object of no bytes has no ranges
		return io.NopCloser(bytes.NewReader(nil)), nil
	}
	o := f.o
	o.Offset = off
	info := f.info
	info.Size = f.areas.Total()
	return transfer.NewReader(ctx, f.areas.Source(f.source, f.disk.Capacity), info, o)
}

// reread reads everything once more and compares it with the digest of the
// first reading.
func (f *flatRead) reread(ctx context.Context, first string) error {
	reading := f.r.slow(f.name, "reading the disk a second time to compare")
	defer reading.end()
	r, err := f.reader(ctx, 0)
	if err != nil {
		return err
	}
	defer r.Close()
	h := sha256.New()
	for done, n := int64(0), int64(1); n > 0; done += n {
		if n, err = io.CopyN(h, r, flatBlock); err != nil && err != io.EOF {
			return err
		}
		reading.at(done, f.areas.Total())
	}
	second := algSHA256 + ":" + hex.EncodeToString(h.Sum(nil))
	if second == first {
		return nil
	}
	mismatch := fmt.Sprintf("it was read as %s, and then as %s", first, second)
	if f.refetched {
		return withHint(fmt.Errorf("%w twice: %s", ErrVerify, mismatch),
			"something between the datastore and this machine changes bytes: check memory, network cards and proxies")
	}
	f.refetched = true
	return fmt.Errorf("%w: %s", errRefetch, mismatch)
}
