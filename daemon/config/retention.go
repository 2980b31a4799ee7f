package config

import "time"

// Retention is for how long jobs that have ended are kept. What is nil or 0 is kept
// for ever.
type Retention struct {
	Jobs    *Duration `yaml:"jobs"`     // since the end of a completed or cancelled job
	Failed  *Duration `yaml:"failed"`   // of a failed one; nil is as Jobs
	Events  *Duration `yaml:"events"`   // of a job that has ended: its log
	MaxJobs Count     `yaml:"max_jobs"` // in all; above it, those that ended first go
}

// mostJobs is more than anybody keeps.
const mostJobs = 10_000_000

// leastKept is how long a job is kept at least: who waits for its end must be able
// to see it.
const leastKept = time.Minute

func (r Retention) validate(bad func(key, format string, args ...any)) {
	for _, k := range []struct {
		key  string
		span *Duration
	}{{"jobs", r.Jobs}, {"failed", r.Failed}, {"events", r.Events}} {
		if k.span == nil {
			continue
		}
		checkSpan("retention."+k.key, *k.span, bad)
		if d := time.Duration(*k.span); d > 0 && d < leastKept {
			bad("retention."+k.key, "must be a minute at least; leave it out, or 0s, to keep them for ever")
		}
	}
	if r.MaxJobs < 0 || r.MaxJobs > mostJobs {
		bad("retention.max_jobs", "must be 1 to %d, or absent for any number", mostJobs)
	}
}
