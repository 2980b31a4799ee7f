package vspheretest

import (
	"strings"
	"sync/atomic"

	"github.com/vmware/govmomi/vim25/types"
)

// guest is a virtual machine that the lab can export. Everything but the
// counters, the lease and the disks' data is fixed once the server runs.
type guest struct {
	vm      VM
	ref     types.ManagedObjectReference
	path    string // inventory path, as govc find prints it
	dir     string // directory on the datastore
	disks   []*disk
	nvram   *payload // nil when the host offers none
	iso     *payload // nil without a drive
	isoKey  int32
	host    *host
	escaped string // name as vCenter stores it
}

// disk is a virtual disk of a guest.
type disk struct {
	spec       Disk
	index      int // among the guest's disks
	key        int32
	controller string // type name, as in a lease's key
	bus, unit  int32
	capacity   int64  // bytes
	flat       string // path below the datastore, as /folder knows it
	data       atomic.Pointer[diskData]
	lock       fileLock
}

// diskData is what is on a disk. A lease keeps that of when it was opened.
type diskData struct {
	raw       *payload // the raw disk; nil when only a VMDK was given
	stream    *payload
	populated int64     // bytes in grains that hold data; 0 when not known
	before    *diskData // what it replaced
}

// now is what is on the disk at present; of a disk without data it is empty.
func (d *disk) now() *diskData {
	if data := d.data.Load(); data != nil {
		return data
	}
	return new(diskData)
}

// payload is a file that the data plane serves.
type payload struct {
	path         string
	size         int64
	sha1, sha256 string
	contentType  string
	version      atomic.Int64 // part of the ETag
	served       atomic.Int64 // bytes sent, over all requests
}

// called tells whether name means this guest: its name, its name below its
// folder, or its inventory path.
func (g *guest) called(name string) bool {
	return name == g.vm.Name || name == g.escaped || name == g.path ||
		g.vm.Folder != "" && name == g.vm.Folder+"/"+g.vm.Name
}

// exportable returns the disks that a lease offers: all of them, or for a
// snapshot those that a snapshot holds (F-INV-3).
func (g *guest) exportable(snapshot bool) []*disk {
	var disks []*disk
	for _, d := range g.disks {
		if snapshot && (d.spec.Independent || d.spec.RDM == RDMPhysical) {
			continue
		}
		disks = append(disks, d)
	}
	return disks
}

// escapeName writes a name as vCenter stores it (F-INV-1).
func escapeName(name string) string {
	return strings.NewReplacer("%", "%25", "/", "%2f", `\`, "%5c").Replace(name)
}
