package picker

import (
	"slices"
	"strconv"

	"github.com/hyper2kvm/hyper2kvm/internal/fuzzy"
	"github.com/hyper2kvm/hyper2kvm/tui/cell"
	"github.com/hyper2kvm/hyper2kvm/units"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// columns are the widths in cells of what a row shows; 0 leaves a column out.
// A cell apart each, two before the first number.
type columns struct{ name, folder, power, disks, size, guest, problem int }

// marks is the room before the name: cursor, mark, and a cell between.
const marks = 4

// wants are the widths that show a column whole.
type wants struct{ name, folder, guest int }

// twinFolder is how much of its folder a VM shows beside its name where another has
// the same.
const twinFolder = 24

// wantsOf measures what rows show. Of a hundred names one may be longer: a single
// one is no reason to take the room from the columns of all.
func wantsOf(rows []row) wants {
	var w wants
	names := make([]int, len(rows))
	for i := range rows {
		r := &rows[i]
		names[i] = cell.Width(r.name)
		w.folder = max(w.folder, cell.Width(r.folder))
		w.guest = max(w.guest, cell.Width(r.guest))
		if r.twin {
			names[i] += 1 + min(cell.Width(r.folder), twinFolder)
		}
	}
	slices.Sort(names)
	w.name = cell.Width("NAME")
	if n := len(names); n > 0 {
		w.name = max(w.name, names[n-1-n/100])
	}
	return w
}

// Widths in cells at which columns are of use, and those beyond which they are not.
const (
	leastName                 = 24
	leastProblem, mostProblem = 11, 22
	leastGuest, mostGuest     = 12, 30
	leastFolder, mostFolder   = 12, 40
)

// columnsFor divides width. The name comes first: other texts are there when it is
// whole without their room, and grow with what it does not need; it gets the rest.
// A column of problems is worth some of the name, which is cut in its middle. Sorted
// by folder, the folder is shown instead of the guest where there is room for one.
func columnsFor(width int, w wants, by order) columns {
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
	take := func(column *int, least, name int) {
		if room-least-1 >= name {
			*column, room = least, room-least-1
		}
	}
	take(&c.problem, leastProblem, min(w.name, leastName))
	if by == byFolder {
		take(&c.folder, leastFolder, min(w.name, leastName))
	}
	grow := func(column *int, most int) {
		if *column > 0 && most > *column {
			more := min(most-*column, max(room-w.name, 0))
			*column, room = *column+more, room-more
		}
	}
	take(&c.guest, leastGuest, w.name)
	grow(&c.guest, min(w.guest, mostGuest))
	if by != byFolder {
		take(&c.folder, leastFolder, w.name)
	}
	grow(&c.folder, min(w.folder, mostFolder))
	grow(&c.problem, mostProblem)
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
		s += base.Paint(" ") + found(query, cell.FitTail(r.folder, c.folder), base.And(cell.Dim))
	}
	text, style := powerText(vm.Power)
	s += base.Paint(" ") + base.And(style).Paint(cell.Fit(text, c.power))
	if c.disks > 0 {
		s += base.Paint(" " + cell.Right(diskCount(vm), c.disks))
	}
	s += base.Paint(" " + cell.Right(units.Bytes(vm.CommittedBytes), c.size))
	if c.guest > 0 {
		s += base.Paint(" ") + found(query, cell.Fit(r.guest, c.guest), base)
	}
	if c.problem > 0 {
		s += base.Paint(" ") + base.And(cell.Warn).Paint(cell.Fit(r.problem, c.problem))
	}
	return s
}

// nameCell is the name, followed by the folder's name where another VM has the
// same.
func (c columns) nameCell(r *row, query string, base cell.Style) string {
	width, rest := c.name, 0
	if r.twin && c.folder == 0 {
		width = min(cell.Width(r.name), max(c.name*2/3, c.name-cell.Width(r.folder)-1))
		rest = c.name - width - 1
	}
	var at []int
	if query != "" {
		at = fuzzy.Positions(query, r.name, true)
	}
	text, at := cell.FitMiddle(r.name, width, at)
	text = cell.Highlight(text, at, base, cell.Match)
	if rest <= 0 {
		return text + base.Paint(cell.Spaces(c.name-width))
	}
	return text + base.Paint(" ") + base.And(cell.Dim).Paint(cell.FitTail(r.folder, rest))
}

// found paints text, of another field than the name, with what the search found in
// it.
func found(query, text string, base cell.Style) string {
	if query == "" {
		return base.Paint(text)
	}
	return cell.Highlight(text, fuzzy.Positions(query, text, false), base, cell.Match)
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
