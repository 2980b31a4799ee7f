package rates

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/progress"
)

const (
	// maxHosts bounds the hosts in a sample; what comes through others is under
	// [OtherHosts].
	maxHosts = 100
	// maxKept bounds the samples in one call of Keep.
	maxKept = 100
	// lag is how long after the end of a sample it is written, so that what was
	// counted in it is there: runs count once a second.
	lag = 1500 * time.Millisecond
	// forgetEvery is how often samples are dropped that are old enough.
	forgetEvery = 10 * time.Minute
	// lastWrite bounds the write at the end.
	lastWrite = 2 * time.Second
)

// OtherHosts is the name of those beyond the first hundred in a sample.
const OtherHosts = "other hosts"

// Recorder is a [jobs.Observer] that makes samples. Make it with [NewRecorder].
type Recorder struct {
	store  Store
	log    *slog.Logger
	writer string

	mu      sync.Mutex
	samples map[key]*growing // those that may still grow or are not written yet

	failing bool // of Run's goroutine
}

type key struct {
	span  time.Duration
	start int64 // seconds since 1970
}

type growing struct {
	bytes   map[string]int64
	written bool // the store has all of it
}

var _ jobs.Observer = (*Recorder)(nil)

// NewRecorder returns a recorder of what the runs of this process count. Call
// [Recorder.Run] to have it written to s. A nil log discards.
func NewRecorder(s Store, log *slog.Logger) *Recorder {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Recorder{store: s, log: log, writer: uuid.NewString(), samples: make(map[key]*growing)}
}

// Claimed implements [jobs.Observer].
func (*Recorder) Claimed(jobs.Claimed, time.Duration) {}

// Finished implements [jobs.Observer].
func (*Recorder) Finished(jobs.Outcome, time.Duration) {}

// Counted implements [jobs.Observer].
func (r *Recorder) Counted(t progress.Tally) {
	var all int64
	for _, n := range t.Received {
		all += n
	}
	if all == 0 {
		return
	}
	hosts := make(map[string]int64, len(t.Hosts))
	for host, n := range t.Hosts {
		hosts[strings.TrimSuffix(host, ":443")] += n
		all -= n
	}
	if all > 0 {
		hosts[""] += all
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range Grains() {
		k := key{g.Span, now.Truncate(g.Span).Unix()}
		s := r.samples[k]
		if s == nil {
			s = &growing{bytes: make(map[string]int64)}
			r.samples[k] = s
		}
		s.written = false
		for host, n := range hosts {
			if _, known := s.bytes[host]; !known && len(s.bytes) >= maxHosts {
				host = OtherHosts
			}
			s.bytes[host] += n
		}
	}
}

// Run writes samples until ctx ends, and once more then.
func (r *Recorder) Run(ctx context.Context) error {
	var forgotten time.Time
	for {
		if now := time.Now(); now.Sub(forgotten) >= forgetEvery {
			forgotten = now
			r.tell(ctx, r.forget(ctx, now))
		}
		now, span := time.Now(), Grains()[0].Span
		next := time.NewTimer(now.Add(-lag).Truncate(span).Add(span + lag).Sub(now))
		select {
		case <-next.C:
			r.tell(ctx, r.write(ctx, time.Now()))
		case <-ctx.Done():
			next.Stop()
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWrite)
			defer cancel()
			r.tell(last, r.write(last, time.Now()))
			return nil
		}
	}
}

// tell logs that samples cannot be kept, once until they can.
func (r *Recorder) tell(ctx context.Context, err error) {
	if err != nil && !r.failing && ctx.Err() == nil {
		r.log.Warn("how fast bytes come cannot be kept for the graphs; trying again", "error", err)
	}
	r.failing = err != nil
}

// write keeps the samples that have grown since they were written, and lets go of
// those that will not grow any more, or would be dropped.
func (r *Recorder) write(ctx context.Context, now time.Time) error {
	for chunk := range slices.Chunk(r.grown(now), maxKept) {
		if err := r.store.Keep(ctx, r.writer, chunk); err != nil {
			return err
		}
		r.wrote(chunk)
	}
	return nil
}

// grown are the samples that are to be written, those that started first first.
func (r *Recorder) grown(now time.Time) []Sample {
	keep := make(map[time.Duration]time.Duration)
	for _, g := range Grains() {
		keep[g.Span] = g.Keep
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Sample
	for k, s := range r.samples {
		start := time.Unix(k.start, 0).UTC()
		switch {
		case now.Sub(start) > keep[k.span], s.written && now.Sub(start) > k.span+settle:
			delete(r.samples, k)
		case !s.written:
			out = append(out, Sample{Start: start, Span: k.span, Bytes: maps.Clone(s.bytes)})
		}
	}
	slices.SortFunc(out, func(a, b Sample) int { return a.Start.Compare(b.Start) })
	return out
}

// wrote notes that samples are in the store as they were.
func (r *Recorder) wrote(samples []Sample) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range samples {
		if now := r.samples[key{s.Span, s.Start.Unix()}]; now != nil && maps.Equal(now.bytes, s.Bytes) {
			now.written = true
		}
	}
}

// forget drops the samples of all daemons that are old enough, and a little older, so
// that a window is whole.
func (r *Recorder) forget(ctx context.Context, now time.Time) error {
	for _, g := range Grains() {
		if err := r.store.Forget(ctx, g.Span, now.Add(-g.Keep-g.Keep/points)); err != nil {
			return err
		}
	}
	return nil
}
