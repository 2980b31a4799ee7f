package migrate

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/nbd"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/transfer"
	"github.com/hyper2kvm/hyper2kvm/vddk"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// Reading a disk by VDDK.
//
// Those who have VMware's library let nbdkit serve the disk with it, and are its only
// client: package vddk runs it, package nbd reads. What holds for port 902, which VDDK
// uses itself, holds here: which disks can be read, that the lease stays open, that
// there is no checksum, and what a disk is told from another by (nfcroute.go). VDDK
// resolves chains of snapshots for the areas that hold data, too.

const kindVDDK = "vddk"

// firstVDDK bounds the first connection with transport "auto": the library takes its
// time.
const firstVDDK = 2 * time.Minute

// errNoVDDK: nobody has said where VDDK is.
var errNoVDDK = fault.WithHint(errors.New("it is not known where VDDK is"),
	"name its directory: -vddk-libdir DIR, or vddk_libdir in the daemon's configuration")

// toolCheck knows whether the tool works. The zero value finds out when it is asked.
type toolCheck struct {
	mu   sync.Mutex
	done bool
	err  error
}

func (c *toolCheck) check(ctx context.Context, tool *vddk.Tool) error {
	if tool == nil {
		return errNoVDDK
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.done {
		c.err = tool.Check(ctx)
		c.done = ctx.Err() == nil
	}
	return c.err
}

// vddkRoute brings a disk by VDDK.
type vddkRoute struct {
	d      *diskRun
	areas  *transfer.Areas // that hold data; nil before the first attempt, and after the disk has changed
	worked bool            // the disk has been opened already
	server *vddk.Server    // the last one; nil before the first attempt
}

func (*vddkRoute) way() string { return "by VDDK" }

func (v *vddkRoute) able() error { return v.d.r.frozen(v.d.r.target, v.d.disk) }

// verify is not called: the disk is verified while it is read.
func (v *vddkRoute) verify(context.Context) error { return nil }

// judge forgets the areas of a disk that has changed, makes final what only another
// route mends, and adds what nbdkit has said: there the reason is.
func (v *vddkRoute) judge(err error) error {
	if errors.Is(err, transfer.ErrChanged) {
		v.areas = nil
	}
	var e *nbd.Error
	if !errors.As(err, &e) {
		return err
	}
	if v.server != nil {
		err = v.server.Explain(err)
	}
	if fault.IsPermanent(err) {
		return &refusedError{err}
	}
	return err
}

// vddkDisk is the disk as nbdkit serves it.
type vddkDisk struct {
	*nbd.Reader
	server *vddk.Server
}

// Probe connects. The reason for a failure is in what nbdkit has said.
func (d vddkDisk) Probe(ctx context.Context) (transfer.Info, error) {
	info, err := d.Reader.Probe(ctx)
	return info, d.server.Explain(err)
}

func (d vddkDisk) close() {
	d.server.Leave()
	d.Reader.Close()
	d.server.Close()
}

// open starts nbdkit, and asks for the disk's areas when they are not known yet.
func (v *vddkRoute) open(ctx context.Context, o pace) (_ reading, err error) {
	d := v.d
	if err := d.r.tool.check(ctx, d.r.m.VDDK); err != nil {
		return nil, &refusedError{err}
	}
	access, err := d.r.client.FrozenAccess(ctx, d.r.target, d.disk)
	if errors.Is(err, vsphere.ErrUnsupported) {
		return nil, &refusedError{err}
	}
	if err != nil {
		return nil, err
	}
	disk := v.serve(access, o)
	defer func() {
		if err != nil {
			disk.close()
		}
	}()
	d.file.SetRoute(progress.VDDK)
	info, err := d.probeFrozen(ctx, disk, o.Options, patience{first: firstVDDK, worked: v.worked, wait: func(error) bool { return false }})
	if err != nil {
		return nil, err
	}
	v.worked = true
	if v.areas == nil {
		areas, err := d.frozenAreas(ctx, disk, "by VDDK", true)
		if err != nil {
			return nil, err
		}
		v.areas = &areas
	}
	return d.copyAreas(areaSource{
		kind: kindVDDK, name: "VDDK", source: disk, info: info, areas: *v.areas, release: disk.close,
	}, o), nil
}

// serve returns the disk, for which nothing runs yet.
func (v *vddkRoute) serve(a vsphere.Access, o pace) vddkDisk {
	d := v.d
	server := d.r.m.VDDK.Serve(vddk.Disk{
		Server: a.Server, Port: a.Port, User: a.User, Password: a.Password, Thumbprint: a.Thumbprint,
		VM: a.VM, Snapshot: a.Snapshot, File: a.File,
	}, func(line string) { d.r.info(d.name, "%s", line) })
	v.server = server
	return vddkDisk{server: server, Reader: nbd.NewReader(nbd.Options{
		Dial: server.Dial, Name: "nbdkit", Capacity: d.disk.Capacity, Validator: a.State,
		Connections: max(o.Workers, 1), Stall: d.r.m.StallTimeout,
	})}
}
