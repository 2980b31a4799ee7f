package monitor

import (
	"fmt"
	"path/filepath"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/hyper2kvm/hyper2kvm/job/outcome"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/progress/display"
	"github.com/hyper2kvm/hyper2kvm/tui/cell"
	"github.com/hyper2kvm/hyper2kvm/tui/runs"
	"github.com/hyper2kvm/hyper2kvm/units"
)

// listTop is the line of the screen on which the list begins.
const listTop = 2

// View draws the screen.
func (m *Model) View() tea.View {
	log := m.logHeight()
	rows := m.listHeight()
	lines := []string{m.title(), m.totalLine()}
	if m.help {
		lines = append(lines, cell.Block(helpText(m.o), m.width, rows+log)...)
	} else {
		lines = append(lines, m.rows(rows)...)
		lines = append(lines, m.logPane(log)...)
	}
	lines = append(lines, m.helpLine())
	for i := range lines {
		lines[i] = cell.Clip(lines[i], m.width)
	}
	v := tea.NewView(strings.Join(lines[:min(len(lines), max(m.height, 1))], "\n"))
	v.AltScreen = true
	v.MouseMode = tea.MouseModeCellMotion
	return v
}

func (m *Model) logHeight() int {
	if m.height < 14 {
		return 0
	}
	return min(max(m.height/3, 4), 12, max(len(m.log)+1, 4))
}

func (m *Model) listHeight() int { return max(m.height-listTop-1-m.logHeight(), 1) }

// arrange brings the list up to date.
func (m *Model) arrange() {
	m.list.height = m.listHeight()
	m.list.arrange(m.jobs, m.fits)
}

// fits reports whether jobs have room with everything that can be said of them.
func (m *Model) fits(jobs []int) bool {
	n := 0
	for _, i := range jobs {
		if n += 1 + len(m.below(i)); n > m.list.height {
			return false
		}
	}
	return true
}

func (m *Model) title() string {
	counts := map[runs.State]int{}
	for _, s := range m.jobs {
		counts[s.State]++
	}
	var parts []string
	for _, state := range []runs.State{runs.Running, runs.Waiting, runs.Paused, runs.Stopping, runs.Done, runs.Failed, runs.Cancelled} {
		if n := counts[state]; n > 0 {
			parts = append(parts, stateStyle(state).Paint(fmt.Sprintf("%d %s", n, state)))
		}
	}
	return cell.Edges(" "+cell.Heading.Paint("hyper2kvm")+"  "+cell.Safe(m.o.Title), strings.Join(parts, ", ")+" ", m.width)
}

// totalLine is how far all jobs are together, and when they end.
func (m *Model) totalLine() string {
	if m.open() == 0 {
		return cell.Fit(" "+cell.Bold.Paint("finished")+": "+m.outcome(), m.width)
	}
	percent := m.all.Percent()
	parts := []string{
		fmt.Sprintf(" %5.1f%%", percent),
		fmt.Sprintf("  %s of %s", units.Bytes(m.all.Position()), units.Bytes(m.all.Total())),
		"  " + display.Flow(m.total),
		"", "",
	}
	if m.total.Remaining >= 0 {
		parts[3] = "  " + display.Duration(m.total.Remaining) + " left"
		parts[4] = ", ends " + display.EndOf(m.total, m.now)
	}
	const label, least = " total ", 6 // the bar is at least so wide
	for _, i := range []int{1, 4, 2} {
		if len(label)+least+cell.Width(strings.Join(parts, "")) > m.width {
			parts[i] = "" // what matters least goes first
		}
	}
	info := strings.Join(parts, "")
	bar := cell.Bar(percent/100, min(m.width-len(label)-cell.Width(info), 40), cell.Accent)
	return cell.Fit(label+bar+info, m.width)
}

// outcome sums up what became of all jobs.
func (m *Model) outcome() string {
	var size int64
	counts := map[runs.State]int{}
	for _, s := range m.jobs {
		counts[s.State]++
		size += s.Result.TotalSize
	}
	text := fmt.Sprintf("%d of %d exported and verified, %s", counts[runs.Done], len(m.jobs), units.Bytes(size))
	if n := counts[runs.Failed]; n > 0 {
		text += ", " + cell.Bad.Paint(fmt.Sprintf("%d failed", n))
	}
	if n := counts[runs.Cancelled]; n > 0 {
		text += fmt.Sprintf(", %d cancelled", n)
	}
	return text
}

// rows draws the list: with the disks of all jobs while everything fits, else with
// those of the job under the cursor alone, and what is done summed up.
func (m *Model) rows(height int) []string {
	l := &m.list
	shown, whole := l.shown(), m.fits(l.order)
	var lines []string
	var jobs []int      // of each line
	first, last := 0, 0 // of the lines of the job under the cursor
	for _, i := range shown {
		under := i == l.cursor
		if under {
			first = len(lines)
		}
		lines = append(lines, m.jobLine(i, m.jobs[i]))
		if whole || under {
			lines = append(lines, m.below(i)...)
		}
		if under {
			last = len(lines) - 1
		}
		for len(jobs) < len(lines) {
			jobs = append(jobs, i)
		}
	}
	if l.folded > 0 {
		if last == len(lines)-1 {
			last++ // the end of the list is in sight
		}
		lines, jobs = append(lines, m.foldLine(l.order[len(shown):])), append(jobs, -1)
	}
	if len(l.order) == 0 && l.narrow() {
		lines, jobs = append(lines, cell.Dim.Paint("   no VM is shown; esc shows all again")), append(jobs, -1)
	}
	last = min(last, first+height-1)
	l.top = max(min(l.top, first, len(lines)-height), last-height+1, 0)
	if l.follow {
		l.top = 0
	}
	l.at = jobs[l.top:min(l.top+height, len(jobs))]
	return cell.Block(lines[l.top:], m.width, height)
}

// foldLine sums up jobs that are done.
func (m *Model) foldLine(done []int) string {
	var size int64
	for _, i := range done {
		size += m.jobs[i].Result.TotalSize
	}
	return cell.Good.Paint(fmt.Sprintf("   ✓ %d done", len(done))) + cell.Dim.Paint(fmt.Sprintf(", %s  (v shows them)", units.Bytes(size)))
}

// below are the lines under a job: its disks while it moves, what came of it
// afterwards.
func (m *Model) below(i int) []string {
	s := m.jobs[i]
	switch {
	case s.State == runs.Done:
		return resultLines(s)
	case s.State == runs.Failed, s.State == runs.Cancelled:
		return errorLines(s, m.width)
	}
	var lines []string
	if s.Progress.Activity != "" {
		lines = append(lines, cell.Warn.Paint("     … "+cell.Safe(s.Progress.Activity)))
	}
	for k, f := range s.Progress.Files {
		lines = append(lines, m.fileLine(f, m.pace[i].rates[k], s.State == runs.Paused))
	}
	return lines
}

// widths of a row: the name, the state, and the bar.
func (m *Model) widths() (name, state, bar int) {
	name = min(max(m.width-62, 12), 40)
	return name, 11, min(max(m.width-name-50, 6), 24)
}

func (m *Model) jobLine(i int, s runs.Status) string {
	name, state, bar := m.widths()
	pointer, style := " ", cell.Bold
	if i == m.list.cursor {
		pointer = "❯"
	}
	label := string(s.State)
	if s.State == runs.Running {
		label = string(s.Progress.Phase)
	}
	line := cell.Accent.Paint(" "+pointer+" ") + style.Paint(cell.Fit(cell.Safe(s.Name), name)) + " " +
		stateStyle(s.State).Paint(cell.Fit(label, state)) + " "
	switch s.State {
	case runs.Waiting, runs.Failed, runs.Cancelled:
		return line
	case runs.Done:
		took := s.Result.Duration
		if took == 0 {
			took = s.Ended.Sub(s.Started)
		}
		return line + fmt.Sprintf("%s in %s", units.Bytes(s.Result.TotalSize), display.Duration(took))
	}
	percent := s.Progress.Percent()
	line += cell.Bar(percent/100, bar, stateStyle(s.State)) + fmt.Sprintf(" %5.1f%%", percent)
	if s.State == runs.Running && (s.Progress.Phase == progress.Exporting || m.pace[i].reading.Arrived) {
		line += speed(m.pace[i].reading, m.width-cell.Width(line))
	}
	if n, _ := s.Progress.Retries(); n > 0 {
		line += m.retries(progress.FileSnapshot{Retries: n, Cause: causeOf(s)}, line)
	}
	return line
}

// causeOf is that of the latest retry of a job.
func causeOf(s runs.Status) string {
	_, cause := s.Progress.Retries()
	return cause
}

// retries are told where they fit behind a line.
func (m *Model) retries(f progress.FileSnapshot, line string) string {
	text := "  " + display.Retries(f)
	if cell.Width(line)+cell.Width(text) > m.width {
		return ""
	}
	return cell.Warn.Paint(text)
}

func (m *Model) fileLine(f progress.FileSnapshot, r progress.Reading, held bool) string {
	name, state, bar := m.widths()
	held = held && f.State == progress.Active
	label, style := string(f.State), fileStyle(f.State)
	if held {
		label, style = "held", cell.Warn
	}
	fraction := 0.0
	if size := f.Size(); size > 0 {
		fraction = float64(f.Done()) / float64(size)
	}
	line := cell.Spaces(5) + cell.FitTail(cell.Safe(f.Name), name-2) + " " + style.Paint(cell.Fit(label, state)) + " " +
		cell.Bar(fraction, bar, style) + fmt.Sprintf(" %5.1f%%", min(fraction, 1)*100)
	if f.State == progress.Active && !held {
		line += speed(r, m.width-cell.Width(line))
	}
	if f.Retries > 0 {
		line += m.retries(f, line)
	}
	return line
}

// speed is a rate and what is left at it; in little room, what is left alone, and that
// nothing comes before that.
func speed(r progress.Reading, room int) string {
	flow, left := " "+cell.Right(display.Flow(r), 12), ""
	if r.Stalled > 0 {
		flow = cell.Warn.Paint(flow)
	}
	if r.Remaining >= 0 {
		left = " " + cell.Right(display.Duration(r.Remaining), 6) + " left"
	}
	switch {
	case cell.Width(flow)+cell.Width(left) <= room:
		return flow + left
	case r.Stalled > 0:
		return cell.Warn.Paint(" " + display.Flow(r))
	case left != "" && cell.Width(left) <= room:
		return left
	}
	return cell.Clip(" "+display.Flow(r), room)
}

// resultLines say what landed where and how it was verified.
func resultLines(s runs.Status) []string {
	lines := []string{cell.Good.Paint("     ✓ ") + outcome.Verification(s.Result.Disks) + cell.Dim.Paint("  "+cell.Safe(s.Result.OutputDir))}
	if s.Result.DomainXML != "" {
		lines = append(lines, cell.Dim.Paint("       virsh define "+cell.Safe(filepath.Base(s.Result.DomainXML))))
	}
	for _, note := range s.Result.Notes {
		lines = append(lines, cell.Warn.Paint("     ! "+cell.Safe(note)))
	}
	return lines
}

func errorLines(s runs.Status, width int) []string {
	if s.Err == nil {
		return nil
	}
	style, mark := cell.Bad, "✗"
	text := s.Err.Error()
	if s.State == runs.Cancelled {
		style, mark, text = cell.Dim, "–", Cleanup(s)
	}
	if hint := migrate.Hint(s.Err); hint != "" {
		text += "\nhint: " + hint
	}
	var lines []string
	for _, part := range strings.Split(text, "\n") {
		for _, l := range cell.Wrap(cell.Safe(part), width-8) {
			lines = append(lines, style.Paint("     "+mark+" "+l))
			mark = " "
		}
	}
	return lines
}

func stateStyle(s runs.State) cell.Style {
	switch s {
	case runs.Running:
		return cell.Accent
	case runs.Done:
		return cell.Good
	case runs.Failed:
		return cell.Bad
	case runs.Paused, runs.Stopping:
		return cell.Warn
	}
	return cell.Dim
}

func fileStyle(s progress.FileState) cell.Style {
	switch s {
	case progress.Active:
		return cell.Accent
	case progress.Complete:
		return cell.Good
	case progress.Failed:
		return cell.Bad
	case progress.Retrying:
		return cell.Warn
	}
	return cell.Dim
}

func (m *Model) helpLine() string {
	if text := m.questionText(); text != "" {
		return cell.Fit(cell.Warn.Paint(" "+text+" ")+cell.Bold.Paint("y")+" yes  any other key: no", m.width)
	}
	switch {
	case m.help:
		return cell.Fit(cell.Dim.Paint(" any key: back to the list"), m.width)
	case m.list.typing:
		return cell.Fit(cell.Accent.Paint(" /")+cell.Bold.Paint(cell.Safe(m.list.filter))+cell.Dim.Paint("  names with these words; enter keeps it, esc shows all"), m.width)
	case m.stopping:
		return cell.Fit(cell.Warn.Paint(" stopping and cleaning up at the vCenter; ctrl-c again leaves at once"), m.width)
	case m.handing:
		return cell.Fit(cell.Warn.Paint(" handing over: what runs is stopped, what is here is kept, and the daemon goes on from there"), m.width)
	case m.notice != "":
		return cell.Fit(" "+cell.Warn.Paint(m.notice), m.width)
	case m.group.Ended():
		keys := []string{"enter close"}
		if m.o.Back {
			keys = append(keys, "b back to the list")
		}
		return cell.Keys(m.width, append(keys, "r run this one again", "↑↓ look around", "e failed only", "/ filter", "? help")...)
	case m.list.narrow():
		return cell.Keys(m.width, "esc show all", "p pause/resume", "x cancel", "r run again", "↑↓ choose", "? help")
	}
	last := "ctrl-c stop all"
	if m.o.Leavable {
		last = "q leave, jobs go on"
	}
	keys := []string{"p pause/resume", "x cancel", last, "? help", "↑↓ choose"}
	if !m.o.Leavable {
		keys = append(keys, "d detach")
	}
	return cell.Keys(m.width, append(keys, "/ filter", "r run again")...)
}

// questionText is what is asked, "" for nothing.
func (m *Model) questionText() string {
	switch m.asking.what {
	case askCancel:
		return fmt.Sprintf("cancel %s and remove its part files?", cell.Safe(m.jobs[m.asking.job].Name))
	case askStop:
		return fmt.Sprintf("stop %s? what is here is kept", exportsText(m.open()))
	case askDetach:
		return fmt.Sprintf("hand the other %d to %s?", m.open(), cell.Safe(m.asking.to))
	}
	return ""
}

// open counts the jobs that have not ended.
func (m *Model) open() int {
	n := 0
	for _, s := range m.jobs {
		if !s.State.Ended() {
			n++
		}
	}
	return n
}

func helpText(o Options) []string {
	leave := "stop all; what is here is kept for the next run"
	if o.Leavable {
		leave = "leave; the jobs go on"
	}
	var lines []string
	for _, item := range [][2]string{
		{"↑↓ j k", "choose; page up/down, home, end, the wheel and clicks, too"},
		{"f", "follow what moves, or stay on this one"},
		{"/", "only names with these words"},
		{"e", "only what failed      esc  show all"},
		{"v", "show what is done one by one"},
		{"p", "pause or resume this one"},
		{"x", "cancel it             r  run it again"},
		{"d", "leave the rest to a daemon"},
		{"ctrl-c", leave},
		{"", "sizes are what the VMs have on their datastores, as in the list"},
		{"", "the mouse selects text with shift held"},
	} {
		lines = append(lines, "  "+cell.Bold.Paint(cell.Fit(item[0], 8))+item[1])
	}
	return lines
}

func exportsText(n int) string {
	if n == 1 {
		return "the export that is left"
	}
	return fmt.Sprintf("all %d exports", n)
}
