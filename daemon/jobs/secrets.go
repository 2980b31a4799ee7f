package jobs

import (
	"context"
	"errors"
	"time"
)

// ErrNoPassword: the job brought a password along, which is not kept any more.
var ErrNoPassword = errors.New("the password that the job brought along is not kept any more: submit the job again with it")

// Secrets is what a [Store] does for the sealed passwords that it keeps. It never
// sees one in the clear.
type Secrets interface {
	// Secret returns the sealed password of a job, nil for none, or [ErrNotFound].
	Secret(ctx context.Context, id string) ([]byte, error)

	// Reseal replaces each sealed password by what reseal makes of it, all of them
	// or, with an error, none. Nil in place of bytes leaves one as it is. It
	// returns how many were replaced.
	Reseal(ctx context.Context, reseal func(sealed []byte) ([]byte, error)) (int, error)

	// DropSecrets forgets the passwords of jobs that ended at least age ago, and
	// returns how many. Such a job is not tried again: [ErrNoPassword].
	DropSecrets(ctx context.Context, age time.Duration) (int, error)
}

// Reseal is [Secrets.Reseal] while no password is between being sealed and being
// stored: what Options.Sealer seals from the end of the call on, it seals as reseal
// does.
func (m *Manager) Reseal(ctx context.Context, reseal func(sealed []byte) ([]byte, error)) (int, error) {
	if m.o.Secrets == nil {
		return 0, nil
	}
	m.sealing.Lock()
	defer m.sealing.Unlock()
	return m.o.Secrets.Reseal(ctx, reseal)
}

// How often passwords are looked for that are not to be kept any longer.
const (
	minDropEvery = time.Minute
	maxDropEvery = time.Hour
)

// dropPasswords forgets passwords that have been kept for long enough, until ctx
// ends. Those of completed jobs went with their end: these are of jobs that failed
// or were cancelled, and may have been tried again.
func (m *Manager) dropPasswords(ctx context.Context) {
	if m.o.Secrets == nil {
		return
	}
	keep := max(0, m.o.KeepPasswords)
	tick := time.NewTicker(min(max(keep/10, minDropEvery), maxDropEvery))
	defer tick.Stop()
	for {
		n, err := m.o.Secrets.DropSecrets(ctx, keep)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			m.log.Error("cannot drop the passwords of jobs that have ended; trying again", "error", err)
		case n > 0:
			m.log.Info("passwords of jobs that failed or were cancelled are dropped: a retry needs another submission", "jobs", n, "after", keep)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// dropNow forgets the password of a job that has just ended, when none is to be
// kept. What goes wrong is tried again by dropPasswords.
func (m *Manager) dropNow(ctx context.Context) {
	if m.o.Secrets == nil || m.o.KeepPasswords >= 0 {
		return
	}
	if _, err := m.o.Secrets.DropSecrets(ctx, 0); err != nil {
		m.log.Warn("cannot drop the password of a job that has ended; trying again later", "error", err)
	}
}
