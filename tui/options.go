package tui

import (
	"fmt"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/job/fields"
	"github.com/hyper2kvm/hyper2kvm/tui/cell"
	"github.com/hyper2kvm/hyper2kvm/tui/form"
	"github.com/hyper2kvm/hyper2kvm/tui/plan"
	"github.com/hyper2kvm/hyper2kvm/units"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// maxVMs is how many VMs may run at a time.
const maxVMs = 16

// newForm is the page of options.
func (w *wizard) newForm() *form.Model {
	o := &w.choices.Options
	virtio := asSwitch("virtio", &o.Virtio)
	virtio.Hidden = func() bool { return job.Format(w.format).Streams() }
	compress := asSwitch("compress", &o.Compress)
	compress.Hidden = func() bool { return w.format != string(job.FormatQcow2) }
	transport := asChoice("transport", &w.transport)
	transport.Hidden = func() bool { return job.Format(w.format).Streams() }
	snapshot := asSwitch("snapshot", &o.Snapshot)
	snapshot.Hidden = func() bool { return w.running() == 0 }
	atOnce := form.Number("VMs at a time", &w.choices.VMs, 1, maxVMs, "Each ESXi host sends a disk at its own speed; VMs of several hosts add up.")
	atOnce.Hidden = func() bool { return w.s.leavable || len(w.chosen) < 2 }
	asked := []*form.Field{
		asChoice("format", &w.format),
		form.Text("Output directory", &w.choices.Output, "Made if it is not there. Of several VMs, each gets a directory of its own in it."),
		atOnce,
		asNumber("parallel_downloads", &o.ParallelDownloads),
		snapshot,
		asSwitch("remove_cdrom", &o.RemoveCDROM),
		virtio,
		compress,
		transport,
		asSwitch("overwrite", &o.Overwrite),
	}
	return form.New(append(asked, w.networkFields()...)...)
}

// asSwitch, asNumber and asChoice ask for an option in the words that it has
// everywhere.
func asSwitch(key string, value *bool) *form.Field {
	f := fields.Of(key)
	return form.Switch(f.Label, value, f.Help)
}

func asNumber(key string, value *int) *form.Field {
	f := fields.Of(key)
	return form.Number(f.Label, value, f.Least, f.Most, f.Help)
}

func asChoice(key string, value *string) *form.Field {
	f := fields.Of(key)
	return form.Choice(f.Label, value, f.Choices, f.Help)
}

// running counts the chosen VMs that are not off.
func (w *wizard) running() int {
	n := 0
	for _, vm := range w.chosen {
		if vm.Power != vsphere.PoweredOff {
			n++
		}
	}
	return n
}

// optionsView draws the page of options.
func (w *wizard) optionsView() tea.View {
	width, height := w.size.Width, w.size.Height
	need := plan.Need(w.chosen, w.final()).AtMost
	lines := []string{
		titleLine(w.s.title, "options", width),
		cell.Fit(" "+cell.Bold.Paint(vmsText(len(w.chosen)))+cell.Dim.Paint(", "+units.Bytes(need)+" on datastores"+w.runningText()), width),
		"",
	}
	asked, x, y := w.page.Lines(width)
	top := len(lines)
	lines = append(lines, asked...)
	lines = append(lines, "", w.spaceLine(need, width))
	if w.trouble != "" {
		for i, s := range cell.Wrap(cell.Safe(w.trouble), width-5) {
			mark := " ✗ "
			if i > 0 {
				mark = "   "
			}
			lines = append(lines, cell.Bad.Paint(mark+s))
		}
	}
	if over := len(lines) - (height - 1); over > 0 {
		// On a small screen the line of the cursor stays.
		cut := min(over, max(y, 0))
		lines = append(lines[:top], lines[top+cut:]...)
		y -= cut
		lines = lines[:min(len(lines), max(height-1, 1))]
	}
	lines = append(cell.Block(lines, width, height-1), cell.Keys(width, "↑↓ choose", "←→ change", "enter next", "esc back", "ctrl-c leave"))
	v := tea.NewView(strings.Join(lines, "\n"))
	v.AltScreen = true
	if x >= 0 && top+y < height-1 {
		v.Cursor = tea.NewCursor(x, top+y)
		v.Cursor.Blink = false
	}
	return v
}

func (w *wizard) runningText() string {
	if n := w.running(); n > 0 {
		return fmt.Sprintf(", %d not powered off", n)
	}
	return ""
}

// spaceLine compares what is free with what is needed.
func (w *wizard) spaceLine(need int64, width int) string {
	if w.s.leavable {
		return cell.Fit(cell.Dim.Paint("   The directory is on the daemon's machine, which checks it before a byte moves."), width)
	}
	if w.free < 0 {
		return cell.Fit(cell.Dim.Paint("   Free space: not known"), width)
	}
	style, mark, text := cell.Good, " ✓ ", fmt.Sprintf("%s free, at most %s needed", units.Bytes(w.free), units.Bytes(need))
	refuse, warn := plan.CheckSpace(w.chosen, w.final(), w.free)
	switch {
	case refuse != "":
		style, mark, text = cell.Bad, " ✗ ", "It cannot fit: "+refuse
	case warn != "":
		style, mark, text = cell.Warn, " ! ", warn
	}
	return cell.Fit(style.Paint(mark+text), width)
}

// titleLine heads every page but the picker's.
func titleLine(title, page string, width int) string {
	return cell.Edges(" "+cell.Heading.Paint("hyper2kvm")+"  "+cell.Safe(title), cell.Dim.Paint(page+" "), width)
}

func vmsText(n int) string {
	if n == 1 {
		return "1 VM"
	}
	return fmt.Sprintf("%d VMs", n)
}
