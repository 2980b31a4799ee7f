package tui

import (
	"maps"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/internal/terminal"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/tui/picker"
	"github.com/hyper2kvm/hyper2kvm/tui/runs"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

func TestTheFormAsksForEachPortGroupOnceAndKeepsTheAnswers(t *testing.T) {
	t.Parallel()
	tr := newTour(t)
	vms := []vsphere.VM{
		{Ref: "vm-1", Name: "web01", Path: "/DC0/vm/web01", Power: vsphere.PoweredOff, Networks: []string{"DMZ", "VM Network"}},
		{Ref: "vm-2", Name: "db%2f1", Path: "/DC0/vm/db%2f1", Power: vsphere.PoweredOff, Networks: []string{"DMZ"}},
		{Ref: "vm-3", Name: "lone", Path: "/DC0/vm/lone", Power: vsphere.PoweredOff},
	}
	tr.send(picker.Chosen{VMs: vms})
	tr.want("Network DMZ", "Network VM Network")
	tr.press("up") // from the first field nowhere
	tr.downTo("Network VM Network")
	tr.want("VMs: web01")
	tr.press("up", "d", "m", "z", "up", "down")
	tr.want("VMs: web01, db/1", "dmz")
	tr.press("enter")
	tr.want("confirm", `Cards on "DMZ" are on the libvirt network "dmz"`, `No libvirt network was named for "VM Network"`, "-network-map DMZ=dmz", "network_map:")
	if got := tr.w.ask.specs[1].Def.Options.NetworkMap; !maps.Equal(got, map[string]string{"DMZ": "dmz"}) {
		t.Errorf("the job has %q", got)
	}

	tr.press("esc", "esc")
	tr.send(picker.Chosen{VMs: vms[2:]})
	tr.press("enter")
	if got := tr.w.ask.specs[0].Def.Options.NetworkMap; len(got) > 0 {
		t.Errorf("a VM without cards has %q", got)
	}
	tr.press("esc", "esc")
	tr.send(picker.Chosen{VMs: vms[:1]})
	tr.want("Network DMZ", "dmz") // it is still answered
	tr.downTo("Network VM Network")
	tr.press("a", "/", "b", "enter")
	tr.want("options", `network map["VM Network"] must not hold slashes`)
}

func TestAnOVFAsksForNoNetworks(t *testing.T) {
	t.Parallel()
	tr := newTour(t)
	tr.send(picker.Chosen{VMs: []vsphere.VM{{Ref: "vm-1", Name: "web01", Path: "/DC0/vm/web01", Power: vsphere.PoweredOff, Networks: []string{"DMZ"}}}})
	tr.want("Network DMZ")
	tr.press("left") // from qcow2 to ovf
	if screen := tr.w.View().Content; strings.Contains(screen, "Network DMZ") {
		t.Errorf("an OVF has no domain:\n%v", screen)
	}
	tr.press("enter")
	tr.want("confirm", "Disks stay VMDK")
}

func TestTheSummaryTellsOfPortGroupsWithoutANetworkOnce(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	done := func(name string, groups ...string) runs.Status {
		return runs.Status{Spec: runs.Spec{Name: name}, State: runs.Done, Result: job.Result{VMName: name, Unmapped: groups, Notes: []string{
			`libvirt domain, nic 0: was on network "` + groups[0] + `", for which no libvirt network was named; it is on "default" now`, "another note",
		}}}
	}
	if err := summarize(terminal.New(&out, &out), []runs.Status{done("a", "DMZ"), done("b", "DMZ", "VM Network")}, false, false); err != nil {
		t.Fatal(err)
	}
	if text := out.String(); strings.Count(text, "libvirt network") != 1 || !strings.Contains(text, `"DMZ", "VM Network"`) || strings.Count(text, "another note") != 2 {
		t.Errorf("told:\n%s", text)
	}
}
