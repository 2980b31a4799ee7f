package picker

import (
	"strconv"

	"github.com/hyper2kvm/hyper2kvm/tui/cell"
	"github.com/hyper2kvm/hyper2kvm/tui/fuzzy"
	"github.com/hyper2kvm/hyper2kvm/units"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// columns are the widths in cells of what a row shows; 0 leaves a column out.
// A cell apart each, two before the first number.
type columns struct{ name, folder, power, disks, size, guest, problem int }

// marks is the room before the name: cursor, mark, and a cell between.
const marks = 4

// columnsFor divides width. The name gets at least what makes it readable;
// columns that matter less are left out first.
func columnsFor(width int) columns {
	c := columns{power: 5, size: 10}
	if width >= 56 {
		c.disks = 5
	}
	room := width - marks
	for _, w := range []int{c.power, c.size, c.disks} {
		if w > 0 {
			room -= w + 1
		}
	}
	switch {
	case room < 28: // the name alone
	case room < 42:
		c.problem = 11
	case room < 96:
		c.problem = 12 + (room-42)/6
		c.guest = 12 + (room-42)/3
	default:
		c.problem, c.guest = 22, 30
		c.folder = min(40, room/4)
	}
	for _, w := range []int{c.problem, c.guest, c.folder} {
		if w > 0 {
			room -= w + 1
		}
	}
	c.name = max(room, 4)
	return c
}

// header is the line above the list.
func (c columns) header() string {
	s := cell.Spaces(marks) + cell.Fit("NAME", c.name)
	add := func(title string, width int, right bool) {
		switch {
		case width == 0:
		case right:
			s += " " + cell.Right(title, width)
		default:
			s += " " + cell.Fit(title, width)
		}
	}
	add("FOLDER", c.folder, false)
	add("POWER", c.power, false)
	add("DISKS", c.disks, true)
	add("SIZE", c.size, true)
	add("GUEST", c.guest, false)
	add("PROBLEM", c.problem, false)
	return s
}

// line is one VM.
func (c columns) line(vm *vsphere.VM, r *row, query string, marked, under bool) string {
	base, pointer, mark := cell.Plain, " ", " "
	if under {
		base, pointer = cell.Cursor, "❯"
	}
	if marked {
		mark = "●"
	}
	s := base.And(cell.Accent).Paint(pointer+" "+mark) + base.Paint(" ")
	s += c.nameCell(r, query, base)
	if c.folder > 0 {
		s += base.Paint(" ") + found(query, cell.FitTail(r.folder, c.folder), false, base.And(cell.Dim))
	}
	text, style := powerText(vm.Power)
	s += base.Paint(" ") + base.And(style).Paint(cell.Fit(text, c.power))
	if c.disks > 0 {
		s += base.Paint(" " + cell.Right(diskCount(vm), c.disks))
	}
	s += base.Paint(" " + cell.Right(units.Bytes(vm.CommittedBytes), c.size))
	if c.guest > 0 {
		s += base.Paint(" ") + found(query, cell.Fit(r.guest, c.guest), false, base)
	}
	if c.problem > 0 {
		s += base.Paint(" ") + base.And(cell.Warn).Paint(cell.Fit(r.problem, c.problem))
	}
	return s
}

// nameCell is the name, followed by the folder's name where another VM has the
// same.
func (c columns) nameCell(r *row, query string, base cell.Style) string {
	if !r.twin || c.folder > 0 {
		return found(query, cell.Fit(r.name, c.name), true, base)
	}
	name := cell.Clip(r.name, max(c.name*2/3, c.name-cell.Width(r.folder)-1))
	rest := c.name - cell.Width(name) - 1
	return found(query, name, true, base) + base.Paint(" ") + base.And(cell.Dim).Paint(cell.FitTail(r.folder, rest))
}

// found paints text with what the search found in it.
func found(query, text string, name bool, base cell.Style) string {
	if query == "" {
		return base.Paint(text)
	}
	return cell.Highlight(text, fuzzy.Positions(query, text, name), base, cell.Match)
}

// diskCount is how many disks a VM has; some inventories do not tell.
func diskCount(vm *vsphere.VM) string {
	if vm.DiskCount == 0 {
		return "–"
	}
	return strconv.Itoa(vm.DiskCount)
}

func powerText(power string) (string, cell.Style) {
	switch power {
	case vsphere.PoweredOn:
		return "on", cell.Good
	case vsphere.PoweredOff:
		return "off", cell.Dim
	case vsphere.Suspended:
		return "susp", cell.Warn
	}
	return "?", cell.Warn
}
