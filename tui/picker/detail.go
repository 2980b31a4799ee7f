package picker

import (
	"fmt"
	"path"
	"strings"

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
	lines := []string{cell.Rule(m.list.rows[i].name, width)}
	lines = append(lines, obstacleLines(in.Obstacles)...)
	if known && in.Err == nil && len(in.Obstacles) == 0 {
		lines = append(lines, cell.Good.Paint(" ✓ nothing stands in the way of an export"))
	}
	if state != "" {
		lines = append(lines, cell.Dim.Paint(" "+state))
	}
	lines = append(lines, m.facts(vm)...)
	if more := len(lines) - height; more > 0 {
		lines = append(lines[:height-1], cell.Dim.Paint(fmt.Sprintf(" … %d more lines; a larger terminal shows them", more+1)))
	}
	return cell.Block(lines, width, height)
}

func obstacleLines(obstacles []vsphere.Obstacle) []string {
	var lines []string
	for _, o := range obstacles {
		mark, style := "!", cell.Warn
		if o.Severity == vsphere.SeverityError {
			mark, style = "✗", cell.Bad
		}
		lines = append(lines, style.Paint(" "+mark+" "+cell.Safe(o.Text)))
	}
	return lines
}

// facts are what is known of a VM, the most telling first.
func (m *Model) facts(vm vsphere.VM) []string {
	lines := []string{
		fact("path", m.searched(vm.Path)),
		fact("hardware", hardware(vm)),
	}
	for _, d := range vm.Disks {
		lines = append(lines, fact("disk", diskText(d)))
	}
	for _, n := range vm.NICs {
		text := fmt.Sprintf("%s  %s  %s", n.Type, n.MAC, n.Network)
		if !n.Connected {
			text += "  (not connected)"
		}
		lines = append(lines, fact("nic", cell.Safe(text)))
	}
	guest := vm.GuestFullName
	if guest == "" {
		guest = vm.GuestID
	}
	storage := units.Bytes(vm.CommittedBytes) + " used"
	if vm.ProvisionedBytes > 0 {
		storage += ", " + units.Bytes(vm.ProvisionedBytes) + " provisioned"
	}
	if len(vm.Datastores) > 0 {
		storage = m.searched(strings.Join(vm.Datastores, ", ")) + "  " + storage
	}
	for _, f := range [][2]string{
		{"guest", m.searched(guest)},
		{"host", m.searched(vm.HostName)},
		{"storage", storage},
		{"note", cell.Safe(strings.Join(strings.Fields(vm.Annotation), " "))},
	} {
		if f[1] != "" {
			lines = append(lines, fact(f[0], f[1]))
		}
	}
	return lines
}

// searched is text with what the search found in it.
func (m *Model) searched(text string) string {
	return found(m.query, cell.Safe(text), false, cell.Plain)
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

func fact(name, text string) string {
	return " " + cell.Dim.Paint(cell.Fit(name, 9)) + text
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
	return cell.Safe(text)
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
