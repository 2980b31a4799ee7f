package display

import (
	"context"
	"encoding/json"
	"math"
	"time"

	"github.com/hyper2kvm/hyper2kvm/progress"
)

// Head is what every line of JSON begins with.
type Head struct {
	Type string    `json:"type"` // phase, event, progress, result or error
	Time time.Time `json:"time"`
}

// PhaseLine tells that the run has come to another phase.
type PhaseLine struct {
	Head
	Phase progress.Phase `json:"phase"`
}

// EventLine is a [progress.Event].
type EventLine struct {
	Head
	Level progress.Level `json:"level"`
	File  string         `json:"file,omitempty"`
	Text  string         `json:"text"`
}

// Pace is how fast something moves.
type Pace struct {
	Rate      int64  `json:"rate"` // bytes off the wire per second
	Remaining *int64 `json:"remaining_seconds,omitempty"`
	Stalled   int64  `json:"stalled_seconds,omitempty"` // for how long no byte has come though some should
}

// ProgressLine is a sample of the run. Sizes are bytes.
type ProgressLine struct {
	Head
	Phase    progress.Phase `json:"phase"`
	Percent  float64        `json:"percent"`  // 0..100, by what is moved of what is to be moved
	Position int64          `json:"position"` // bytes of data that are moved
	Total    int64          `json:"total"`    // bytes of data to be moved, as far as that is known
	Received int64          `json:"received"` // off the wire
	Pace
	Files    []FileProgress `json:"files"`
	Activity string         `json:"activity,omitempty"` // what goes on that the counters do not show
}

// FileProgress is a sample of one file.
type FileProgress struct {
	progress.FileSnapshot
	Pace
}

// ResultLine is the outcome of a run that succeeded.
type ResultLine struct {
	Head
	Result any `json:"result"`
}

// ErrorLine is the outcome of a run that failed.
type ErrorLine struct {
	Head
	Error string `json:"error"`
	Hint  string `json:"hint,omitempty"`
}

// jsonPrinter writes a JSON object to a line. encoding/json escapes control
// characters, so nothing that a terminal would act upon gets through.
type jsonPrinter struct {
	*output
	interval time.Duration
}

func (p *jsonPrinter) Run(ctx context.Context, t *progress.Tracker) error {
	var phase progress.Phase
	var printed time.Time
	return watch(ctx, t, p.interval, func(v view, last bool) error {
		if v.Phase != phase {
			phase = v.Phase
			_ = p.line(PhaseLine{Head{"phase", v.now}, phase}) // output keeps the error
		}
		for _, e := range v.events {
			_ = p.line(EventLine{Head{"event", e.Time}, e.Level, e.File, e.Text})
		}
		// A tick may come a little early; it must not be taken for a change.
		if len(v.Files) > 0 && (last || v.now.Sub(printed) >= p.interval*9/10) {
			printed = v.now
			return p.line(progressLine(v))
		}
		return p.err
	})
}

func (p *jsonPrinter) Result(_ string, v any) error {
	return p.line(ResultLine{Head{"result", time.Now()}, v})
}

func (p *jsonPrinter) Error(err error, hint string) error {
	return p.line(ErrorLine{Head{"error", time.Now()}, err.Error(), hint})
}

func (p *jsonPrinter) line(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return p.write(append(b, '\n'))
}

func progressLine(v view) ProgressLine {
	line := ProgressLine{
		Head:     Head{"progress", v.now},
		Phase:    v.Phase,
		Percent:  math.Round(v.Percent()*10) / 10,
		Position: v.Position(),
		Total:    v.Total(),
		Received: v.Received(),
		Pace:     pace(v.total),
		Files:    make([]FileProgress, len(v.Files)),
		Activity: v.Activity,
	}
	for i, f := range v.Files {
		line.Files[i] = FileProgress{f, pace(v.files[i])}
	}
	return line
}

func pace(r progress.Reading) Pace {
	p := Pace{Rate: int64(r.Rate), Stalled: int64(r.Stalled / time.Second)}
	if r.Remaining >= 0 {
		seconds := int64(r.Remaining / time.Second)
		p.Remaining = &seconds
	}
	return p
}
