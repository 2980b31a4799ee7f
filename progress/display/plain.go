package display

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/units"
)

// lines writes what is the same for Plain and Bars: results and errors.
type lines struct{ *output }

// Result writes text on lines of its own.
func (l lines) Result(text string, _ any) error {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(SafeText(strings.TrimRight(line, "\n")) + "\n")
	}
	return l.write([]byte(b.String()))
}

// Error writes err, and hint below it.
func (l lines) Error(err error, hint string) error {
	text := "error: " + SafeText(err.Error()) + "\n"
	if hint != "" {
		text += "hint: " + SafeText(hint) + "\n"
	}
	return l.write([]byte(text))
}

const (
	plainPause = 10 * time.Second // between two lines of progress
	plainStep  = 10.0             // percent that are worth a line earlier
)

// plainPrinter writes lines for logs.
type plainPrinter struct {
	lines
	interval time.Duration
	stamp    bool
	name     string

	phase   progress.Phase
	states  map[string]progress.FileState
	printed time.Time // of the last line of progress
	percent float64   // in it
}

func (p *plainPrinter) Run(ctx context.Context, t *progress.Tracker) error {
	p.phase, p.states = "", make(map[string]progress.FileState)
	p.printed, p.percent = time.Now(), 0
	return watch(ctx, t, p.interval, p.show)
}

func (p *plainPrinter) show(v view, last bool) error {
	var b strings.Builder
	if v.Phase != p.phase {
		p.phase = v.Phase
		fmt.Fprintln(&b, v.Phase)
	}
	for _, e := range v.events {
		fmt.Fprintln(&b, eventText(e))
	}
	for _, f := range v.Files {
		if ended(f.State) && p.states[f.Name] != f.State {
			fmt.Fprintf(&b, "%s: %s\n", SafeText(f.Name), f.State)
		}
		p.states[f.Name] = f.State
	}
	if p.due(v, last) {
		text := progressText(v)
		if v.total.Arrived && v.Percent() == p.percent {
			text = string(v.Phase) + " " + Flow(v.total) + doing(v)
		}
		p.printed, p.percent = v.now, v.Percent()
		fmt.Fprintln(&b, text)
	}
	return p.write([]byte(p.stamped(b.String(), v.now)))
}

// stamped puts time and name before every line.
func (p *plainPrinter) stamped(text string, now time.Time) string {
	if !p.stamp {
		return text
	}
	mark := now.Format(time.TimeOnly) + " "
	if p.name != "" {
		mark += SafeText(p.name) + ": "
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(mark + line)
	}
	return b.String()
}

// due reports whether v is worth a line of progress.
func (p *plainPrinter) due(v view, last bool) bool {
	percent := v.Percent()
	moving := v.Phase == progress.Exporting || v.Activity != ""
	if len(v.Files) == 0 || percent == p.percent && (last || !moving) {
		return false
	}
	if percent < p.percent {
		p.percent = percent // a disk begins again
	}
	return last || percent-p.percent >= plainStep || percent >= 100 && p.percent < 100 || v.now.Sub(p.printed) >= plainPause
}

// progressText is one line about the whole run.
func progressText(v view) string {
	text := fmt.Sprintf("%s (%.1f%%)  %s of %s", v.Phase, v.Percent(), units.Bytes(v.Position()), units.Bytes(v.Total()))
	if !v.total.Arrived {
		text += "  " + Flow(v.total)
	}
	if v.total.Remaining >= 0 && v.Percent() < 100 {
		text += "  ends " + EndOf(v.total, v.now) + ", " + Duration(v.total.Remaining) + " left"
	}
	return text + doing(v)
}

// eventText is one line about an event.
func eventText(e progress.Event) string {
	var text string
	if e.Level == progress.Warning {
		text = "warning: "
	}
	if e.File != "" {
		text += SafeText(e.File) + ": "
	}
	return text + SafeText(e.Text)
}

func ended(s progress.FileState) bool {
	return s == progress.Complete || s == progress.Failed
}
