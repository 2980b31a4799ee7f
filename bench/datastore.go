package main

import (
	"context"
	"fmt"
	"net/url"
	"os"

	"github.com/hyper2kvm/hyper2kvm/job"
)

// Rows of a disk that is read from its datastore.
//
// The lab has the raw file, so that it can serve it under /folder, and changed
// block tracking is on, so that our side can ask which areas hold data.

// trackedVM is the lab's flag for a VM with a raw disk and changed block
// tracking. The lab makes the disk's stream when it starts.
func trackedVM(i image) []string { return []string{"-vm", "guest=" + i.raw + ";cbt"} }

// datastore is our export of the disk of the VM guest from its datastore.
func (b *bench) datastore(i image) contender {
	c := b.export(1, "-format", "qcow2", "-transport", "datastore")
	c.check = func(_ string, out []byte) error { return withoutHoles(out, i.Data) }
	return c
}

// withoutHoles checks that an export of ours says of its only disk that it came
// from the datastore, and that just so many bytes of it were read.
func withoutHoles(out []byte, data int64) error {
	disks, err := landed(out, 1)
	if err != nil {
		return err
	}
	d := disks[0]
	if d.Transport != "datastore" || d.Verified != job.BySize || d.Resumed || d.Transferred != data {
		return fmt.Errorf("%s: %d bytes came by %s, verified by %s; want the %d bytes that hold data, from the datastore",
			d.File, d.Transferred, d.Transport, d.Verified, data)
	}
	return nil
}

// datastoreBesideLease is the same export both ways. The lease's stream has no
// holes either and is compressed; what the datastore spares is the inflating.
func (b *bench) datastoreBesideLease(i image) row {
	peer := b.export(1, "-format", "qcow2", "-transport", "nfc")
	peer.name = "ours with -transport nfc"
	return row{
		work: fmt.Sprintf("one disk, qcow2, 1/%d data, datastore", i.Capacity/i.Data), lab: trackedVM(i), bytes: i.Data,
		ours: b.datastore(i), peer: peer, noCPU: true,
		wants: []want{{kind: timeRatio}}, compare: b.same(i, "*.qcow2", "qcow2"),
	}
}

// datastoreBesideCurl is the export beside a download of the whole flat file.
func (b *bench) datastoreBesideCurl(i image) row {
	curl := contender{
		name: "curl of the flat file to nothing",
		steps: func(string) [][]string {
			return [][]string{{"curl", "-sSfk", "-u", "$GOVC_USERNAME:$GOVC_PASSWORD", "-o", os.DevNull, "$FLAT_URL"}}
		},
	}
	return row{
		work: fmt.Sprintf("one disk, qcow2, 1/%d data, datastore", i.Capacity/i.Data), lab: trackedVM(i), bytes: i.Data,
		ours: b.datastore(i), peer: curl, before: flatURL, noCPU: true,
		wants: []want{{kind: timeRatio}}, compare: b.same(i, "*.qcow2", "qcow2"),
	}
}

// flatURL gives the URL of the flat file of the VM guest's first disk.
func flatURL(_ context.Context, l *lab) (env []string, after func(), err error) {
	u, err := url.Parse(l.getenv("GOVC_URL"))
	if err != nil {
		return nil, nil, err
	}
	u.Path = "/folder/guest/guest-flat.vmdk"
	u.RawQuery = url.Values{"dcPath": {l.getenv("GOVC_DATACENTER")}, "dsName": {"LocalDS_0"}}.Encode()
	return []string{"FLAT_URL=" + u.String()}, func() {}, nil
}
