package main

import (
	"context"
	"fmt"

	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// inventory is a vCenter with 3,000 VMs, so that listing them takes pages.
type inventory struct{}

func (inventory) VMs(_ context.Context, vcenter string, _ func(int)) ([]models.VM, error) {
	if vcenter != "" && vcenter != "prod" {
		return nil, api.ErrUnknownVCenter
	}
	vms := []models.VM{{Name: "evil\x1b[2J", Path: "/DC0/vm/evil\x1b[2J", PowerState: "poweredOff"}}
	for i := range 2999 {
		vms = append(vms, models.VM{
			Name: fmt.Sprintf("vm-%04d", i), Path: fmt.Sprintf("/DC0/vm/vm-%04d", i), PowerState: "poweredOff",
			CPUs: 2, MemoryBytes: 4 << 30, DiskBytes: 40 << 30, GuestOS: "Debian GNU/Linux 12 (64-bit)",
		})
	}
	return vms, nil
}

func (inventory) Check(_ context.Context, def job.Definition) (models.CheckResult, error) {
	r := models.CheckResult{VM: &models.VM{Path: def.VMPath, PowerState: "poweredOn"}}
	if def.VMPath == "/DC0/vm/bad" {
		r.Findings = []models.Finding{
			{Severity: models.SeverityError, Code: "vtpm", Message: "the VM has a virtual TPM", Hint: "remove it"},
			{Severity: models.SeverityWarning, Code: "cdrom", Message: "an ISO is connected"},
		}
	}
	return r, nil
}
