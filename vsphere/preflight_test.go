package vsphere_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// reached stands in for the network.
func reached(context.Context, string, int) error { return nil }

// codes lists "severity code" of obstacles, and checks that each says
// something and what to do.
func codes(t *testing.T, found []vsphere.Obstacle) []string {
	t.Helper()
	var out []string
	for _, o := range found {
		if o.Text == "" || o.Hint == "" {
			t.Errorf("obstacle %+v", o)
		}
		out = append(out, fmt.Sprintf("%s %s", o.Severity, o.Code))
	}
	return out
}

func TestPreflightListsEveryObstacleAtOnce(t *testing.T) {
	t.Parallel()
	disk := rawDisk(t, "disk", 1<<20)
	plain := []vspheretest.Disk{{Path: disk}}
	lab := startLab(t, vspheretest.Config{VMs: []vspheretest.VM{
		{Name: "ready", Disks: plain},
		{Name: "worst", PoweredOn: true, VTPM: true, Encrypted: true, FaultTolerant: true, ISO: []byte("iso"),
			DeniedPrivileges: []string{"VApp.Export", "VirtualMachine.State.CreateSnapshot"},
			DisabledMethods:  []string{"CreateSnapshot_Task"},
			Disks: []vspheretest.Disk{
				{Path: disk, Independent: true}, {Path: disk, RDM: vspheretest.RDMPhysical}, {Path: disk, RDM: vspheretest.RDMVirtual},
			}},
		{Name: "encrypted", Disks: plain, Encrypted: true},
		{Name: "diskless", DisabledMethods: []string{"ExportVm"}},
		{Name: "image", Disks: plain, ISO: []byte("iso")},
		{Name: "running", Disks: []vspheretest.Disk{{Path: disk}, {Path: disk, Independent: true}}, PoweredOn: true},
	}})
	c := dial(t, labConfig(t, lab))
	for name, tc := range map[string]struct {
		vm   string
		opts vsphere.PreflightOptions
		want []string
	}{
		"nothing is in the way": {"ready", vsphere.PreflightOptions{}, nil},
		"all at once, by snapshot": {"worst", vsphere.PreflightOptions{Snapshot: true}, []string{
			"error fault-tolerance", "error method-disabled", "error vtpm", "warning encrypted", "error independent-disk",
			"error rdm", "error missing-privilege", "error missing-privilege", "warning rdm", "warning connected-image",
		}},
		"all at once, as it is": {"worst", vsphere.PreflightOptions{RemoveCDROM: true}, []string{
			"error power-state", "error fault-tolerance", "error vtpm", "warning encrypted", "error rdm",
			"error missing-privilege", "warning independent-disk", "warning rdm",
		}},
		"encrypted":                  {"encrypted", vsphere.PreflightOptions{}, []string{"error encrypted"}},
		"no disks":                   {"diskless", vsphere.PreflightOptions{}, []string{"error method-disabled", "error no-disks"}},
		"an image":                   {"image", vsphere.PreflightOptions{}, []string{"warning connected-image"}},
		"an image to be taken out":   {"image", vsphere.PreflightOptions{RemoveCDROM: true}, nil},
		"running, without snapshot":  {"running", vsphere.PreflightOptions{}, []string{"error power-state", "warning independent-disk"}},
		"running, with one":          {"running", vsphere.PreflightOptions{Snapshot: true}, []string{"error independent-disk"}},
		"snapshot asked for in vain": {"ready", vsphere.PreflightOptions{Snapshot: true}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tc.opts.Reach = reached
			found, err := c.Preflight(t.Context(), find(t, c, tc.vm), tc.opts)
			if err != nil {
				t.Fatal(err)
			}
			got, want := codes(t, found), slices.Clone(tc.want)
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("obstacles\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			if !slices.IsSortedFunc(found, func(a, b vsphere.Obstacle) int { return strings.Compare(string(a.Severity), string(b.Severity)) }) {
				t.Errorf("errors do not come first: %+v", found)
			}
		})
	}
}

func TestPreflightTriesToReachTheHostThatServesTheData(t *testing.T) {
	t.Parallel()
	lab := startLab(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "web", Disks: []vspheretest.Disk{{Path: rawDisk(t, "d", 1<<20)}}}}})
	c := dial(t, labConfig(t, lab))
	vm := find(t, c, "web")
	found, err := c.Preflight(t.Context(), vm, vsphere.PreflightOptions{Reach: func(_ context.Context, host string, port int) error {
		if got := net.JoinHostPort(host, strconv.Itoa(port)); got != lab.HostAddr(0) {
			t.Errorf("asked for %s, want %s", got, lab.HostAddr(0))
		}
		return errors.New("no route")
	}})
	if err != nil || len(found) != 1 || found[0].Code != vsphere.CodeHost || !strings.Contains(found[0].Text, "no route") {
		t.Errorf("found %+v, %v", found, err)
	}
}

func TestPreflightSeesWhatOnlyTheSimulatorCanShow(t *testing.T) {
	t.Parallel()
	model, cfg := simulate(t, nil)
	c := dial(t, cfg)
	vm := find(t, c, "DC0_H0_VM0")
	registry := model.Service.Context.Map
	sim := registry.Get(types.ManagedObjectReference{Type: "VirtualMachine", Value: vm.Ref}).(*simulator.VirtualMachine)
	task := simulator.CreateTask(sim, "relocate", nil)
	registry.Put(task)
	task.Info.State, task.Info.DescriptionId = types.TaskInfoStateRunning, "VirtualMachine.relocate"
	sim.RecentTask = []types.ManagedObjectReference{task.Self, {Type: "Task", Value: "task-forgotten"}}
	sim.Config.Template = true
	sim.Runtime.ConnectionState = types.VirtualMachineConnectionStateInaccessible
	sim.Runtime.Question = &types.VirtualMachineQuestionInfo{Id: "1", Text: "copied\nor moved?"}
	for _, d := range sim.Config.Hardware.Device {
		if disk, ok := d.(*types.VirtualDisk); ok {
			disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo).Sharing = string(types.VirtualDiskSharingSharingMultiWriter)
		}
	}
	found, err := c.Preflight(t.Context(), vm, vsphere.PreflightOptions{Snapshot: true, Reach: reached})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"error running-task", "warning template", "error inaccessible", "error pending-question", "error shared-disk"} {
		if !slices.Contains(codes(t, found), want) {
			t.Errorf("%q is missing in %+v", want, found)
		}
	}
}

func TestCDDrivesAreTakenOutAndPutBackAsTheyWere(t *testing.T) {
	t.Parallel()
	disk := []vspheretest.Disk{{Path: rawDisk(t, "d", 1<<20)}}
	lab := startLab(t, vspheretest.Config{VMs: []vspheretest.VM{
		{Name: "off", Disks: disk, ISO: []byte("iso")},
		{Name: "on", Disks: disk, ISO: []byte("iso"), PoweredOn: true},
		{Name: "none", Disks: disk},
	}})
	c := dial(t, labConfig(t, lab))
	for _, name := range []string{"off", "on"} {
		vm := find(t, c, name)
		before := lab.CDROM(name)
		change, err := c.PlanCDROM(t.Context(), vm, nil)
		if err != nil {
			t.Fatal(err)
		}
		record, err := json.Marshal(change)
		if err != nil {
			t.Fatal(err)
		}
		if err := change.Apply(t.Context()); err != nil {
			t.Fatal(err)
		}
		during := lab.CDROM(name)
		if during.Present != (name == "on") || during.Image != "" || during.StartConnected {
			t.Errorf("%s: drive %+v after removal", name, during)
		}
		if len(change.Drives) != 1 || !strings.Contains(change.Drives[0], before.Image) {
			t.Errorf("%s: told %q", name, change.Drives)
		}
		again, err := c.PlanCDROM(t.Context(), vm, nil)
		if err != nil || len(again.Drives) != 0 {
			t.Errorf("%s: a second removal would do %v, %v", name, again, err)
		}
		// As by a process that has only what the one before it wrote down.
		if change, err = c.LoadCDROM(vm, record); err != nil {
			t.Fatal(err)
		}
		if change, err = c.PlanCDROM(t.Context(), vm, change); err != nil || len(change.Drives) != 1 {
			t.Fatalf("%s: going on from the record: %v, %v", name, change, err)
		}
		if err := change.Apply(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // as after Ctrl-C
		for range 2 {
			if err := change.Restore(ctx); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if after := lab.CDROM(name); after != before {
			t.Errorf("%s: drive %+v, was %+v", name, after, before)
		}
	}
	change, err := c.PlanCDROM(t.Context(), find(t, c, "none"), nil)
	if err != nil || len(change.Drives) != 0 || change.Apply(t.Context()) != nil || change.Restore(t.Context()) != nil {
		t.Errorf("without a drive: %+v, %v", change, err)
	}
}

func TestDatastoreGivesTheRawDiskInRanges(t *testing.T) {
	t.Parallel()
	lab := startLab(t, vspheretest.Config{VMs: []vspheretest.VM{
		{Name: "a b", CBT: true, Disks: []vspheretest.Disk{{Path: rawDisk(t, "d", 8<<20)}}},
		{Name: "on", Disks: []vspheretest.Disk{{Path: rawDisk(t, "e", 1<<20)}}, PoweredOn: true},
	}})
	c := dial(t, labConfig(t, lab))
	vm := find(t, c, "a b")
	src, release, err := c.DatastoreSource(vm, vm.Disks[0])
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	info, err := src.Probe(t.Context())
	if err != nil || info.Size != 8<<20 || !info.Ranges {
		t.Errorf("probe: %+v, %v", info, err)
	}
	areas, err := c.AllocatedAreas(t.Context(), vm, vm.Disks[0])
	if err != nil || len(areas) == 0 || areas[0].Offset != 0 || areas[len(areas)-1].Offset+areas[len(areas)-1].Length > 8<<20 {
		t.Errorf("areas %+v, %v", areas, err)
	}
	on := find(t, c, "on")
	if _, _, err := c.DatastoreSource(on, on.Disks[0]); !errors.Is(err, vsphere.ErrUnsupported) {
		t.Errorf("of a running VM: %v", err)
	}
	if _, err := c.AllocatedAreas(t.Context(), on, on.Disks[0]); !errors.Is(err, vsphere.ErrUnsupported) {
		t.Errorf("without change tracking: %v", err)
	}
}

func TestPreflightTellsOfTemporarySnapshotsThatNobodyLooksAfter(t *testing.T) {
	t.Parallel()
	_, cfg := simulate(t, nil)
	c := dial(t, cfg)
	vm := find(t, c, "DC0_H0_VM0")
	for _, name := range []string{"known", "left"} {
		if _, err := c.CreateSnapshot(t.Context(), vm, name); err != nil {
			t.Fatal(err)
		}
	}
	found, err := c.Preflight(t.Context(), vm, vsphere.PreflightOptions{
		Snapshot: true, Reach: reached, Known: []string{vsphere.SnapshotPrefix + "known"},
	})
	found = slices.DeleteFunc(found, func(o vsphere.Obstacle) bool { return o.Code != vsphere.CodeStray })
	if err != nil || len(found) != 1 {
		t.Fatalf("found %+v, %v", found, err)
	}
	o := found[0]
	if o.Severity != vsphere.SeverityWarning ||
		!strings.Contains(o.Text, vsphere.SnapshotPrefix+"left") || !strings.Contains(o.Hint, "hyper2kvm clean -vm '"+vm.Path+"' -snapshots") {
		t.Errorf("told %+v", o)
	}
}
