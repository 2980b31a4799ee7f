package migrate_test

import (
	"context"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
)

// At 20 KB/s the disks would take minutes: the run ends in time only when its
// limit is lifted.
func TestAJobsLimitIsLiftedWhileItRunsAndBefore(t *testing.T) {
	t.Parallel()
	disks := twoDisks(t)
	for _, way := range []job.Transport{job.TransportNFC, job.TransportDatastore} {
		for _, running := range []bool{true, false} {
			t.Run(string(way), func(t *testing.T) {
				t.Parallel()
				b := newFlatBench(t, withCBT(), disks...)
				b.m.JobLimits = &migrate.JobLimits{}
				def := b.by(way, job.FormatRaw)
				def.ID, def.Options.Limit = "job-1", "20kB/s"
				if running {
					b.OnByte("guest1", 0, 512, func() { b.m.JobLimits.Set("job-1", 0) })
				} else {
					b.m.JobLimits.Set("job-1", 0)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				result, tracker, err := b.run(ctx, def)
				if err != nil {
					t.Fatalf("%v\n%s", err, events(tracker))
				}
				b.identical(result)
			})
		}
	}
}
