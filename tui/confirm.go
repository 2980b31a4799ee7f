package tui

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/hyper2kvm/hyper2kvm/internal/atomicfile"
	"github.com/hyper2kvm/hyper2kvm/tui/cell"
	"github.com/hyper2kvm/hyper2kvm/tui/plan"
	"github.com/hyper2kvm/hyper2kvm/tui/runs"
	"github.com/hyper2kvm/hyper2kvm/units"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// Bounds of the last page: VMs that are checked before the start, and VMs that
// are listed and worded as commands. Every VM is checked again when its turn
// comes, and the job file has them all.
const (
	maxChecked = 40
	maxListed  = 40
)

// accepted starts the jobs; refused goes back.
type (
	accepted struct{}
	refused  struct{}
)

// checked is what preflight says about one VM of the plan.
type checked struct {
	page      *confirmation // that asked
	vm        int
	found     vsphere.VM // with its disks, where they could be seen
	obstacles []vsphere.Obstacle
	err       error
}

// confirmation is the last page: what will happen, and how to repeat it.
type confirmation struct {
	s       services
	vms     []vsphere.VM
	free    int64 // bytes at the output directory, negative when nobody knows
	choices plan.Choices
	specs   []runs.Spec
	jobFile string
	size    tea.WindowSizeMsg

	top      int
	findings map[int]checked
	starting bool
	trouble  string
	notice   string
}

func newConfirmation(s services, vms []vsphere.VM, free int64, c plan.Choices) *confirmation {
	p := &confirmation{s: s, vms: slices.Clone(vms), free: free, choices: c, specs: plan.Jobs(vms, c), findings: map[int]checked{}}
	var err error
	if p.jobFile, err = plan.JobFile(p.specs); err != nil {
		p.trouble = err.Error()
	}
	return p
}

// check looks for obstacles, one VM after the other: the answers come in order
// and spare the vCenter.
func (p *confirmation) check() tea.Cmd { return p.checkFrom(0) }

func (p *confirmation) checkFrom(i int) tea.Cmd {
	if i >= min(len(p.vms), maxChecked) {
		return nil
	}
	vm, o := p.vms[i], p.specs[i].Def.Options
	return p.s.do(func(ctx context.Context) tea.Msg {
		ctx, cancel := context.WithTimeout(ctx, inspectTime)
		defer cancel()
		found, obstacles, err := p.s.inspect(ctx, vm, vsphere.PreflightOptions{Snapshot: o.Snapshot, RemoveCDROM: o.RemoveCDROM})
		return checked{page: p, vm: i, found: found, obstacles: obstacles, err: err}
	})
}

// take takes in what preflight says of a VM, and asks about the next.
func (p *confirmation) take(c checked) tea.Cmd {
	p.findings[c.vm] = c
	if len(c.found.Disks) > 0 {
		p.vms[c.vm] = c.found
	}
	return p.checkFrom(c.vm + 1)
}

func (p *confirmation) fail(err error) {
	p.starting, p.trouble = false, err.Error()
}

// refusals counts the VMs that preflight refuses.
func (p *confirmation) refusals() int {
	n := 0
	for _, f := range p.findings {
		if fatal(f.obstacles) {
			n++
		}
	}
	return n
}

func fatal(obstacles []vsphere.Obstacle) bool {
	for _, o := range obstacles {
		if o.Severity == vsphere.SeverityError {
			return true
		}
	}
	return false
}

// Update takes one message.
func (p *confirmation) Update(msg tea.Msg) tea.Cmd {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		p.size = msg
	case tea.KeyPressMsg:
		return p.key(msg.String())
	}
	return nil
}

func (p *confirmation) key(key string) tea.Cmd {
	page := max(p.size.Height-3, 1)
	p.notice = ""
	switch key {
	case "up", "k":
		p.top--
	case "down", "j":
		p.top++
	case "pgup":
		p.top -= page
	case "pgdown", "space":
		p.top += page
	case "home":
		p.top = 0
	case "end":
		p.top = 1 << 20
	case "esc":
		if p.starting {
			return nil // back and on again would start everything twice
		}
		return func() tea.Msg { return refused{} }
	case "w":
		p.save()
	case "enter":
		refuse, _ := plan.CheckSpace(p.vms, p.choices, p.free)
		switch {
		case p.starting:
		case refuse != "":
			p.trouble = refuse
		case p.refusals() == len(p.vms):
			p.trouble = "every VM is refused: go back and change the options, or mend what is named above"
		default:
			p.starting, p.trouble = true, ""
			return func() tea.Msg { return accepted{} }
		}
	}
	return nil
}

// save writes the job file into the working directory.
func (p *confirmation) save() {
	const name = "hyper2kvm-jobs.yaml"
	if err := atomicfile.Write(name, []byte(p.jobFile), 0o600); err != nil {
		p.trouble = err.Error()
		return
	}
	p.notice = "the job file is written: " + name
	if dir, err := os.Getwd(); err == nil {
		p.notice += " in " + dir
	}
}

// View draws the page.
func (p *confirmation) View() tea.View {
	width, height := p.size.Width, p.size.Height
	body := p.body(width)
	room := max(height-2, 1)
	p.top = max(min(p.top, len(body)-room), 0)
	page := "confirm"
	if len(body) > room {
		page = fmt.Sprintf("confirm, %d%%", (p.top+room)*100/len(body))
	}
	lines := append([]string{titleLine(p.s.title, page, width)}, cell.Block(body[p.top:], width, room)...)
	v := tea.NewView(strings.Join(append(lines, p.helpLine(width)), "\n"))
	v.AltScreen = true
	return v
}

func (p *confirmation) helpLine(width int) string {
	switch {
	case p.trouble != "":
		return cell.Fit(cell.Bad.Paint(" ✗ "+cell.Safe(strings.ReplaceAll(p.trouble, "\n", "; "))), width)
	case p.notice != "":
		return cell.Fit(" "+cell.Good.Paint(cell.Safe(p.notice)), width)
	case p.starting:
		return cell.Fit(cell.Dim.Paint(" starting …"), width)
	}
	return cell.Keys(width, "enter start", "esc back", "↑↓ scroll", "w write job file", "ctrl-c leave")
}

// body is the text of the page.
func (p *confirmation) body(width int) []string {
	need := plan.Need(p.vms, p.choices).AtMost
	lines := []string{
		fmt.Sprintf(" Export %s, at most %s, to %s", cell.Bold.Paint(vmsText(len(p.vms))), units.Bytes(need), cell.Bold.Paint(cell.Safe(p.choices.Output))),
		"",
	}
	lines = append(lines, p.vmLines(width)...)
	lines = append(lines, "", heading("What happens"))
	for _, s := range plan.Steps(p.vms, p.choices) {
		lines = append(lines, wrapped(" • ", s, width)...)
	}
	lines = append(lines, "", heading("The same without these screens"))
	lines = append(lines, p.commandLines(width)...)
	lines = append(lines, "", heading("The same as a job file")+cell.Dim.Paint(" (w writes it; h2kvmctl submit -file takes it)"))
	for _, s := range strings.Split(strings.TrimRight(p.jobFile, "\n"), "\n") {
		lines = append(lines, " "+cell.Safe(s))
	}
	return lines
}

func heading(s string) string { return " " + cell.Heading.Paint(s) }

// wrapped breaks s into lines of width, the first after mark, the others
// indented as much.
func wrapped(mark, s string, width int) []string {
	lines := cell.Wrap(s, width-cell.Width(mark)-1)
	for i := range lines {
		if i == 0 {
			lines[i] = mark + lines[i]
		} else {
			lines[i] = cell.Spaces(cell.Width(mark)) + lines[i]
		}
	}
	return lines
}

// vmLines lists the VMs, where each goes, and what preflight found.
func (p *confirmation) vmLines(width int) []string {
	var lines []string
	name := min(max(width/3, 12), 40)
	for i, vm := range p.vms[:min(len(p.vms), maxListed)] {
		mark, note := cell.Dim.Paint("·"), ""
		f, known := p.findings[i]
		switch {
		case !known && i < maxChecked:
			note = cell.Dim.Paint("  checking …")
		case known && f.err != nil:
			mark, note = cell.Warn.Paint("?"), cell.Warn.Paint("  cannot be checked: "+cell.Safe(f.err.Error()))
		case fatal(f.obstacles):
			mark, note = cell.Bad.Paint("✗"), cell.Bad.Paint("  will be refused")
		case known:
			mark = cell.Good.Paint("✓")
		}
		line := fmt.Sprintf(" %s %s %s  → %s", mark, cell.Fit(cell.Safe(vm.DisplayName()), name),
			cell.Right(units.Bytes(vm.CommittedBytes), 10), cell.Safe(p.place(i)))
		lines = append(lines, line+note)
		for _, o := range f.obstacles {
			style := cell.Warn
			if o.Severity == vsphere.SeverityError {
				style = cell.Bad
			}
			text := o.Text
			if o.Hint != "" {
				text += " (" + o.Hint + ")"
			}
			for _, s := range wrapped("     ", cell.Safe(text), width) {
				lines = append(lines, style.Paint(s))
			}
		}
	}
	if more := len(p.vms) - maxListed; more > 0 {
		lines = append(lines, cell.Dim.Paint(fmt.Sprintf("   and %d more; each is checked when its turn comes", more)))
	}
	return lines
}

// place is where a VM goes, in short.
func (p *confirmation) place(i int) string {
	dir := p.specs[i].Def.OutputPath
	if rel, err := filepath.Rel(p.choices.Output, dir); err == nil && rel != "." {
		return rel + "/"
	}
	return dir
}

func (p *confirmation) commandLines(width int) []string {
	if p.s.command != "" {
		return commandLine(p.s.command, width)
	}
	var lines []string
	for _, s := range p.specs[:min(len(p.specs), maxListed)] {
		lines = append(lines, commandLine(plan.Command(s.Def, p.s.pinned), width)...)
	}
	if more := len(p.specs) - maxListed; more > 0 {
		lines = append(lines, cell.Dim.Paint(fmt.Sprintf(" and %d more", more)))
	}
	return lines
}

// commandLine breaks a command between its words so that a shell takes the lines
// for one. A word that alone is too long is broken all the same.
func commandLine(command string, width int) []string {
	var lines []string
	line := ""
	for _, word := range plan.Words(cell.Safe(command)) {
		if line != "" && cell.Width(line)+cell.Width(word)+4 > width {
			lines = append(lines, line+" \\")
			line = "  "
		}
		line += " " + word
	}
	var out []string
	for _, l := range append(lines, line) {
		for cell.Width(l) > width && width > 1 {
			head := ansi.TruncateWc(l, width, "")
			out, l = append(out, head), l[len(head):]
		}
		out = append(out, l)
	}
	return out
}
