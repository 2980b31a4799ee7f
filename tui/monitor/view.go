package monitor

import (
	"fmt"
	"path/filepath"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/progress/display"
	"github.com/hyper2kvm/hyper2kvm/tui/cell"
	"github.com/hyper2kvm/hyper2kvm/tui/plan"
	"github.com/hyper2kvm/hyper2kvm/tui/runs"
	"github.com/hyper2kvm/hyper2kvm/units"
)

// View draws the screen.
func (m *Model) View() tea.View {
	log := m.logHeight()
	rows := max(m.height-3-log, 1)
	lines := []string{m.title(), m.totalLine()}
	lines = append(lines, m.rows(rows)...)
	lines = append(lines, m.logPane(log)...)
	lines = append(lines, m.helpLine())
	for i := range lines {
		lines[i] = cell.Clip(lines[i], m.width)
	}
	v := tea.NewView(strings.Join(lines[:min(len(lines), max(m.height, 1))], "\n"))
	v.AltScreen = true
	return v
}

func (m *Model) logHeight() int {
	if m.height < 14 {
		return 0
	}
	return min(max(m.height/3, 4), 12)
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

func (m *Model) totalLine() string {
	var all progress.Snapshot
	open, known := 0, 0
	for _, s := range m.jobs {
		all.Files = append(all.Files, s.Progress.Files...)
		if !s.State.Ended() {
			open++
		}
		if len(s.Progress.Files) > 0 {
			known++
		}
	}
	if open == 0 {
		return cell.Fit(" "+cell.Bold.Paint("finished")+": "+m.outcome(), m.width)
	}
	info := fmt.Sprintf(" %5.1f%%  %s of %s  %s", all.Percent(), units.Bytes(all.Position()), units.Bytes(all.Total()), units.Rate(m.total.reading.Rate))
	if r := m.total.reading.Remaining; r >= 0 && known == len(m.jobs) {
		info += "  " + display.Duration(r) + " left"
	}
	bar := cell.Bar(all.Percent()/100, min(m.width-8-cell.Width(info), 40), cell.Accent)
	return cell.Fit(" total "+bar+info, m.width)
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

// rows draws the jobs: with their disks while everything fits, else with those
// of the job under the cursor alone.
func (m *Model) rows(height int) []string {
	all := 0
	for i := range m.jobs {
		all += 1 + len(m.below(i))
	}
	var lines []string
	at := 0 // line of the cursor
	for i, s := range m.jobs {
		if i == m.cursor {
			at = len(lines)
		}
		lines = append(lines, m.jobLine(i, s))
		if all <= height || i == m.cursor {
			lines = append(lines, m.below(i)...)
		}
	}
	if len(lines) <= height {
		m.top = 0
		return cell.Block(lines, m.width, height)
	}
	bottom := at
	if m.cursor < len(m.jobs) {
		bottom += min(len(m.below(m.cursor)), height-1)
	}
	m.top = max(min(m.top, at, len(lines)-height), bottom-height+1, 0)
	return cell.Block(lines[m.top:], m.width, height)
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
	if i == m.cursor {
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
	if s.State == runs.Running && s.Progress.Phase == progress.Exporting {
		line += speed(m.pace[i].reading)
	}
	return line
}

func (m *Model) fileLine(f progress.FileSnapshot, r progress.Reading, held bool) string {
	name, state, bar := m.widths()
	held = held && f.State == progress.Active
	label, style := string(f.State), fileStyle(f.State)
	if held {
		label, style = "held", cell.Warn
	}
	fraction := 0.0
	if f.Total > 0 {
		fraction = float64(f.Position) / float64(f.Total)
	}
	line := cell.Spaces(5) + cell.FitTail(cell.Safe(f.Name), name-2) + " " + style.Paint(cell.Fit(label, state)) + " " +
		cell.Bar(fraction, bar, style) + fmt.Sprintf(" %5.1f%%", min(fraction, 1)*100)
	if f.State == progress.Active && !held {
		line += speed(r)
	}
	if f.Retries > 0 {
		line += cell.Warn.Paint(fmt.Sprintf("  %d retries", f.Retries))
	}
	return line
}

// speed is a rate and what is left at it.
func speed(r progress.Reading) string {
	s := " " + cell.Right(units.Rate(r.Rate), 12)
	if r.Remaining >= 0 {
		s += " " + cell.Right(display.Duration(r.Remaining), 6) + " left"
	}
	return s
}

// resultLines say what landed where and how it was verified.
func resultLines(s runs.Status) []string {
	lines := []string{cell.Good.Paint("     ✓ ") + plan.Verification(s.Result.Disks) + cell.Dim.Paint("  "+cell.Safe(s.Result.OutputDir))}
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

func (m *Model) logPane(height int) []string {
	if height == 0 {
		return nil
	}
	lines := []string{cell.Rule("log", m.width)}
	for _, e := range m.log[max(len(m.log)-height+1, 0):] {
		text := e.Text
		if e.File != "" {
			text = e.File + ": " + text
		}
		style := cell.Plain
		if e.Level == progress.Warning {
			style = cell.Warn
		}
		lines = append(lines, " "+cell.Dim.Paint(e.Time.Local().Format("15:04:05"))+" "+cell.Safe(e.Job)+"  "+style.Paint(cell.Safe(text)))
	}
	return cell.Block(lines, m.width, height)
}

func (m *Model) helpLine() string {
	switch {
	case m.asking:
		return cell.Fit(cell.Warn.Paint(fmt.Sprintf(" cancel %s and remove its part files? ", cell.Safe(m.jobs[m.cursor].Name)))+
			cell.Bold.Paint("y")+" yes  any other key: no", m.width)
	case m.stopping:
		return cell.Fit(cell.Warn.Paint(" stopping and cleaning up at the vCenter; ctrl-c again leaves at once"), m.width)
	case m.notice != "":
		return cell.Fit(" "+cell.Warn.Paint(m.notice), m.width)
	case m.group.Ended():
		if m.o.Back {
			return cell.Keys(m.width, "enter close", "b back to the list", "r run this one again", "↑↓ look around")
		}
		return cell.Keys(m.width, "enter close", "r run this one again", "↑↓ look around")
	case m.o.Leavable:
		return cell.Keys(m.width, "p pause/resume", "x cancel", "q leave, jobs go on", "r run again", "↑↓ choose")
	}
	return cell.Keys(m.width, "p pause/resume", "x cancel", "ctrl-c stop all", "r run again", "↑↓ choose")
}
