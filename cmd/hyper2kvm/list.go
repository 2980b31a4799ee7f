package main

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
	"github.com/hyper2kvm/hyper2kvm/internal/natural"
	"github.com/hyper2kvm/hyper2kvm/tui/picker"
	"github.com/hyper2kvm/hyper2kvm/units"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

func (a *app) listCommand() *cli.Command {
	return &cli.Command{
		Name:      "list",
		Usage:     "list VMs: path, power, CPUs, memory, disks, guest",
		ArgsUsage: "[WORD ...]",
		Description: `With words, only VMs that have each of them in their name, folder, guest, host or
datastores, without regard to accents, and to case unless the word has a capital. As
on the screens, ^word is at the beginning, word$ at the end, !word not there,
'a | b' one or the other, and is:on, is:off, is:suspended and is:template are states.
A word with * or ? is a pattern as -vm of export takes it. Words that begin with a
dash stand behind --.

On a terminal the table fits the width: names are cut in their middle, and columns
that find no room are named below it. Elsewhere, and with -json, everything is whole.`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "columns", Usage: "`NAMES` of columns, with commas between: " + strings.Join(columnNames(), ", ") + "; or all"},
			&cli.StringFlag{Name: "sort", Value: "path", Usage: "`COLUMNS` to sort by, with commas between; numbers come with the largest first"},
			&cli.BoolFlag{Name: "reverse", Usage: "the other way round"},
		},
		Action: a.list,
	}
}

func (a *app) list(ctx context.Context, cmd *cli.Command) error {
	shown, err := chosenColumns(cmd)
	if err != nil {
		return err
	}
	by, err := columnsNamed("-sort", cmd.String("sort"))
	if err != nil {
		return err
	}
	cfg, err := a.config(cmd)
	if err != nil {
		return err
	}
	if a.JSON && cmd.IsSet("columns") {
		return cliargs.Usage("-columns is for the table: -json prints everything that is known of a VM")
	}
	all, err := a.listAll(ctx, cfg)
	if err != nil {
		return err
	}
	vms, err := filtered(all, cmd.Args().Slice(), cfg.Datacenter)
	if err != nil {
		return err
	}
	sortVMs(vms, by, cmd.Bool("reverse"))
	if a.JSON {
		return a.PrintJSON(append([]vsphere.VM{}, vms...))
	}
	return a.printVMs(vms, shown, cmd.IsSet("columns"), len(all))
}

// filtered are the VMs that have all words and match all patterns.
func filtered(all []vsphere.VM, words []string, datacenter string) ([]vsphere.VM, error) {
	vms := slices.Clone(all)
	var search []string
	for _, word := range words {
		if !strings.ContainsAny(word, "*?") {
			search = append(search, word)
			continue
		}
		found, err := vsphere.Select(vms, word, datacenter)
		if err != nil && !errors.Is(err, vsphere.ErrNotFound) {
			return nil, err
		}
		vms = found
	}
	if len(search) > 0 {
		vms = picker.Filter(vms, strings.Join(search, " "))
	}
	return vms, nil
}

// sortVMs sorts by columns, the first the most important, and then by path.
func sortVMs(vms []vsphere.VM, by []column, reverse bool) {
	type keyed struct {
		vm      vsphere.VM
		keys    []string
		numbers []int64
	}
	by = append(slices.Clone(by), columns()[0])
	rows := make([]keyed, len(vms))
	for i, vm := range vms {
		rows[i] = keyed{vm: vm, keys: make([]string, len(by)), numbers: make([]int64, len(by))}
		for j, c := range by {
			if c.number != nil {
				rows[i].numbers[j] = c.number(vm)
			} else {
				rows[i].keys[j] = natural.Fold(c.text(vm))
			}
		}
	}
	slices.SortStableFunc(rows, func(a, b keyed) int {
		for j := range by {
			c := cmp.Or(cmp.Compare(b.numbers[j], a.numbers[j]), natural.CompareFolded(a.keys[j], b.keys[j]))
			if c != 0 && reverse {
				return -c
			}
			if c != 0 {
				return c
			}
		}
		return 0
	})
	for i := range rows {
		vms[i] = rows[i].vm
	}
}

// printVMs prints VMs as a table, and what they come to. chosen says that the columns
// are those that were asked for, so that none of them is left out; of is how many VMs
// there are.
func (a *app) printVMs(vms []vsphere.VM, shown []column, chosen bool, of int) error {
	rows := make([][]string, 0, len(vms)+1)
	rows = append(rows, headers(shown))
	var cpus, memory, disks, used int64
	for _, vm := range vms {
		row := make([]string, len(shown))
		for i, c := range shown {
			row[i] = c.show(vm)
		}
		rows = append(rows, row)
		cpus, memory, disks, used = cpus+int64(vm.CPUs), memory+vm.MemoryMiB<<20, disks+int64(vm.DiskCount), used+vm.CommittedBytes
	}
	var missing []string
	if a.TTY {
		width, _ := a.Size()
		rows, missing = fitTable(rows, shown, width, chosen)
	}
	if err := a.Table(rows, true); err != nil {
		return err
	}
	if len(missing) > 0 {
		a.Info("No room for %s; -columns chooses, and a wider terminal shows more", strings.Join(missing, ", "))
	}
	a.Info("Total: %d CPUs, %s memory, %d disks, %s used", cpus, units.Bytes(memory), disks, units.Bytes(used))
	if len(vms) == of {
		a.Success("Found %d virtual machine(s)", of)
	} else {
		a.Success("Found %d of %d virtual machine(s)", len(vms), of)
	}
	return nil
}
