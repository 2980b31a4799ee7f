package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// kind says how a figure is made of a turn.
type kind int

const (
	timeRatio    kind = iota // our time over the peer's: at most
	speedup                  // the peer's time over ours: at least
	writtenRatio             // our written bytes over the peer's: at most
	cpuRatio                 // our CPU time over the peer's: at most
	peakMiB                  // our peak memory: at most
	deviation                // from a bandwidth, in percent: at most
)

// want is a goal: a figure and its bound. Bound 0 is no goal: the figure is
// there to be seen.
type want struct {
	kind  kind
	bound float64
}

func (w want) String() string {
	formats := map[kind]string{
		timeRatio: "time ≤ %.3g", speedup: "≥ %.3g times faster", writtenRatio: "written ≤ %.3g",
		cpuRatio: "CPU < %.3g", peakMiB: "peak ≤ %.3g MiB", deviation: "off ≤ %.3g %%",
	}
	if w.bound == 0 {
		name, _, _ := strings.Cut(formats[w.kind], " ")
		return name + " –"
	}
	return fmt.Sprintf(formats[w.kind], w.bound)
}

// of returns the figure of one turn.
func (w want) of(ours, theirs sample) float64 {
	switch w.kind {
	case timeRatio:
		return ours.Seconds / theirs.Seconds
	case speedup:
		return theirs.Seconds / ours.Seconds
	case writtenRatio:
		return float64(ours.Written) / float64(theirs.Written)
	case cpuRatio:
		return ours.CPU / theirs.CPU
	case deviation:
		return ours.Deviation
	}
	return float64(ours.RSS) / (1 << 20)
}

func (w want) met(figure float64) bool {
	switch {
	case w.bound == 0:
		return true
	case w.kind == speedup:
		return figure >= w.bound
	case w.kind == cpuRatio:
		return figure < w.bound
	}
	return figure <= w.bound
}

// outcome is how a row stands to one of its goals.
type outcome struct {
	want   want
	Goal   string  `json:"goal"`
	Figure float64 `json:"figure"` // median over the turns
	Least  float64 `json:"least"`
	Most   float64 `json:"most"`
	Best   float64 `json:"best"` // of our best run and the peer's best run
	Met    bool    `json:"met"`  // true when there is no goal
}

// judge compares the turns of a row with what is wanted of it, and with goal 9,
// less CPU than the peer, which every row with a peer has.
func judge(r row, ours, theirs []sample) []outcome {
	wants := slices.Clone(r.wants)
	if len(theirs) > 0 && !r.noCPU {
		wants = append(wants, want{cpuRatio, 1})
	}
	var out []outcome
	for _, w := range wants {
		figures := make([]float64, len(ours))
		for i := range ours {
			var t sample
			if len(theirs) > 0 {
				t = theirs[i]
			}
			figures[i] = w.of(ours[i], t)
		}
		m := median(figures)
		out = append(out, outcome{want: w, Goal: w.String(), Figure: m,
			Least: slices.Min(figures), Most: slices.Max(figures), Best: w.of(best(ours), best(theirs)), Met: w.met(m)})
	}
	return out
}

// median returns the middle of the figures, the mean of the middle two when
// their number is even.
func median(figures []float64) float64 {
	s := slices.Sorted(slices.Values(figures))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// middle returns the medians of what samples have.
func middle(samples []sample) sample { return summary(samples, median) }

// best returns the least of what samples have: what a process takes that nobody
// disturbs.
func best(samples []sample) sample {
	return summary(samples, func(figures []float64) float64 { return slices.Min(figures) })
}

// summary makes one sample of several.
func summary(samples []sample, of func([]float64) float64) sample {
	if len(samples) == 0 {
		return sample{}
	}
	pick := func(f func(sample) float64) float64 {
		figures := make([]float64, len(samples))
		for i, s := range samples {
			figures[i] = f(s)
		}
		return of(figures)
	}
	return sample{
		Seconds: pick(func(s sample) float64 { return s.Seconds }),
		CPU:     pick(func(s sample) float64 { return s.CPU }),
		RSS:     int64(pick(func(s sample) float64 { return float64(s.RSS) })),
		Written: int64(pick(func(s sample) float64 { return float64(s.Written) })),

		Deviation: pick(func(s sample) float64 { return s.Deviation }),
	}
}

// printReport prints the tables of goals, of what each side took, and of the
// sweeps.
func printReport(out io.Writer, r report) error {
	fmt.Fprintf(out, "\n%s; in turn, medians\n\n", r.Machine)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "goal\twork\tpeer\twanted\tmedian\tof turns\tof best runs\t\t")
	for _, row := range r.Rows {
		for _, o := range row.Wants {
			goal := goalName(row.Goal)
			if o.want.kind == cpuRatio {
				goal += "/9"
			}
			measured := "\t\t\tnot measured: " + row.Missing
			if row.Missing == "" {
				verdict := "met"
				switch {
				case o.want.bound == 0:
					verdict = "–"
				case !o.Met:
					verdict = "NOT MET"
				}
				measured = fmt.Sprintf("%.3g\t%.3g to %.3g\t%.3g\t%s", o.Figure, o.Least, o.Most, o.Best, verdict)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t\n", goal, row.Work, row.Peer, o.want, measured)
		}
	}
	fmt.Fprintln(w)
	fmt.Fprintln(w, "goal\twho\tseconds\tMB/s\tCPU s/GiB\tpeak MiB\twritten MB\t")
	for _, row := range r.Rows {
		for _, side := range []struct {
			name    string
			samples []sample
		}{{"ours", row.Ours}, {row.Peer, row.Theirs}} {
			if len(side.samples) > 0 {
				fmt.Fprintf(w, "%s\t%s: %s\t%s\t\n", goalName(row.Goal), row.Work, side.name, cost(middle(side.samples), row.Bytes))
			}
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return printSweeps(out, r.Sweeps)
}

// goalName is how the tables show the number of a goal.
func goalName(n int) string {
	if n == 0 {
		return "–"
	}
	return fmt.Sprint(n)
}

// cost are the cells that tell what a sample took to move n bytes.
func cost(s sample, n int64) string {
	rate, cpu := "", fmt.Sprintf("%.2f s", s.CPU)
	if n > 0 {
		rate = fmt.Sprintf("%.0f", float64(n)/1e6/s.Seconds)
		cpu = fmt.Sprintf("%.2f", s.CPU/float64(n)*(1<<30))
	}
	return strings.Join([]string{
		fmt.Sprintf("%.2f", s.Seconds), rate, cpu,
		fmt.Sprintf("%.0f", float64(s.RSS)/(1<<20)), fmt.Sprintf("%.0f", float64(s.Written)/1e6),
	}, "\t")
}
