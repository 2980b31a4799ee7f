package main

import (
	"context"
	"fmt"

	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/api/wire"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// inventory is a vCenter with 3,000 VMs, so that listing them takes pages.
type inventory struct{}

func (inventory) VMs(_ context.Context, vcenter string) ([]wire.VM, error) {
	if vcenter != "" && vcenter != "prod" {
		return nil, api.ErrUnknownVCenter
	}
	vms := []wire.VM{{Name: "evil\x1b[2J", Path: "/DC0/vm/evil\x1b[2J", PowerState: "poweredOff"}}
	for i := range 2999 {
		vms = append(vms, wire.VM{
			Name: fmt.Sprintf("vm-%04d", i), Path: fmt.Sprintf("/DC0/vm/vm-%04d", i), PowerState: "poweredOff",
			CPUs: 2, MemoryBytes: 4 << 30, DiskBytes: 40 << 30, GuestOS: "Debian GNU/Linux 12 (64-bit)",
		})
	}
	return vms, nil
}

func (inventory) Check(_ context.Context, def job.Definition) (wire.CheckResult, error) {
	r := wire.CheckResult{VM: &wire.VM{Path: def.VMPath, PowerState: "poweredOn"}}
	if def.VMPath == "/DC0/vm/bad" {
		r.Findings = []wire.Finding{
			{Severity: wire.SeverityError, Code: "vtpm", Message: "the VM has a virtual TPM", Hint: "remove it"},
			{Severity: wire.SeverityWarning, Code: "cdrom", Message: "an ISO is connected"},
		}
	}
	return r, nil
}
