package tui

import (
	"context"

	"github.com/hyper2kvm/hyper2kvm/client"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// inventory is where VMs are chosen from.
type inventory interface {
	// list returns every VM, in the order of their paths.
	list(ctx context.Context) ([]vsphere.VM, error)
	// survey says in a word what stands in the way of each VM's export, by its Ref.
	survey(ctx context.Context) (map[string]string, error)
	// inspect fills a VM in and lists what stands in the way of its export.
	inspect(ctx context.Context, vm vsphere.VM, o vsphere.PreflightOptions) (vsphere.VM, []vsphere.Obstacle, error)
}

// ownInventory is that of a session of this process.
type ownInventory struct{ client *vsphere.Client }

func (inv ownInventory) list(ctx context.Context) ([]vsphere.VM, error) { return inv.client.List(ctx) }

// survey walks the inventory once more, however many VMs there are.
func (inv ownInventory) survey(ctx context.Context) (map[string]string, error) {
	vms, err := inv.client.Survey(ctx, nil)
	if err != nil {
		return nil, err
	}
	problems := make(map[string]string)
	for _, vm := range vms {
		if problem := vm.Problem(); problem != "" {
			problems[vm.VM.Ref] = problem
		}
	}
	return problems, nil
}

func (inv ownInventory) inspect(ctx context.Context, vm vsphere.VM, o vsphere.PreflightOptions) (vsphere.VM, []vsphere.Obstacle, error) {
	found, err := inv.client.Refresh(ctx, vm)
	if err != nil {
		return vm, nil, err
	}
	obstacles, err := inv.client.Preflight(ctx, found, o)
	return found, obstacles, err
}

// daemonInventory is that of a vCenter which a daemon knows. No credentials pass
// through here.
type daemonInventory struct {
	client   *client.Client
	vcenter  string            // name in the daemon's configuration, "" for its default
	problems map[string]string // as the list had them
}

// survey gives what came with the list.
func (inv *daemonInventory) survey(context.Context) (map[string]string, error) {
	return inv.problems, nil
}

// daemonPage is how many VMs are asked for at a time.
const daemonPage = 2000

func (inv *daemonInventory) list(ctx context.Context) ([]vsphere.VM, error) {
	var vms []vsphere.VM
	inv.problems = make(map[string]string)
	for cursor := ""; ; {
		page, err := inv.client.VMs(ctx, inv.vcenter, daemonPage, cursor)
		if err != nil {
			return nil, err
		}
		for _, vm := range page.VMs {
			vms = append(vms, fromWire(vm))
			if vm.Problem != "" {
				inv.problems[vm.Path] = vm.Problem
			}
		}
		if cursor = page.NextCursor; cursor == "" {
			return vms, nil
		}
	}
}

func fromWire(vm models.VM) vsphere.VM {
	return vsphere.VM{
		Ref: vm.Path, Path: vm.Path, Name: vm.Name, InstanceUUID: vm.UUID, Power: vm.PowerState,
		GuestFullName: vm.GuestOS, CPUs: vm.CPUs, MemoryMiB: vm.MemoryBytes >> 20, CommittedBytes: vm.DiskBytes,
	}
}

// inspect asks the daemon to check the VM as a job. The output directory is the
// daemon's affair and named only because a job has one; what it has to say about
// it is left out.
func (inv *daemonInventory) inspect(ctx context.Context, vm vsphere.VM, o vsphere.PreflightOptions) (vsphere.VM, []vsphere.Obstacle, error) {
	def := job.Definition{
		VMPath: vm.Path, OutputPath: "/var/lib/hyper2kvm/check", VCenter: inv.vcenter,
		Options: job.Options{Snapshot: o.Snapshot, RemoveCDROM: o.RemoveCDROM},
	}
	r, err := inv.client.Check(ctx, def)
	if err != nil {
		return vm, nil, err
	}
	var out []vsphere.Obstacle
	for _, f := range r.Findings {
		if f.Code == migrate.CodeSpace || f.Code == migrate.CodeOutputExists || f.Code == migrate.CodeOutputDir || f.Severity == models.SeverityInfo {
			continue
		}
		out = append(out, vsphere.Obstacle{Code: f.Code, Severity: vsphere.Severity(f.Severity), Text: f.Message, Hint: f.Hint})
	}
	return vm, out, nil
}
