package jobs

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/units"
)

// Query returns jobs as q asks. Progress of the jobs that this manager runs is
// as fresh as watchers see it, and so it is of others that are watched or looked at here;
// else it is what the last heartbeat stored.
func (m *Manager) Query(ctx context.Context, q Query) (Page, error) {
	page, err := m.store.List(ctx, q)
	if err != nil {
		return Page{}, err
	}
	for i := range page.Jobs {
		m.refresh(&page.Jobs[i])
	}
	return page, nil
}

// Get returns one job, or [ErrNotFound].
func (m *Manager) Get(ctx context.Context, id string) (models.Job, error) {
	page, err := m.store.List(ctx, Query{IDs: []string{id}})
	if err != nil {
		return models.Job{}, err
	}
	if len(page.Jobs) == 0 {
		return models.Job{}, ErrNotFound
	}
	m.refresh(&page.Jobs[0])
	return page.Jobs[0], nil
}

// refresh puts what only memory knows into a job: a running one's live progress,
// and what a job waits for.
func (m *Manager) refresh(j *models.Job) {
	j.WaitingFor = m.waitingFor(*j)
	if j.Status != models.StatusRunning {
		return
	}
	// What another daemon has told is newer than what the store has for a heartbeat.
	if p := cmp.Or(m.hub.live(j.Definition.ID), m.hub.told(j.Definition.ID).elsewhere(m.o.Heartbeat)); p != nil {
		j.Progress = p
	}
}

// waitingFor says what a job waits for, or is empty.
func (m *Manager) waitingFor(j models.Job) string {
	if j.Status.Final() || j.Status == models.StatusRunning && !j.Cancelling {
		return ""
	}
	text := m.member.waiting(j.Definition.Constraint, j.Cancelling)
	mine := m.o.Daemon.Labels.Suits(j.Definition.Constraint) // what is here in its way counts
	if text == "" && mine {
		text = m.breaker.waiting(j.Definition)
	}
	if text == "" && mine && !j.Cancelling {
		text = m.waitingForRoom(j.Definition.OutputPath)
	}
	switch {
	case !j.Cancelling:
		return text
	case text == "":
		text = "waiting for vCenter " + vcenterName(j.Definition.VCenterKey())
	}
	return "cancelling: " + text
}

// Stats counts the jobs by status.
func (m *Manager) Stats(ctx context.Context) (Counts, error) { return m.store.Counts(ctx) }

// Cancel cancels jobs and waits until each has really ended: its goroutine is
// over and what it held at vSphere is released. It returns for each id nil
// when the job is cancelled now, [ErrFinished] when it ended otherwise,
// [ErrNotFound], or ctx's error when that ended first; the request to cancel
// then stands.
func (m *Manager) Cancel(ctx context.Context, ids []string, c job.Cancelled) map[string]error {
	outcome := make(map[string]error, len(ids))
	var waiting []string
	for _, id := range ids {
		if _, seen := outcome[id]; seen {
			continue
		}
		status, err := m.store.Cancel(ctx, id, c)
		outcome[id] = err
		if err != nil {
			continue
		}
		m.stop(id, c)
		m.hub.changed(id)
		if !status.Final() {
			waiting = append(waiting, id)
		}
	}
	m.dropNow(ctx) // of those that never ran
	m.nudge()
	var (
		mu sync.Mutex
		wg sync.WaitGroup
	)
	for _, id := range waiting {
		wg.Go(func() {
			err := m.awaitCancelled(ctx, id)
			mu.Lock()
			defer mu.Unlock()
			outcome[id] = err
		})
	}
	wg.Wait()
	return outcome
}

// stop ends the job's run, when it runs here.
func (m *Manager) stop(id string, c job.Cancelled) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r, ok := m.runs[id]; ok && !r.cleanup {
		r.cancel(c)
	}
}

// awaitCancelled waits until a job has ended.
func (m *Manager) awaitCancelled(ctx context.Context, id string) error {
	wake, unsubscribe := m.hub.subscribe(id)
	defer unsubscribe()
	poll := time.NewTicker(m.o.Poll)
	defer poll.Stop()
	for {
		j, err := m.Get(ctx, id)
		switch {
		case err != nil:
			return err
		case j.Status == models.StatusCancelled:
			return nil
		case j.Status.Final():
			return ErrFinished
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the cancel was asked for, but the job has not ended yet: %w", ctx.Err())
		case <-wake:
		case <-poll.C:
		}
	}
}

// Retry makes a failed or cancelled job pending again, or returns
// [ErrNotFound], [ErrNotFinished], [ErrCompleted] or [ErrNoPassword].
func (m *Manager) Retry(ctx context.Context, id string) error {
	outcome, err := m.RetryAll(ctx, []string{id})
	if err != nil {
		return err
	}
	return outcome[id]
}

// RetryAll makes failed and cancelled jobs pending again. It returns for each id
// nil, [ErrNotFound], [ErrNotFinished], [ErrCompleted] or [ErrNoPassword]; or an
// error, when nothing has changed. Logins that were refused are tried again for them: a
// person asks for it.
func (m *Manager) RetryAll(ctx context.Context, ids []string) (map[string]error, error) {
	var free []string
	m.mu.Lock()
	for _, id := range ids {
		if r := m.runs[id]; r == nil || !r.late.Load() {
			free = append(free, id)
		}
	}
	m.mu.Unlock()
	if err := m.forgive(ctx, free); err != nil {
		return nil, err
	}
	outcome, err := m.store.Retry(ctx, free)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if _, asked := outcome[id]; !asked {
			outcome[id] = ErrNotFinished // a cancelled run is still undoing
		}
		m.hub.changed(id)
	}
	m.nudge()
	return outcome, nil
}

// forgive lets refused logins of jobs be tried again, once for each user.
func (m *Manager) forgive(ctx context.Context, ids []string) error {
	page, err := m.store.List(ctx, Query{IDs: ids})
	if err != nil {
		return err
	}
	seen := make(map[[2]string]bool)
	for _, j := range page.Jobs {
		key := [2]string{j.Definition.VCenterKey(), j.Definition.Username}
		if seen[key] || !j.Status.Final() {
			continue
		}
		seen[key] = true
		m.o.VCenters.Forgive(j.Definition)
		m.breaker.resume(key[0])
	}
	return nil
}

// VCenters returns the vCenters that cannot be used, by name, and how many jobs
// wait for each.
func (m *Manager) VCenters(ctx context.Context) ([]VCenter, error) {
	all := m.breaker.list()
	for i := range all {
		var err error
		if all[i].Waiting, err = m.store.Waiting(ctx, all[i].Name); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Resume has a vCenter that cannot be used asked now, also with a login that was
// refused. Where no job waits for it, it returns [ErrUsable], and the login of the
// configuration is tried again all the same: it may have been refused to somebody who
// looked for VMs.
func (m *Manager) Resume(key string) error {
	c, ok := m.breaker.trouble(key)
	if !ok {
		m.o.VCenters.Forgive(jobAt(key).Definition)
		return ErrUsable
	}
	m.o.VCenters.Forgive(c.Job.Definition)
	m.breaker.resume(key)
	m.nudge()
	return nil
}

// SetLimit bounds a job's bandwidth, in the form of [units.ParseRate], from now
// on, also while it runs, and for later runs of it. It returns [ErrNotFound],
// [ErrFinished], or the reason why limit is no rate.
func (m *Manager) SetLimit(ctx context.Context, id, limit string) error {
	rate, err := units.ParseRate(limit)
	if err != nil {
		return err
	}
	if err := m.store.SetLimit(ctx, id, limit); err != nil {
		return err
	}
	if m.o.Throttle != nil {
		m.o.Throttle.Set(id, rate)
	}
	m.hub.changed(id)
	return nil
}

// Delete forgets a job that has ended and its events, or returns [ErrNotFound]
// or [ErrNotFinished]. What the job wrote to disk stays.
func (m *Manager) Delete(ctx context.Context, id string) error {
	if err := m.store.Delete(ctx, id); err != nil {
		return err
	}
	m.hub.changed(id)
	return nil
}
