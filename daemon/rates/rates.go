// Package rates keeps how many bytes came over time, in all and through each ESXi
// host, for graphs.
//
// A [Recorder] adds up what runs count into samples of three lengths at once: fine
// ones are kept for an hour, coarse ones for a month ([Grains]). About every ten
// seconds it writes those that have grown, in one statement; when no byte comes,
// nothing is written. So the number of samples that a [Store] has is bounded, whatever
// goes on: each daemon has at most 360, 1440 and 2880 of the three lengths.
//
// Each daemon writes samples of its own, and who reads adds them up ([Read]). A daemon
// writes the whole of a sample each time, so that one that is written twice counts
// once. What came in the last seconds before a crash is not counted.
package rates

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// Sample is how many bytes came in a span of time.
type Sample struct {
	Start time.Time // in UTC, a multiple of Span since 1970
	Span  time.Duration
	Bytes map[string]int64 // by ESXi host; "" for what came through none that is known
}

// Grain is a length of samples, and for how long they are kept.
type Grain struct{ Span, Keep time.Duration }

// Grains are the lengths of samples, the shortest first.
func Grains() []Grain {
	return []Grain{
		{10 * time.Second, time.Hour},
		{time.Minute, 24 * time.Hour},
		{15 * time.Minute, 30 * 24 * time.Hour},
	}
}

// Store keeps samples. Its methods may be called from any goroutine.
type Store interface {
	// Keep keeps samples of a writer, each in place of the writer's earlier one of
	// the same start and span.
	Keep(ctx context.Context, writer string, samples []Sample) error

	// Since returns the samples with a span of all writers that start at from or
	// later, those that started first first.
	Since(ctx context.Context, span time.Duration, from time.Time) ([]Sample, error)

	// Forget drops all samples of a span that started before a time.
	Forget(ctx context.Context, span time.Duration, before time.Time) error
}

// Window is how far back one looks.
type Window string

// The windows, each with as many points.
const (
	Hour  Window = "hour"
	Day   Window = "day"
	Month Window = "month" // 30 days
)

// Windows are all of them, the shortest first.
func Windows() []Window { return []Window{Hour, Day, Month} }

// points is how many steps a window has.
const points = 360

// settle is how long after its end a sample may still grow: runs count once a second.
const settle = 3 * time.Second

// Series is how fast bytes came, step by step.
type Series struct {
	Start time.Time     // of the first step, in UTC
	Step  time.Duration // from one to the next
	End   time.Time     // of the last, which may be shorter than the others
	Total []float64     // bytes per second, for each step
	Hosts []Host        // those through which any came, most bytes first
}

// Host is what came through one ESXi host.
type Host struct {
	Name  string // "" when it is not known
	Bytes int64
	Rates []float64 // bytes per second, for each step
}

// grain is the samples that a window is made of, nil for an unknown one.
func (w Window) grain() *Grain {
	if i := slices.Index(Windows(), w); i >= 0 {
		return &Grains()[i]
	}
	return nil
}

// Read returns what came in the window that ends now, as far as it is kept.
func Read(ctx context.Context, s Store, w Window, now time.Time) (Series, error) {
	g := w.grain()
	if g == nil {
		return Series{}, fmt.Errorf("no window %q: use one of %v", w, Windows())
	}
	end := now.UTC().Add(-settle).Truncate(Grains()[0].Span)
	out := Series{Step: g.Keep / points, End: end}
	// The last step may be a part of one; the first begins a window before its end.
	out.Start = end.Add(-1).Truncate(out.Step).Add(out.Step - g.Keep)
	samples, err := s.Since(ctx, g.Span, out.Start)
	if err != nil {
		return Series{}, err
	}
	out.add(samples)
	return out, nil
}

// add makes rates of samples.
func (s *Series) add(samples []Sample) {
	s.Total = make([]float64, points)
	hosts := make(map[string]*Host)
	for _, one := range samples {
		step := int(one.Start.Sub(s.Start) / s.Step)
		if step < 0 || step >= points || !one.Start.Before(s.End) {
			continue
		}
		took := min(s.Step, s.End.Sub(s.Start)-time.Duration(step)*s.Step).Seconds()
		for name, n := range one.Bytes {
			h := hosts[name]
			if h == nil {
				h = &Host{Name: name, Rates: make([]float64, points)}
				hosts[name] = h
			}
			h.Bytes += n
			h.Rates[step] += float64(n) / took
			s.Total[step] += float64(n) / took
		}
	}
	for _, h := range hosts {
		s.Hosts = append(s.Hosts, *h)
	}
	slices.SortFunc(s.Hosts, func(a, b Host) int { return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Name, b.Name)) })
}
