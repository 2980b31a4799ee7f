package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/inspect"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/progress/display"
	"github.com/hyper2kvm/hyper2kvm/units"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

const inspectsOne = "-inspect looks into the disks of one VM: name it with -vm, and leave -all, -report and the formats of reports out"

// looked checks a VM, and looks into its disks if that is asked for. lookErr says why that
// could not be done.
func (a *app) looked(ctx context.Context, cmd *cli.Command, m *migrate.Migrator, def job.Definition) (vm vsphere.VM, obstacles []vsphere.Obstacle, inside *migrate.Inside, lookErr, err error) {
	if !cmd.Bool("inspect") {
		vm, obstacles, err = m.Check(ctx, def)
		return vm, obstacles, nil, nil, err
	}
	vm, obstacles, inside, lookErr, err = m.CheckInside(ctx, def, func(text string) {
		if !a.JSON {
			a.Info("%s", display.SafeText(text))
		}
	})
	if ctx.Err() != nil && err == nil { // of what was interrupted there is no report
		err = lookErr
	}
	return vm, obstacles, inside, lookErr, err
}

// printInside prints what a look has found, without what is in the way.
func (a *app) printInside(in *migrate.Inside) {
	for _, s := range in.Systems {
		about := slices.DeleteFunc([]string{s.Distro, s.Version, s.Arch}, func(s string) bool { return s == "" })
		a.Info("%s (%s)", display.SafeText(s.String()), display.SafeText(strings.Join(about, " ")))
		for _, f := range s.FileSystems {
			a.Info("  %s", display.SafeText(fmt.Sprintf("%s on %s (%s): %s of %s free", f.Mount, f.Device, f.Type, units.Bytes(f.Free), units.Bytes(f.Size))))
		}
		a.printSetup(s)
	}
	ways := slices.Clone(in.Ways)
	slices.Sort(ways)
	a.Info("%s of %s were read, from %s, in %s", units.Bytes(in.Read), units.Bytes(in.Disks),
		strings.Join(slices.Compact(ways), " and "), in.Took.Round(time.Second))
}

// printSetup prints by what a Linux boots, and has its addresses.
func (a *app) printSetup(s inspect.System) {
	for _, line := range []struct{ what, text string }{
		{"boot loader", s.Loader}, {"initramfs by", s.Initramfs}, {"network settings of", strings.Join(s.Network, ", ")},
	} {
		if line.text != "" {
			a.Info("  %s %s", line.what, display.SafeText(line.text))
		}
	}
}
