package vspheretest

import (
	"fmt"
	"os"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyper2kvm/hyper2kvm/probe/findings"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest/streamvmdk"
)

// maxAreas is how many areas one answer lists; the caller goes on from where
// the answer ends.
const maxAreas = 2000

// QueryChangedDiskAreas lists the allocated areas of a disk, for change id "*"
// (F-DS-5), in units of 64 KiB. The answer covers [startOffset, startOffset +
// length), which may end before the disk does.
func (g *gateway) QueryChangedDiskAreas(_ *simulator.Context, req *types.QueryChangedDiskAreas) soap.HasFault {
	body := new(methods.QueryChangedDiskAreasBody)
	d, fault := g.trackedDisk(req)
	if fault != nil {
		body.Fault_ = fault
		return body
	}
	info, err := allocated(d, req.StartOffset, g.srv.like.Folder.Areas == findings.Whole)
	if err != nil {
		body.Fault_ = simulator.Fault(err.Error(), &types.FileFault{File: d.flat})
		return body
	}
	body.Res = &types.QueryChangedDiskAreasResponse{Returnval: info}
	return body
}

func (g *gateway) trackedDisk(req *types.QueryChangedDiskAreas) (*disk, *soap.Fault) {
	guest := g.srv.guest(req.This)
	if guest == nil || !guest.vm.CBT || g.srv.like.Folder.Areas == findings.Refused {
		return nil, simulator.Fault("Changed block tracking is not enabled.", &types.FileFault{File: req.This.Value})
	}
	for _, d := range guest.disks {
		switch {
		case d.key != req.DeviceKey:
			continue
		case req.ChangeId != "*":
			return nil, simulator.Fault(fmt.Sprintf("unknown change id %q", req.ChangeId), &types.InvalidArgument{InvalidProperty: "changeId"})
		case req.StartOffset < 0 || req.StartOffset >= d.capacity:
			return nil, simulator.Fault("the offset is beyond the disk", &types.InvalidArgument{InvalidProperty: "startOffset"})
		}
		return d, nil
	}
	return nil, simulator.Fault("no such disk", &types.InvalidArgument{InvalidProperty: "deviceKey"})
}

// allocated lists what holds data from start on. A disk that was given as a
// VMDK counts as allocated from end to end, and any disk does with whole.
func allocated(d *disk, start int64, whole bool) (types.DiskChangeInfo, error) {
	info := types.DiskChangeInfo{StartOffset: start, Length: d.capacity - start}
	raw := d.now().raw
	if raw == nil || whole {
		info.ChangedArea = []types.DiskChangeExtent{{Start: start, Length: info.Length}}
		return info, nil
	}
	f, err := os.Open(raw.path)
	if err != nil {
		return info, err
	}
	defer f.Close()
	for e, err := range streamvmdk.Extents(f, d.capacity, streamvmdk.GrainSize) {
		if err != nil {
			return info, err
		}
		if e.End <= start {
			continue
		}
		if len(info.ChangedArea) == maxAreas {
			info.Length = e.Start - start
			break
		}
		from := max(e.Start, start)
		info.ChangedArea = append(info.ChangedArea, types.DiskChangeExtent{Start: from, Length: e.End - from})
	}
	return info, nil
}
