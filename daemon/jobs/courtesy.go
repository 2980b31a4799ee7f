package jobs

import (
	"maps"
	"slices"
	"time"
)

// courtesy divides the jobs that may run at once at a vCenter fairly among daemons. One
// that runs its part lets the others have the next ones, and takes one only when it was
// there for as long as they need to find it. So nothing stays idle that nobody else
// wants, and who hears first of two hundred jobs does not have them all. It is used by
// the manager's loop alone.
type courtesy struct {
	since map[string]time.Time // by vCenter: from when on this daemon has had its part
}

// patience is how long jobs are left to others: each looks once in a Poll.
func (o Options) patience() time.Duration { return 2 * o.Poll }

// leave names the vCenters of which the next job is left to other daemons.
func (c *courtesy) leave(m *Manager, now time.Time) []string {
	daemons := m.member.atWork()
	if daemons < 2 || len(m.o.PerVCenter) == 0 {
		c.since = nil
		return nil
	}
	running := m.runningByVCenter()
	var left []string
	for _, vcenter := range slices.Sorted(maps.Keys(m.o.PerVCenter)) {
		part := (m.o.PerVCenter[vcenter] + daemons - 1) / daemons
		if running[vcenter] < part {
			delete(c.since, vcenter)
			continue
		}
		if c.since == nil {
			c.since = make(map[string]time.Time)
		}
		if _, ok := c.since[vcenter]; !ok {
			c.since[vcenter] = now
		}
		if now.Sub(c.since[vcenter]) < m.o.patience() {
			left = append(left, vcenter)
		}
	}
	return left
}

// took notes that a job of the vCenter was claimed: the next one is left to others anew.
func (c *courtesy) took(vcenter string) { delete(c.since, vcenter) }

// runningByVCenter counts the runs of this manager.
func (m *Manager) runningByVCenter() map[string]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := make(map[string]int)
	for _, r := range m.runs {
		if !r.cleanup {
			n[r.vcenter]++
		}
	}
	return n
}

// atWork is how many daemons on the store claim jobs, this one among them.
func (m *membership) atWork() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, d := range m.all {
		if d.Alive && d.Drain == DrainNone {
			n++
		}
	}
	return n
}
