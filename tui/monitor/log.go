package monitor

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/tui/cell"
	"github.com/hyper2kvm/hyper2kvm/tui/runs"
)

// logEvents is how many of the latest events the log is made of.
const logEvents = 1000

// logLine is an event, or several that say the same: but for numbers, and whichever VM
// and disk they are about.
type logLine struct {
	runs.Event     // the latest
	times      int // how often it came
	jobs       []string
}

// grouped brings events that say the same together, in the order of the latest of each.
func grouped(events []runs.Event) []logLine {
	lines := map[string]*logLine{}
	var order []*logLine
	for _, e := range slices.Backward(events) {
		key := string(e.Level) + withoutNumbers(e.Text, e.File)
		l := lines[key]
		if l == nil {
			l = &logLine{Event: e}
			lines[key] = l
			order = append(order, l)
		}
		l.times++
		if !slices.Contains(l.jobs, e.Job) {
			l.jobs = append(l.jobs, e.Job)
		}
	}
	out := make([]logLine, 0, len(order))
	for _, l := range slices.Backward(order) {
		out = append(out, *l)
	}
	return out
}

// number is a number with what may be part of it: fractions, times, units of time.
var number = regexp.MustCompile(`\d[\d.,:]*(?:[mµn]?s|m|h)?`)

// withoutNumbers is what events that say the same have in common.
func withoutNumbers(text, file string) string {
	if file != "" {
		text = strings.ReplaceAll(text, file, "")
	}
	return number.ReplaceAllString(text, "0")
}

// text is the line without its time, safe for the terminal.
func (l logLine) text() string {
	who, text := cell.Safe(l.Job), l.Text
	switch {
	case len(l.jobs) > 1:
		who = fmt.Sprintf("%s and %d more", who, len(l.jobs)-1)
	case l.File != "" && l.times == 1:
		text = l.File + ": " + text
	}
	text = cell.Safe(text)
	if l.times > 1 {
		text = fmt.Sprintf("(%d times) %s", l.times, text)
	}
	style := cell.Plain
	if l.Level == progress.Warning {
		style = cell.Warn
	}
	return who + "  " + style.Paint(text)
}

func (m *Model) logPane(height int) []string {
	if height == 0 {
		return nil
	}
	lines := []string{cell.Rule("log", m.width)}
	for _, l := range m.log[max(len(m.log)-height+1, 0):] {
		lines = append(lines, " "+cell.Dim.Paint(l.Time.Local().Format("15:04:05"))+" "+l.text())
	}
	return cell.Block(lines, m.width, height)
}
