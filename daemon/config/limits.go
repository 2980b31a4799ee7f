package config

import "github.com/hyper2kvm/hyper2kvm/units"

// Bounds are the limits of the daemon as a whole.
type Bounds struct {
	QueuedJobs Count  `yaml:"queued_jobs"` // pending jobs; 0 is DefaultQueuedJobs
	FreeSpace  string `yaml:"free_space"`  // as 5GiB: below it, no new job is begun there; empty is the default
	// Requests is how many requests per second each token, certificate, and address of
	// another machine may make, and twice as many at once; 0 is DefaultRequests.
	Requests Count `yaml:"requests_per_second"`
}

// DefaultQueuedJobs is how many jobs may wait.
const DefaultQueuedJobs = 20_000

// DefaultRequests is far more than watching some hundred jobs takes.
const DefaultRequests = 100

// mostRequests is more than a daemon answers.
const mostRequests = 1_000_000

func (b Bounds) validate(bad func(key, format string, args ...any)) {
	if b.QueuedJobs < 0 || b.QueuedJobs > mostJobs {
		bad("limits.queued_jobs", "must be 1 to %d, or absent for %d", mostJobs, DefaultQueuedJobs)
	}
	if b.Requests < 0 || b.Requests > mostRequests {
		bad("limits.requests_per_second", "must be 1 to %d, or absent for %d", mostRequests, DefaultRequests)
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
