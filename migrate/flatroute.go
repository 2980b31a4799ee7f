package migrate

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/transfer"
	"github.com/hyper2kvm/hyper2kvm/units"
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
// Resuming inside a disk needs an entity tag (F-DS-7): without one nothing would
// tell that the VM ran between two leases.

// wantsDatastore says whether the job asks for its disks to come from their
// datastores, if only where that can be.
func (r *run) wantsDatastore() bool {
	way := r.def.Options.Transport
	return way == job.TransportDatastore || way == job.TransportAuto
}

// notInAreas says why the job's disks cannot be made of areas, wherever those come
// from. The error is a *refusedError.
func (r *run) notInAreas() error {
	switch o := r.def.Options; {
	case r.ovf():
		return &refusedError{errors.New("an OVF package is made of the lease's stream")}
	case o.Verify == job.VerifyManifest:
		return &refusedError{errors.New("a manifest vouches for the lease's stream only")}
	case o.Compress:
		return &refusedError{errors.New("a compressed image is made of the lease's stream")}
	}
	return nil
}

// flatSource is where the disk's flat file can be read, if it can as far as is
// known beforehand. The error is a *refusedError.
func (r *run) flatSource(d vsphere.Disk) (transfer.Source, func(), error) {
	if err := r.notInAreas(); err != nil {
		return nil, nil, err
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

// fromDatastore says whether the disk can be read from its datastore, as far as is
// known beforehand.
func (r *run) fromDatastore(d vsphere.Disk) bool {
	_, release, err := r.flatSource(d)
	if err == nil {
		release()
	}
	return err == nil
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

// flatRoute brings a disk from its datastore.
type flatRoute struct {
	d     *diskRun
	areas *transfer.Areas // that hold data; nil before the first attempt, and after the file has changed
}

func (*flatRoute) way() string { return "from the datastore" }

func (f *flatRoute) able() error {
	_, release, err := f.d.r.flatSource(f.d.disk)
	if err == nil {
		release()
	}
	return err
}

// verify is not called: a flat file is verified while it is read.
func (f *flatRoute) verify(context.Context) error { return nil }

// judge makes a server that does not honour ranges final, and forgets the areas of
// a file that has changed.
func (f *flatRoute) judge(err error) error {
	if errors.Is(err, transfer.ErrNoRange) {
		return &refusedError{err}
	}
	if errors.Is(err, transfer.ErrChanged) {
		f.areas = nil // another file may have other areas
	}
	return err
}

const kindDatastore = string(job.TransportDatastore)

// open asks for the file, and for its areas when they are not known yet.
func (f *flatRoute) open(ctx context.Context, o pace) (_ reading, err error) {
	d := f.d
	source, release, err := d.r.flatSource(d.disk)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			release()
		}
	}()
	d.file.SetRoute(progress.Datastore)
	info, err := f.probe(ctx, source, o.Options)
	if err != nil {
		return nil, err
	}
	if f.areas == nil {
		areas := f.allocated(ctx)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		f.areas = &areas
	}
	return d.copyAreas(areaSource{
		kind: kindDatastore, name: "the datastore", source: source, info: info, areas: *f.areas, release: release,
	}, o), nil
}

// probe asks whether the file is there, of the disk's size, and served in
// ranges. An answer of refusal is final: 404 is what vSAN gives, and 500 a
// locked file (F-DS-3). Only 401, a session that has ended, is not, and what
// may pass by itself.
func (f *flatRoute) probe(ctx context.Context, source transfer.Source, o transfer.Options) (transfer.Info, error) {
	info, err := transfer.Probe(ctx, lockedSource{source}, o)
	var status *transfer.StatusError
	switch {
	case ctx.Err() != nil:
		return info, ctx.Err()
	case errors.As(err, &status) && status.Code == http.StatusForbidden: // F-PRIV-4
		return info, &refusedError{fmt.Errorf("%w; it takes the privileges Datastore.Browse and Datastore.FileManagement on the datastore", err)}
	case errors.As(err, &status) && status.Code != http.StatusUnauthorized:
		return info, &refusedError{err}
	case err != nil:
		return info, err
	case !info.Ranges:
		return info, &refusedError{errors.New("the server does not honour ranges")}
	case info.Size != f.d.disk.Capacity:
		return info, &refusedError{fmt.Errorf("its file has %d bytes, the disk %d", info.Size, f.d.disk.Capacity)}
	}
	return info, nil
}

// lockedSource makes a probe's 500 final: that is what a locked file gives.
type lockedSource struct{ transfer.Source }

func (s lockedSource) Probe(ctx context.Context) (transfer.Info, error) {
	info, err := s.Source.Probe(ctx)
	var status *transfer.StatusError
	if errors.As(err, &status) && status.Code == http.StatusInternalServerError {
		err = fault.Permanent(err)
	}
	return info, err
}

// allocated asks which areas hold data. Where that cannot be told, it is all of
// the disk.
func (f *flatRoute) allocated(ctx context.Context) transfer.Areas {
	const why = "reading from the datastore in ranges, since the VM is off and has no snapshots"
	list, err := f.d.r.client.AllocatedAreas(ctx, f.d.r.vm, f.d.disk)
	if err != nil {
		var v *vsphere.Error
		switch {
		case errors.As(err, &v) && v.Privilege != "":
			err = fmt.Errorf("it takes the privilege %s: %w", v.Privilege, v.Err)
		case errors.As(err, &v):
			err = v.Err
		}
		f.d.file.Event(progress.Info, fmt.Sprintf("%s; all of its %s: %v", why, units.Bytes(f.d.disk.Capacity), err))
		return transfer.NewAreas([]transfer.Area{{Length: f.d.disk.Capacity}})
	}
	areas := transfer.NewAreas(list)
	f.d.file.Event(progress.Info, fmt.Sprintf("%s; %s of its %s, which is what is allocated", why, units.Bytes(areas.Total()), units.Bytes(f.d.disk.Capacity)))
	return areas
}
