package main

import (
	"fmt"
	"strings"

	"github.com/mattn/go-runewidth"
	"github.com/pterm/pterm"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/internal/terminal"
	"github.com/hyper2kvm/hyper2kvm/progress/display"
)

// live draws a bar for each job at the bottom of a terminal and lets states
// and log lines scroll by above. It draws when something was told, which is
// once a second and job at most.
type live struct {
	term  *terminal.Printer
	names map[string]string
	ids   []string
	state map[string]models.Status
	last  map[string]*models.Progress
	lines int // drawn at the bottom now
}

func newLive(t *terminal.Printer, names map[string]string, ids []string) *live {
	l := &live{term: t, names: names, ids: ids, state: map[string]models.Status{}, last: map[string]*models.Progress{}}
	fmt.Fprint(t.Out, "\x1b[?25l") // hide the cursor
	l.draw(nil)
	return l
}

func (l *live) close() { fmt.Fprint(l.term.Out, "\x1b[?25h") }

func (l *live) show(w watched) {
	if w.end || w.err != nil {
		return
	}
	e := w.event
	switch e.Type {
	case models.EventProgress:
		l.last[w.id] = e.Progress
		l.draw(nil)
		return
	case models.EventState:
		l.state[w.id] = e.Status
		if p := l.last[w.id]; p != nil && e.Phase != "" { // the next report may come a second later
			now := *p
			now.Phase, now.CurrentFile, now.EstimatedRemaining = e.Phase, "", ""
			l.last[w.id] = &now
		}
	}
	text := fmt.Sprintf("%s %s %s", shortID(w.id), l.names[w.id], eventText(e))
	switch {
	case e.Status == models.StatusCompleted:
		text = strings.TrimRight(pterm.Success.Sprint(text), "\n")
	case e.Status == models.StatusFailed:
		text = strings.TrimRight(pterm.Error.Sprint(text), "\n")
	case e.Level == "warning":
		text = strings.TrimRight(pterm.Warning.Sprint(text), "\n")
	}
	l.draw([]string{text})
}

// draw replaces the bars, with scrolled above them.
func (l *live) draw(scrolled []string) {
	var b strings.Builder
	if l.lines > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", l.lines)
	}
	b.WriteString("\r\x1b[J") // erase what is below
	for _, s := range scrolled {
		b.WriteString(s + "\n")
	}
	width, height := l.term.Size()
	bars := l.bars(width-1, max(height-2, 1))
	for _, s := range bars {
		b.WriteString(s + "\n")
	}
	l.lines = len(bars)
	fmt.Fprint(l.term.Out, b.String())
}

// bars are the lines of the jobs that have not ended, at most rows.
func (l *live) bars(width, rows int) []string {
	var open []string
	for _, id := range l.ids {
		if !l.state[id].Final() {
			open = append(open, id)
		}
	}
	more := 0
	if len(open) > rows {
		more = len(open) - rows + 1
		open = open[:rows-1]
	}
	out := make([]string, 0, len(open)+1)
	for _, id := range open {
		out = append(out, barLine(l.names[id], l.state[id], l.last[id], width))
	}
	if more > 0 {
		out = append(out, runewidth.Truncate(fmt.Sprintf("… and %d more", more), width, "…"))
	}
	return out
}

// barLine is one job: name, bar, percent, phase, and what is left, as far as
// there is room.
func barLine(name string, s models.Status, p *models.Progress, width int) string {
	const nameWidth, barWidth = 20, 24
	label := runewidth.FillRight(runewidth.Truncate(name, nameWidth, "…"), nameWidth)
	percent, text := 0.0, display.SafeText(string(s))
	if p != nil {
		percent, text = p.PercentComplete, display.SafeText(p.Phase)
		if p.CurrentFile != "" {
			text += " " + display.SafeText(p.CurrentFile)
		}
		if p.Activity != "" {
			text += ", " + display.SafeText(p.Activity)
		} else if p.EstimatedRemaining != "" {
			text += ", " + display.SafeText(p.EstimatedRemaining) + " left"
		}
	}
	full := int(min(max(percent, 0), 100) / 100 * barWidth)
	bar := strings.Repeat("█", full) + strings.Repeat("░", barWidth-full)
	return runewidth.Truncate(fmt.Sprintf("%s %s %5.1f%% %s", label, bar, percent, text), width, "…")
}
