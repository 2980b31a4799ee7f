package jobs

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/hyper2kvm/hyper2kvm/job"
)

// membership is a manager's entry among the [Daemons] on its store, and what it knows of
// the others. Without Daemons it is that of a daemon that is alone.
type membership struct {
	look chan struct{} // holds one token when something has changed

	mu      sync.Mutex
	self    Member
	entered bool // once
	drain   Drain
	all     []Daemon // as last read
}

// join enters the manager, and keeps its entry until leave is called, or ctx ends.
func (m *Manager) join(ctx context.Context) (leave func()) {
	if m.o.Daemons == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var over sync.WaitGroup
	over.Go(func() { m.stayEntered(ctx) })
	return func() {
		cancel()
		over.Wait()
		ctx, done := context.WithTimeout(context.WithoutCancel(ctx), handBackTimeout)
		defer done()
		if err := m.o.Daemons.Leave(ctx, m.member.as().Owner); err != nil {
			m.log.Warn("the other daemons are not told that this one has stopped; they see it soon", "error", err)
		}
	}
}

// Enter enters the manager among the daemons on its store, so that it can be found there
// before Run has begun, which does the same otherwise.
func (m *Manager) Enter(ctx context.Context) error {
	if m.o.Daemons == nil {
		return nil
	}
	return m.enter(ctx, true)
}

// known reports whether the daemon has been entered.
func (m *membership) known() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.entered
}

// stayEntered enters the manager again and again until ctx ends.
func (m *Manager) stayEntered(ctx context.Context) {
	beat := time.NewTicker(m.o.Heartbeat)
	defer beat.Stop()
	var trouble lastTrouble
	for first := !m.member.known(); ; {
		err := m.enterSoon(ctx, first)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			first = false
		case errors.Is(err, ErrReplaced):
			m.log.Error("another daemon has the same id and lives: is the state directory a copy? This one goes on under an id of its own until its next start; "+
				"remove daemon.id from the copy before it is started again", "id", m.member.as().ID)
			m.member.rename(m.o.Owner)
			first = true
			continue
		}
		if trouble.tell(err) {
			m.log.Error("cannot tell the other daemons that this one lives; trying again", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-m.member.look:
		case <-beat.C:
		}
	}
}

// enterSoon is enter, given up when it is time for the next.
func (m *Manager) enterSoon(ctx context.Context, first bool) error {
	ctx, cancel := context.WithTimeout(ctx, m.o.Heartbeat)
	defer cancel()
	return m.enter(ctx, first)
}

// enter renews the entry, and reads those of all. How long that may take is the store's
// to say.
func (m *Manager) enter(ctx context.Context, first bool) error {
	drain, err := m.o.Daemons.Enter(ctx, m.member.as(), m.o.Hold, first)
	if err != nil {
		return err
	}
	before, news := m.member.asked(drain)
	if news {
		m.nudge()
	}
	if drain != before {
		m.log.Info(drain.text())
	}
	all, err := m.o.Daemons.Daemons(ctx)
	if err == nil {
		m.member.know(all)
	}
	return err
}

// as is how the manager is entered.
func (m *membership) as() Member {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.self
}

func (m *membership) rename(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.self.ID = id
}

// asked notes what the daemon was asked for, and reports what that was before, and
// whether it is news.
func (m *membership) asked(d Drain) (before Drain, news bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before, news = m.drain, !m.entered || m.drain != d
	m.entered, m.drain = true, d
	return before, news
}

// text says to people what a daemon does that is asked for it.
func (d Drain) text() string {
	switch d {
	case DrainNow:
		return "the daemon is to be drained: it hands back what it runs, and claims nothing until it is resumed"
	case DrainWait:
		return "the daemon is to be drained: it lets end what it runs, and claims nothing until it is resumed"
	}
	return "the daemon is resumed: it claims jobs again"
}

func (m *membership) know(all []Daemon) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all = all
}

// orders says whether the manager may claim jobs, and those that are only to be cleaned
// up after a cancel. It ends the runs that a drain asks to be handed back. A daemon that
// does not know yet what it is asked for claims nothing. It is for the goroutine that
// starts runs.
func (m *Manager) orders() (work, clean bool) {
	if m.o.Daemons == nil {
		return true, true
	}
	entered, drain, replaced := m.member.orders()
	if !entered || drain == DrainNone {
		return entered, entered
	}
	if drain == DrainNow {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, r := range m.runs {
			if !r.cleanup || replaced {
				r.cancel(job.ErrShutdown)
			}
		}
	}
	return false, !replaced
}

// orders are what the daemon is asked for; replaced is that another daemon can do all
// that this one can.
func (m *membership) orders() (entered bool, drain Drain, replaced bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range m.all {
		if d.runs() && d.Owner != m.self.Owner && d.Labels.Suits(m.self.Labels) {
			replaced = true
		}
	}
	return m.entered, m.drain, replaced
}

// runs reports whether the daemon claims jobs.
func (d Daemon) runs() bool { return d.Alive && d.Drain == DrainNone }

// waiting says that no daemon can run a job with such a constraint, or is empty.
// cleanup is that it is only to be cleaned up.
func (m *membership) waiting(constraint job.Labels, cleanup bool) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	suited := false
	for _, d := range m.all {
		if !d.Alive || !d.Labels.Suits(constraint) {
			continue
		}
		suited = true
		if d.runs() || cleanup {
			return ""
		}
	}
	daemon := "daemon"
	if len(constraint) > 0 {
		daemon += " with " + strings.ReplaceAll(constraint.String(), "=", " ")
	}
	switch {
	case len(m.all) == 0: // they are not known yet
		return ""
	case suited:
		return "every " + daemon + " is drained: the job waits until one goes on (h2kvmctl drain -resume)"
	}
	return "no " + daemon + " is running: the job waits for one"
}

// Drain asks for a daemon of the store to be drained, or with [DrainNone] to go on. It
// returns [ErrNoDaemon].
func (m *Manager) Drain(ctx context.Context, id string, d Drain) error {
	if m.o.Daemons == nil {
		return ErrNoDaemon
	}
	err := m.o.Daemons.Drain(ctx, id, d)
	m.member.changed() // it may be this one
	return err
}

// Daemons lists the daemons on the store; self is the id of this one. Without [Daemons]
// in the options there are none.
func (m *Manager) Daemons(ctx context.Context) (all []Daemon, self string, err error) {
	if m.o.Daemons == nil {
		return nil, "", nil
	}
	all, err = m.o.Daemons.Daemons(ctx)
	return all, m.member.as().ID, err
}

// changed makes the manager look at the daemons now.
func (m *membership) changed() {
	select {
	case m.look <- struct{}{}:
	default:
	}
}
