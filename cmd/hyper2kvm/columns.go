package main

import (
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
	"github.com/hyper2kvm/hyper2kvm/progress/display"
	"github.com/hyper2kvm/hyper2kvm/tui/cell"
	"github.com/hyper2kvm/hyper2kvm/units"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// column is what a table of VMs can show of each: a text, or a number.
type column struct {
	name   string
	text   func(vsphere.VM) string
	number func(vsphere.VM) int64
	unit   func(int64) string // how the number is written
	least  int                // cells down to which it may be cut; 0 is never
	rank   int                // the highest are left out first; 0 is never, onRequest is unless it is asked for
}

// onRequest is the rank of columns that are shown only when they are asked for.
const onRequest = 100

func count(n int64) string { return strconv.FormatInt(n, 10) }

// columns are all that there are, in the order in which they are shown.
func columns() []column {
	return []column{
		{name: "path", least: 28, text: func(vm vsphere.VM) string { return vm.Path }},
		{name: "name", least: 16, rank: onRequest, text: vsphere.VM.DisplayName},
		{name: "power", rank: 1, text: func(vm vsphere.VM) string { return vm.Power }},
		{name: "cpus", rank: 4, unit: count, number: func(vm vsphere.VM) int64 { return int64(vm.CPUs) }},
		{name: "memory", rank: 3, unit: units.Bytes, number: func(vm vsphere.VM) int64 { return vm.MemoryMiB << 20 }},
		{name: "disks", rank: 5, unit: count, number: func(vm vsphere.VM) int64 { return int64(vm.DiskCount) }},
		{name: "used", rank: 2, unit: units.Bytes, number: func(vm vsphere.VM) int64 { return vm.CommittedBytes }},
		{name: "guest", least: 10, rank: 6, text: func(vm vsphere.VM) string { return vm.GuestFullName }},
		{name: "datacenter", least: 10, rank: onRequest, text: func(vm vsphere.VM) string { return vm.Datacenter }},
		{name: "host", least: 10, rank: onRequest, text: func(vm vsphere.VM) string { return vm.HostName }},
		{name: "datastores", least: 10, rank: onRequest, text: func(vm vsphere.VM) string { return strings.Join(vm.Datastores, ", ") }},
		{name: "networks", least: 10, rank: onRequest, text: func(vm vsphere.VM) string { return strings.Join(vm.Networks, ", ") }},
		{name: "uuid", rank: onRequest, text: func(vm vsphere.VM) string { return vm.InstanceUUID }},
		{name: "bios-uuid", rank: onRequest, text: func(vm vsphere.VM) string { return vm.BIOSUUID }},
		{name: "ref", rank: onRequest, text: func(vm vsphere.VM) string { return vm.Ref }},
		{name: "template", rank: onRequest, text: func(vm vsphere.VM) string {
			if vm.Template {
				return "yes"
			}
			return ""
		}},
	}
}

// show is what the table has of a VM, safe for a terminal.
func (c column) show(vm vsphere.VM) string {
	if c.number != nil {
		return c.unit(c.number(vm))
	}
	return display.SafeText(c.text(vm))
}

func columnNames() []string {
	var names []string
	for _, c := range columns() {
		names = append(names, c.name)
	}
	return names
}

// chosenColumns are those that -columns names, or else the usual ones.
func chosenColumns(cmd *cli.Command) ([]column, error) {
	all := columns()
	switch names := cmd.String("columns"); {
	case !cmd.IsSet("columns"):
		return slices.DeleteFunc(all, func(c column) bool { return c.rank == onRequest }), nil
	case strings.EqualFold(strings.TrimSpace(names), "all"):
		return all, nil
	default:
		return columnsNamed("-columns", names)
	}
}

// columnsNamed are the columns of a list of names; flag is where it stands.
func columnsNamed(flag, names string) ([]column, error) {
	all := columns()
	var out []column
	for name := range strings.SplitSeq(names, ",") {
		name = strings.ToLower(strings.TrimSpace(name))
		i := slices.IndexFunc(all, func(c column) bool { return c.name == name })
		if i < 0 {
			return nil, cliargs.Usage("%s: there is no column %q; there are %s", flag, name, strings.Join(columnNames(), ", "))
		}
		if !slices.ContainsFunc(out, func(c column) bool { return c.name == name }) {
			out = append(out, all[i])
		}
	}
	return out, nil
}

func headers(columns []column) []string {
	row := make([]string, len(columns))
	for i, c := range columns {
		row[i] = strings.ToUpper(c.name)
	}
	return row
}

// fitTable cuts the cells of a boxed table, the first row of which is its header, so
// that it is no wider than width where that is possible. Texts are cut first, those of
// the highest rank before others. Where that is not enough, columns are left out, unless
// keep is set; missing are their titles.
func fitTable(rows [][]string, columns []column, width int, keep bool) (fitted [][]string, missing []string) {
	whole := make([]int, len(columns))
	for _, row := range rows {
		for i, text := range row {
			whole[i] = max(whole[i], cell.Width(text))
		}
	}
	gone := make([]bool, len(columns))
	widths, fits := shrunk(whole, columns, gone, width)
	for !fits && !keep {
		out := 0
		for i, c := range columns {
			if !gone[i] && c.rank > columns[out].rank || gone[out] {
				out = i
			}
		}
		if columns[out].rank == 0 {
			widths[out] = min(widths[out], max(width-box-1, 1))
			break
		}
		gone[out] = true
		widths, fits = shrunk(whole, columns, gone, width)
	}
	fitted = make([][]string, len(rows))
	for r, row := range rows {
		for i, text := range row {
			if gone[i] {
				if r == 0 {
					missing = append(missing, text)
				}
				continue
			}
			if cell.Width(text) > widths[i] {
				text, _ = cell.FitMiddle(text, widths[i], nil)
			}
			fitted[r] = append(fitted[r], text)
		}
	}
	return fitted, missing
}

// box is what a cell of a boxed table takes beside its text: a line, and a space at
// each side.
const box = 3

// shrunk takes from the widths of texts until the columns that are not gone fit, and
// reports whether they do.
func shrunk(whole []int, columns []column, gone []bool, width int) (widths []int, fits bool) {
	widths = slices.Clone(whole)
	for {
		total, cut := 1, -1
		for i, c := range columns {
			if gone[i] {
				continue
			}
			total += widths[i] + box
			if c.least == 0 || widths[i] <= max(c.least, len(c.name)) {
				continue
			}
			if cut < 0 || c.rank > columns[cut].rank || c.rank == columns[cut].rank && widths[i] > widths[cut] {
				cut = i
			}
		}
		if total <= width {
			return widths, true
		}
		if cut < 0 {
			return widths, false
		}
		widths[cut]--
	}
}
