package main

import (
	"context"
	"strconv"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
	"github.com/hyper2kvm/hyper2kvm/progress/display"
	"github.com/hyper2kvm/hyper2kvm/units"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

func (a *app) listCommand() *cli.Command {
	return &cli.Command{
		Name:   "list",
		Usage:  "list every VM: path, power, CPUs, memory, disks, guest",
		Action: cliargs.NoArgs(a.list),
	}
}

func (a *app) list(ctx context.Context, cmd *cli.Command) error {
	cfg, err := a.config(cmd)
	if err != nil {
		return err
	}
	vms, err := a.listAll(ctx, cfg)
	if err != nil {
		return err
	}
	if a.JSON {
		if vms == nil {
			vms = []vsphere.VM{}
		}
		return a.PrintJSON(vms)
	}
	rows := [][]string{{"PATH", "POWER", "CPUS", "MEMORY", "DISKS", "USED", "GUEST"}}
	for _, vm := range vms {
		rows = append(rows, []string{
			display.SafeText(vm.Path),
			vm.Power,
			strconv.Itoa(vm.CPUs),
			units.Bytes(vm.MemoryMiB << 20),
			strconv.Itoa(vm.DiskCount),
			units.Bytes(vm.CommittedBytes),
			display.SafeText(vm.GuestFullName),
		})
	}
	if err := a.Table(rows, true); err != nil {
		return err
	}
	a.Success("Found %d virtual machine(s)", len(vms))
	return nil
}
