package config

import "github.com/hyper2kvm/hyper2kvm/units"

// Bounds are the limits of the daemon as a whole.
type Bounds struct {
	QueuedJobs Count  `yaml:"queued_jobs"` // pending jobs; 0 is DefaultQueuedJobs
	FreeSpace  string `yaml:"free_space"`  // as 5GiB: below it, no new job is begun there; empty is the default
}

// DefaultQueuedJobs is how many jobs may wait.
const DefaultQueuedJobs = 20_000

func (b Bounds) validate(bad func(key, format string, args ...any)) {
	if b.QueuedJobs < 0 || b.QueuedJobs > mostJobs {
		bad("limits.queued_jobs", "must be 1 to %d, or absent for %d", mostJobs, DefaultQueuedJobs)
	}
	if _, err := b.MinFree(); err != nil {
		bad("limits.free_space", "must be a size such as 5GiB, or absent for the default")
	}
}

// MinFree is FreeSpace in bytes, 0 for the default.
func (b Bounds) MinFree() (int64, error) {
	if b.FreeSpace == "" {
		return 0, nil
	}
	return units.ParseSize(b.FreeSpace)
}
