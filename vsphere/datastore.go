package vsphere

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/transfer"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

// DatastoreSource gives access to a disk's raw data through the datastore
// browser (/folder): all of its capacity, uncompressed, mostly in ranges
// (F-DS-1). It serves neither running VMs, nor snapshots, nor vSAN (F-DS-3);
// what can be told beforehand is an [ErrUnsupported], the rest shows when the
// source is probed. Call release when done with it.
func (c *Client) DatastoreSource(vm VM, d Disk) (src transfer.Source, release func(), err error) {
	u, err := c.datastoreURL(vm, d)
	if err != nil {
		return nil, nil, &Error{
			Op: "read from the datastore", On: vm.Path, Kind: ErrUnsupported, Err: err, Hint: "export through an NFC lease",
		}
	}
	t := c.dataTransport(c.addr(), expected{})
	return c.source(u, t), t.CloseIdleConnections, nil
}

// datastoreURL is where /folder has the disk's flat file. Names are escaped as
// they stand in the inventory, so that one with %2f in it is escaped twice, as
// vCenter wants it (F-DS-2).
func (c *Client) datastoreURL(vm VM, d Disk) (*url.URL, error) {
	base, isVMDK := strings.CutSuffix(d.File, ".vmdk")
	switch {
	case vm.Power != PoweredOff:
		return nil, fmt.Errorf("the VM is %s, and its disks are locked", vm.Power)
	case d.Parent || vm.Snapshots > 0:
		return nil, fmt.Errorf("%s is spread over snapshots", d.Label)
	case d.RDM != "":
		return nil, fmt.Errorf("%s is a raw device mapping", d.Label)
	case d.Encrypted:
		return nil, fmt.Errorf("%s is encrypted", d.Label)
	case !isVMDK || d.Datastore == "":
		return nil, fmt.Errorf("%s has no file on a datastore", d.Label)
	}
	u := &url.URL{Scheme: c.cfg.URL.Scheme, Host: c.cfg.URL.Host, Path: "/folder/" + base + "-flat.vmdk"}
	query := "dsName=" + queryEscape(d.Datastore)
	if dc := strings.TrimPrefix(vm.Datacenter, "/"); dc != "" {
		query = "dcPath=" + queryEscape(dc) + "&" + query
	}
	u.RawQuery = query
	return u, nil
}

// queryEscape is url.QueryEscape with %20 for a space: /folder reads a plus
// sign as such.
func queryEscape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// AllocatedAreas lists the areas of a disk that hold data, in order, each
// within the disk. It needs changed block tracking and a powered-off VM
// (F-DS-5); without, [ErrUnsupported].
func (c *Client) AllocatedAreas(ctx context.Context, vm VM, d Disk) ([]transfer.Area, error) {
	const op = "list the allocated areas"
	if !vm.ChangeTracking || d.ChangeID == "" {
		return nil, &Error{Op: op, On: vm.Path, Kind: ErrUnsupported, Err: fmt.Errorf("changed block tracking is off for %s", d.Label)}
	}
	var areas []transfer.Area
	for at := int64(0); at < d.Capacity; {
		res, err := methods.QueryChangedDiskAreas(ctx, c.vim(), &types.QueryChangedDiskAreas{
			This: vmRef(vm.Ref), DeviceKey: d.Key, StartOffset: at, ChangeId: "*",
		})
		if err != nil {
			return nil, optional(translate(op, vm.Path, err))
		}
		next, err := appendAreas(&areas, res.Returnval, at, d.Capacity)
		if err != nil {
			return nil, &Error{Op: op, On: vm.Path, Kind: ErrUnsupported, Err: err}
		}
		at = next
	}
	return areas, nil
}

// appendAreas takes in one answer about the disk from byte at on, and returns
// where the next one has to begin. Answers that do not fit the disk, or do not
// go forward, are errors: holes must not be guessed.
func appendAreas(areas *[]transfer.Area, info types.DiskChangeInfo, at, capacity int64) (int64, error) {
	if info.StartOffset != at || info.Length <= 0 || info.Length > capacity-at {
		return 0, fmt.Errorf("asked from byte %d of %d, the answer covers %d bytes from %d", at, capacity, info.Length, info.StartOffset)
	}
	end := at + info.Length
	for _, e := range info.ChangedArea {
		last := at
		if n := len(*areas); n > 0 {
			last = (*areas)[n-1].Offset + (*areas)[n-1].Length
		}
		if e.Start < max(at, last) || e.Length <= 0 || e.Start > end || e.Length > end-e.Start {
			return 0, fmt.Errorf("the area of %d bytes at %d is out of order or outside the disk", e.Length, e.Start)
		}
		if n := len(*areas); n > 0 && last == e.Start {
			(*areas)[n-1].Length += e.Length
			continue
		}
		*areas = append(*areas, transfer.Area{Offset: e.Start, Length: e.Length})
	}
	return end, nil
}
