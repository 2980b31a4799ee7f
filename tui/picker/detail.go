package picker

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/hyper2kvm/hyper2kvm/internal/fuzzy"
	"github.com/hyper2kvm/hyper2kvm/tui/cell"
	"github.com/hyper2kvm/hyper2kvm/units"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// detailPane draws the details of the VM under the cursor. When not everything
// fits, its last line says how much is missing.
func (m *Model) detailPane(width, height int) []string {
	if height <= 0 {
		return nil
	}
	i, ok := m.current()
	if !ok {
		return cell.Block([]string{cell.Rule("", width)}, width, height)
	}
	vm := m.list.vms[i]
	in, known := m.details[vm.Ref]
	state := ""
	switch {
	case m.pending == vm.Ref:
		state = "looking closer …"
	case known && in.Err != nil:
		state = "details: " + cell.Safe(in.Err.Error())
	case known:
		vm = in.VM
	}
	title, _ := cell.FitMiddle(m.list.rows[i].name, min(cell.Width(m.list.rows[i].name), width-6), nil)
	lines := []string{cell.Rule(title, width)}
	lines = append(lines, obstacleLines(in.Obstacles, width)...)
	if known && in.Err == nil && len(in.Obstacles) == 0 {
		lines = append(lines, cell.Good.Paint(" ✓ nothing stands in the way of an export"))
	}
	if state != "" {
		for _, l := range cell.Wrap(state, width-1) {
			lines = append(lines, cell.Dim.Paint(" "+l))
		}
	}
	lines = append(lines, m.facts(vm, width)...)
	if more := len(lines) - height; more > 0 {
		lines = append(lines[:height-1], cell.Dim.Paint(fmt.Sprintf(" … %d more lines; a larger terminal shows them", more+1)))
	}
	return cell.Block(lines, width, height)
}

func obstacleLines(obstacles []vsphere.Obstacle, width int) []string {
	var lines []string
	for _, o := range obstacles {
		mark, style := "!", cell.Warn
		if o.Severity == vsphere.SeverityError {
			mark, style = "✗", cell.Bad
		}
		for _, l := range cell.Wrap(cell.Safe(o.Text), width-3) {
			lines = append(lines, style.Paint(" "+mark+" "+l))
			mark = " "
		}
	}
	return lines
}

// facts are what is known of a VM, the most telling first.
func (m *Model) facts(vm vsphere.VM, width int) []string {
	facts := [][2]string{{"path", vm.Path}, {"hardware", hardware(vm)}}
	for _, d := range vm.Disks {
		facts = append(facts, [2]string{"disk", diskText(d)})
	}
	for _, n := range vm.NICs {
		text := fmt.Sprintf("%s  %s  %s", n.Type, n.MAC, n.Network)
		if !n.Connected {
			text += "  (not connected)"
		}
		facts = append(facts, [2]string{"nic", text})
	}
	storage := units.Bytes(vm.CommittedBytes) + " used"
	if vm.ProvisionedBytes > 0 {
		storage += ", " + units.Bytes(vm.ProvisionedBytes) + " provisioned"
	}
	if len(vm.Datastores) > 0 {
		storage = strings.Join(vm.Datastores, ", ") + "  " + storage
	}
	facts = append(facts,
		[2]string{"guest", cmp.Or(vm.GuestFullName, vm.GuestID)}, [2]string{"host", vm.HostName}, [2]string{"storage", storage},
		[2]string{"note", strings.Join(strings.Fields(vm.Annotation), " ")})
	var lines []string
	for _, f := range facts {
		if f[1] != "" {
			lines = append(lines, m.fact(f[0], cell.Safe(f[1]), width)...)
		}
	}
	return lines
}

// searched are the fields that a search looks at, and that show what it found.
var searched = []string{"path", "guest", "host", "storage"}

// factName is the room for what a fact is called.
const factName = 10

// fact is one fact, in as many lines as it takes.
func (m *Model) fact(name, text string, width int) []string {
	var at []int
	if m.query != "" && slices.Contains(searched, name) {
		at = fuzzy.Positions(m.query, text, false)
	}
	var lines []string
	rest := []rune(text)
	done := 0 // runes of the text that are in lines
	for _, l := range cell.Wrap(text, max(width-factName, 1)) {
		for len(rest) > 0 && !strings.HasPrefix(l, string(rest[0])) { // a space where the line breaks
			rest, done = rest[1:], done+1
		}
		var here []int
		n := utf8.RuneCountInString(l)
		for _, i := range at {
			if done <= i && i < done+n {
				here = append(here, i-done)
			}
		}
		rest, done = rest[min(n, len(rest)):], done+n
		lines = append(lines, cell.Dim.Paint(cell.Fit(" "+name, factName))+cell.Highlight(l, here, cell.Plain, cell.Match))
		name = ""
	}
	return lines
}

// hardware is what a VM has, in a line. Without firmware, nothing but CPUs and
// memory is known.
func hardware(vm vsphere.VM) string {
	text := fmt.Sprintf("%d CPU, %s", vm.CPUs, units.Bytes(vm.MemoryMiB<<20))
	if vm.Firmware != "" {
		text += ", " + firmware(vm) + ", " + snapshots(vm.Snapshots)
	}
	return text
}

func diskText(d vsphere.Disk) string {
	text := fmt.Sprintf("%s  %s %d:%d  [%s] %s", units.Bytes(d.Capacity), d.Controller, d.Bus, d.Unit, d.Datastore, path.Base(d.File))
	if d.Thin {
		text += "  thin"
	}
	if d.RDM != "" {
		text += "  RDM " + d.RDM
	}
	if d.Mode != "" && d.Mode != "persistent" {
		text += "  " + d.Mode
	}
	return text
}

func firmware(vm vsphere.VM) string {
	switch {
	case vm.SecureBoot:
		return "UEFI with secure boot"
	case vm.Firmware == vsphere.EFI:
		return "UEFI"
	}
	return "BIOS"
}

func snapshots(n int) string {
	switch n {
	case 0:
		return "no snapshots"
	case 1:
		return "1 snapshot"
	}
	return fmt.Sprintf("%d snapshots", n)
}
