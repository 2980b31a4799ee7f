package jobs

import (
	"context"
	"errors"
	"slices"
	"time"
)

// Trouble is what can be wrong with the place where a [Store] keeps its jobs.
type Trouble string

// Kinds of [Trouble].
const (
	TroubleFull     Trouble = "full"      // there is no room
	TroubleReadOnly Trouble = "read-only" // it must not be written
	TroubleBusy     Trouble = "busy"      // somebody else uses it; this passes
	TroubleGone     Trouble = "gone"      // it was deleted or replaced while in use
	TroubleBroken   Trouble = "broken"    // it is damaged, or cannot be read or written
	TroubleAway     Trouble = "away"      // its server cannot be reached
	TroubleDenied   Trouble = "denied"    // its server refuses the login, or what is asked for
)

// StoreError is trouble with the place where a [Store] keeps its jobs. Nothing
// of what was asked for was done, and it may be asked for again once the trouble
// is over. Err says to people what is wrong, where, and what to do; it holds no
// secret.
type StoreError struct {
	Trouble Trouble
	Err     error
}

// Error is that of Err.
func (e *StoreError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *StoreError) Unwrap() error { return e.Err }

// healthTimeout is how long the store may take before it counts as unusable.
const healthTimeout = 2 * time.Second

var errSilent = errors.New("the place where the jobs are kept does not answer: another program holds it, or its disk is very slow")

// Health looks whether the store can be used. notes are what a person should
// see to although it can. Its errors are *[StoreError] or the store's own.
func (m *Manager) Health(ctx context.Context) (notes []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	// Who asks while a look is under way gets what that finds.
	look := m.looks.DoChan("", func() (any, error) { return m.store.Check(context.WithoutCancel(ctx)) })
	select {
	case r := <-look:
		notes, _ := r.Val.([]string)
		return notes, r.Err
	case <-ctx.Done():
		return nil, &StoreError{Trouble: TroubleBusy, Err: errSilent}
	}
}

// lastTrouble is the text of an error that was met at the last try, or empty.
type lastTrouble string

// tell takes the error of a further try, and reports whether it has to be told:
// it is one, and another than before.
func (t *lastTrouble) tell(err error) bool {
	before := *t
	if *t = ""; err != nil {
		*t = lastTrouble(err.Error())
	}
	return *t != "" && *t != before
}

// StoreTroubles is how often the store has become unusable since the start, as
// [Manager.WatchStore] has seen it, and since when it is so now; zero when it can be used.
func (m *Manager) StoreTroubles() (n int, since time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.troubles, m.troubled
}

// noteStore notes what a look at the store has found.
func (m *Manager) noteStore(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case err == nil:
		m.troubled = time.Time{}
	case m.troubled.IsZero():
		m.troubled = time.Now()
		m.troubles++
	}
}

// WatchStore looks at the store until ctx ends, every Options.StoreWatch, and
// logs when trouble begins, when it is another one, and when it is over.
func (m *Manager) WatchStore(ctx context.Context) error {
	tick := time.NewTicker(m.o.StoreWatch)
	defer tick.Stop()
	var trouble lastTrouble
	var told []string
	for {
		notes, err := m.Health(ctx)
		if ctx.Err() != nil {
			return nil
		}
		m.noteStore(err)
		if before := trouble; trouble.tell(err) {
			m.log.Error("the store of the jobs cannot be used; running jobs go on, no other is accepted or started", "error", err)
		} else if err == nil && before != "" {
			m.log.Info("the store of the jobs can be used again")
		}
		for _, note := range notes {
			if !slices.Contains(told, note) {
				told = append(told, note)
				m.log.Warn(note)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
