package jobs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// ErrNoKey refuses a job that carries a password, since the daemon cannot
// encrypt it at rest.
var ErrNoKey = errors.New("password: the daemon has no key to encrypt it with; refer to one of the daemon's configured vCenters with vcenter instead, or give the daemon a key file")

// Submission is what became of the jobs of one call of [Manager.Submit].
type Submission struct {
	IDs      []string    // of the accepted jobs, in their order
	Rejected []Rejection // why others were not, in their order
}

// Rejection is why a job was not accepted. Its text quotes no value of the
// job.
type Rejection struct {
	Index int // of the job in the call, from 0
	Err   error
}

// Error says which job and why.
func (r Rejection) Error() string { return fmt.Sprintf("jobs[%d]: %v", r.Index, r.Err) }

// Unwrap returns why.
func (r Rejection) Unwrap() error { return r.Err }

// Submit stores jobs as pending and returns as soon as they are safe. With
// atomic, all are accepted or none; otherwise each for itself. Definitions are
// completed by [job.Definition.WithDefaults] and checked; a job without
// an ID gets one. The error is the store's, or a *[QueueFullError]; what is wrong
// with the jobs is in the Submission.
func (m *Manager) Submit(ctx context.Context, defs []job.Definition, atomic bool) (Submission, error) {
	var s Submission
	accepted := make(map[string]int) // index by ID
	var batch []NewJob
	now := time.Now().UTC()
	m.sealing.RLock()
	defer m.sealing.RUnlock()
	for i, def := range defs {
		prepared, err := m.prepare(def, now)
		if _, twice := accepted[prepared.Definition.ID]; err == nil && twice {
			err = ErrExists
		}
		if err != nil {
			s.Rejected = append(s.Rejected, Rejection{Index: i, Err: err})
			continue
		}
		accepted[prepared.Definition.ID] = i
		batch = append(batch, prepared)
	}
	m.queueing.Lock()
	defer m.queueing.Unlock()
	for {
		if len(batch) == 0 || atomic && len(s.Rejected) > 0 {
			break
		}
		if err := m.fits(ctx, len(batch)); err != nil {
			return Submission{}, err
		}
		err := m.store.Create(ctx, batch)
		var exists *ExistsError
		if errors.As(err, &exists) && len(exists.IDs) > 0 {
			for _, id := range exists.IDs {
				s.Rejected = append(s.Rejected, Rejection{Index: accepted[id], Err: ErrExists})
			}
			batch = slices.DeleteFunc(batch, func(j NewJob) bool {
				return slices.Contains(exists.IDs, j.Definition.ID)
			})
			continue
		}
		if err != nil {
			return Submission{}, fmt.Errorf("store jobs: %w", err)
		}
		for _, j := range batch {
			s.IDs = append(s.IDs, j.Definition.ID)
		}
		m.nudge()
		break
	}
	slices.SortFunc(s.Rejected, func(a, b Rejection) int { return a.Index - b.Index })
	return s, nil
}

// fits returns a *[QueueFullError] when n more jobs are too many.
func (m *Manager) fits(ctx context.Context, n int) error {
	if m.o.MaxQueued <= 0 {
		return nil
	}
	counts, err := m.store.Counts(ctx)
	if err == nil && counts.Pending+n > m.o.MaxQueued {
		err = &QueueFullError{Limit: m.o.MaxQueued, Pending: counts.Pending, Asked: n}
	}
	return err
}

// Admit returns why the daemon does not take a job that is right in itself, or nil:
// see Options.Admit.
func (m *Manager) Admit(def job.Definition) error {
	if m.o.Admit == nil {
		return nil
	}
	return m.o.Admit(def)
}

// prepare completes and checks a definition, and seals its password.
func (m *Manager) prepare(def job.Definition, now time.Time) (NewJob, error) {
	def = def.WithDefaults()
	if err := def.Validate(); err != nil {
		return NewJob{}, err
	}
	if err := m.Admit(def); err != nil {
		if hint := fault.Hint(err); hint != "" { // whoever may submit may know
			err = fmt.Errorf("%w; %s", err, hint)
		}
		return NewJob{}, err
	}
	if def.ID == "" {
		def.ID = uuid.NewString()
	}
	def.CreatedAt = now
	j := NewJob{Definition: def.Redacted()}
	if def.Password == "" {
		return j, nil
	}
	if m.o.Sealer == nil {
		return NewJob{}, ErrNoKey
	}
	var err error
	if j.Secret, err = m.o.Sealer.Seal([]byte(def.Password)); err != nil {
		return NewJob{}, fmt.Errorf("encrypt the password: %w", err)
	}
	return j, nil
}

// unseal returns a claimed job's definition with its password.
func (m *Manager) unseal(c Claimed) (job.Definition, error) {
	return m.withPassword(c.Job.Definition, c.Secret)
}

// withPassword returns a definition with the password that was sealed for it, if
// one was.
func (m *Manager) withPassword(def job.Definition, sealed []byte) (job.Definition, error) {
	if len(sealed) == 0 {
		return def, nil
	}
	if m.o.Sealer == nil {
		return def, fault.Permanent(ErrNoKey)
	}
	plain, err := m.o.Sealer.Open(sealed)
	if err != nil {
		return def, fault.Permanent(fmt.Errorf("password: cannot be decrypted with the daemon's key; submit the job again: %w", err))
	}
	def.Password = string(plain)
	return def, nil
}
