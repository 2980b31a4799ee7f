package tui

import (
	"fmt"
	"slices"
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
	snapshot.Hidden = func() bool { return w.running() == 0 || o.Stops() }
	shutdown := asSwitch("shutdown", &o.Shutdown)
	shutdown.Hidden = func() bool { return w.running() == 0 }
	convert := asSwitch("convert", &o.Convert)
	convert.Hidden = virtio.Hidden
	atOnce := form.Number("VMs at a time", &w.choices.VMs, 1, maxVMs, "Each ESXi host sends a disk at its own speed; VMs of several hosts add up.")
	atOnce.Hidden = func() bool { return w.s.leavable || len(w.chosen) < 2 }
	asked := []*form.Field{
		asChoice("format", &w.format),
		form.Text("Output directory", &w.choices.Output, "Made if it is not there. Of several VMs, each gets a directory of its own in it."),
		atOnce,
		asNumber("parallel_downloads", &o.ParallelDownloads),
		snapshot,
		shutdown,
		asSwitch("remove_cdrom", &o.RemoveCDROM),
		convert,
		virtio,
		compress,
		transport,
		asSwitch("overwrite", &o.Overwrite),
	}
	asked = append(asked, w.networkFields()...)
	return form.New(append(asked, w.moreFields()...)...)
}

// moreFields are the questions that few need: a switch, and what it shows. What is
// answered stays on the page.
func (w *wizard) moreFields() []*form.Field {
	o := &w.choices.Options
	streams := func() bool { return job.Format(w.format).Streams() }
	elsewhere := func() bool { return streams() || o.Libvirt == "" }
	idle := func() bool { return w.running() == 0 }
	all := []*form.Field{form.Switch("More options", &w.more, "What becomes of the source and of the images afterwards: addresses, marks, landing at libvirt, landing kits, bandwidth.")}
	add := func(f *form.Field, open func() bool, meaningless ...func() bool) {
		f.Hidden = func() bool {
			return !w.more && !open() || slices.ContainsFunc(meaningless, func(is func() bool) bool { return is() })
		}
		all = append(all, f)
	}
	yesNo := func(key string, value *bool, meaningless ...func() bool) {
		add(asSwitch(key, value), func() bool { return *value }, meaningless...)
	}
	text := func(key string, value *string, meaningless ...func() bool) {
		add(asText(key, value), func() bool { return *value != "" }, meaningless...)
	}
	yesNo("keep_ip", &o.KeepIP, streams)
	yesNo("power_off", &o.PowerOff, idle)
	text("shutdown_timeout", &o.ShutdownTimeout, idle, func() bool { return !o.Shutdown })
	text("finish", &o.Finish)
	text("libvirt", &o.Libvirt, streams)
	text("pool", &o.Pool, elsewhere)
	yesNo("define", &o.Define, elsewhere)
	yesNo("start", &o.Start, elsewhere)
	text("for", &o.For, streams)
	text("limit", &o.Limit)
	return all
}

// meant are the options without answers to questions that are not on the page any more.
func (w *wizard) meant() job.Options {
	o := w.choices.Options
	o.Format = job.Format(w.format)
	if o.Format != job.FormatQcow2 {
		o.Compress = false
	}
	o.Transport = ""
	if w.transport != string(job.TransportNFC) {
		o.Transport = job.Transport(w.transport)
	}
	o.NetworkMap = w.networkMap()
	if o.Format.Streams() {
		o.Virtio, o.Convert, o.KeepIP, o.Transport, o.NetworkMap, o.For, o.Libvirt = false, false, false, "", nil, "", ""
	}
	if o.Libvirt == "" {
		o.Landing = job.Landing{}
	}
	if w.running() == 0 {
		o.Snapshot, o.Shutdown, o.PowerOff = false, false, false
	}
	if o.Stops() {
		o.Snapshot = false
	}
	if !o.Shutdown {
		o.ShutdownTimeout = ""
	}
	return o
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

func asText(key string, value *string) *form.Field {
	f := fields.Of(key)
	return form.Text(f.Label, value, f.Help+" For example "+f.Example+".")
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
		cut := min(over, y)
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
