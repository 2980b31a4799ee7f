package display

import (
	"context"
	"io"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/hyper2kvm/hyper2kvm/progress"
)

// Mode is how a [Printer] shows things.
type Mode int

// Modes of a [Printer].
const (
	Auto  Mode = iota // Bars on a terminal that can do them, else Plain
	Bars              // bars redrawn in place; Plain where the writer is no terminal
	Plain             // lines of text
	JSON              // lines of JSON, see the package comment
)

// Printer shows one run. Its methods return the first error of the writer; what
// follows a failed write is dropped. A Printer is for one goroutine at a time.
type Printer interface {
	// Run shows t until ctx ends or t is in phase [progress.Done], and its
	// last state before it returns. The cursor is left visible below it.
	Run(ctx context.Context, t *progress.Tracker) error

	// Result tells what came of the run: text to people, v to programs.
	Result(text string, v any) error

	// Error tells why the run failed and, if hint is not empty, what to try.
	Error(err error, hint string) error
}

// Options are the choices of a [Printer]. The zero value works.
type Options struct {
	// Interval is the time between two samples: 0 means 100 ms for Bars and
	// 1 s for the others.
	Interval time.Duration

	// Size returns the terminal's columns and rows. Nil asks the writer, if it
	// is a terminal. With a Size the writer is taken for a terminal.
	Size func() (columns, rows int)

	// Stamp puts the time before each line of Plain, and after it Name where that is
	// not empty: what is written to a log is read later, beside others.
	Stamp bool
	Name  string

	// Getenv reads TERM, which says whether there can be bars, and NO_COLOR, with
	// which they have no colours; nil is os.Getenv.
	Getenv func(string) string
}

// New returns a Printer that writes to w.
func New(w io.Writer, mode Mode, o Options) Printer {
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	isTerminal := o.Size != nil
	if !isTerminal {
		o.Size, isTerminal = terminalSize(w)
	}
	if mode == Auto || mode == Bars && !isTerminal {
		mode = Plain
		if isTerminal && capable(o.Getenv) {
			mode = Bars
		}
	}
	interval := o.Interval
	if interval <= 0 {
		interval = time.Second
		if mode == Bars {
			interval = 100 * time.Millisecond
		}
	}
	out := &output{w: w}
	switch mode {
	case Bars:
		return &barPrinter{lines: lines{out}, interval: interval, size: o.Size, plain: o.Getenv("NO_COLOR") != ""}
	case JSON:
		return &jsonPrinter{output: out, interval: interval}
	default:
		return &plainPrinter{lines: lines{out}, interval: interval, stamp: o.Stamp, name: o.Name}
	}
}

// Start runs p in a goroutine of its own. stop ends it and returns once the
// last state is shown, with Run's error.
func Start(ctx context.Context, p Printer, t *progress.Tracker) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx, t) }()
	return func() error {
		cancel()
		return <-ended
	}
}

func capable(getenv func(string) string) bool {
	return getenv("TERM") != "dumb" && getenv("TERM") != ""
}

// terminalSize returns how to ask w for its size, if it is a terminal.
func terminalSize(w io.Writer) (size func() (columns, rows int), ok bool) {
	f, isFile := w.(*os.File)
	if !isFile || !term.IsTerminal(int(f.Fd())) {
		return nil, false
	}
	return func() (int, int) {
		columns, rows, err := term.GetSize(int(f.Fd()))
		if err != nil || columns <= 0 || rows <= 0 {
			return 80, 24
		}
		return columns, rows
	}, true
}

// output remembers the first error of a writer and drops what follows it.
type output struct {
	w   io.Writer
	err error
}

func (o *output) write(b []byte) error {
	if o.err == nil && len(b) > 0 {
		_, o.err = o.w.Write(b)
	}
	return o.err
}

// view is a sample of a tracker, with rates.
type view struct {
	progress.Snapshot
	now    time.Time
	total  progress.Reading
	files  []progress.Reading // as Snapshot.Files
	events []progress.Event   // since the last view
}

// sampler makes the successive views of one tracker.
type sampler struct {
	total progress.Meter
	files map[string]*progress.Meter
	seq   int64
}

func (s *sampler) view(t *progress.Tracker) view {
	v := view{now: time.Now(), events: t.EventsAfter(s.seq), Snapshot: t.Snapshot()}
	if n := len(v.events); n > 0 {
		s.seq = v.events[n-1].Seq
	}
	v.total = s.total.Observe(v.Snapshot, v.now)
	v.files = make([]progress.Reading, len(v.Files))
	if s.files == nil {
		s.files = make(map[string]*progress.Meter)
	}
	for i, f := range v.Files {
		meter := s.files[f.Name]
		if meter == nil {
			meter = new(progress.Meter)
			s.files[f.Name] = meter
		}
		v.files[i] = meter.Observe(progress.Snapshot{Files: v.Files[i : i+1]}, v.now)
	}
	return v
}

// watch calls show with a view of t at every interval, when t changed, and a
// last time when it ends.
func watch(ctx context.Context, t *progress.Tracker, interval time.Duration, show func(v view, last bool) error) error {
	var s sampler
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		changed := t.Changed() // before the sample, so that nothing is missed
		v := s.view(t)
		last := ctx.Err() != nil || v.Phase == progress.Done
		if err := show(v, last); err != nil || last {
			return err
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		case <-changed:
		}
	}
}
