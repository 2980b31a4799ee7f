package jobs

import (
	"context"
	"time"
)

// trial finds out which job kills the daemon. When a daemon dies, every job it
// ran is a suspect, and after a few deaths most of them innocent ones. So those
// that have a quarter of Options.MaxDeaths run one after another at the next start,
// each alone until it got further than ever before, has ended, or Options.Trial
// is over. From then on only the culprit's deaths rise. It is used by the
// manager's loop alone.
type trial struct {
	over  bool // there is no suspect left
	run   *run // alone now
	began time.Time
}

// onTrial claims the next suspect when none runs alone. It returns true while
// nothing else is to be claimed.
func (m *Manager) onTrial(ctx, base context.Context) bool {
	t := &m.trial
	for ctx.Err() == nil && !t.over {
		if t.run != nil && !t.run.free() && time.Since(t.began) < m.o.Trial {
			return true
		}
		c, until, ok := m.claim(base, ClaimRequest{Deaths: max(2, m.o.MaxDeaths/4)})
		if !ok {
			t.over, t.run = true, nil
			return false
		}
		m.log.Warn("the daemon died more than once while it ran this job: it runs alone for a while",
			"job", c.Claim.JobID, "deaths", c.Deaths)
		t.run, t.began = m.start(base, c, until), time.Now()
	}
	return false
}

// free reports whether nothing is left to be found out about the run.
func (r *run) free() bool {
	select {
	case <-r.done:
		return true
	default:
		return r.cleared.Load()
	}
}
