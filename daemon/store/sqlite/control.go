package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// How part files are to be treated, as column cancel says it.
const (
	cancelRemove = "remove"
	cancelKeep   = "keep"
)

// Cancel implements [jobs.Control].
func (s *Store) Cancel(ctx context.Context, id string, c job.Cancelled) (models.Status, error) {
	now := s.clock.Now()
	parts := cancelRemove
	if c.KeepParts {
		parts = cancelKeep
	}
	var r row
	err := s.tx(ctx, func(tx *sql.Tx) error {
		if err := r.find(ctx, tx, id); err != nil {
			return err
		}
		var err error
		switch {
		case r.status == models.StatusCancelled || r.cancel != "":
		case r.status.Final():
			return jobs.ErrFinished
		case r.ran == 0:
			r.status = models.StatusCancelled
			_, err = tx.ExecContext(ctx, `
				UPDATE jobs SET status = ?, claimable_at = NULL, completed_at = ?, updated_at = ? WHERE seq = ?`,
				r.status, millis(now), millis(now), r.seq)
			if err == nil {
				err = appendEvents(ctx, tx, r.seq, state(now, r.status, ""))
			}
		default:
			_, err = tx.ExecContext(ctx, `
				UPDATE jobs SET cancel = ?, updated_at = ?,
					claimable_at = CASE WHEN status = 'pending' THEN ? ELSE claimable_at END
				WHERE seq = ?`, parts, millis(now), millis(s.clock.Steady()), r.seq)
		}
		return err
	})
	if err != nil {
		return r.status, err
	}
	return r.status, nil
}

// Retry implements [jobs.Control].
func (s *Store) Retry(ctx context.Context, ids []string) (map[string]error, error) {
	if err := s.hold.present(); err != nil {
		return nil, err
	}
	progress, err := json.Marshal(models.Progress{Phase: string(models.StatusPending)})
	if err != nil {
		return nil, err
	}
	outcome := make(map[string]error, len(ids))
	err = s.tx(ctx, func(tx *sql.Tx) error {
		for _, id := range ids {
			if _, seen := outcome[id]; seen {
				continue
			}
			var r row
			err := r.find(ctx, tx, id)
			switch {
			case err == nil && r.status == models.StatusCompleted:
				err = jobs.ErrCompleted
			case err == nil && !r.status.Final():
				err = jobs.ErrNotFinished
			case err == nil && r.dropped:
				err = jobs.ErrNoPassword
			case err == nil:
				if err := s.retry(ctx, tx, r.seq, string(progress)); err != nil {
					return err
				}
			case !errors.Is(err, jobs.ErrNotFound):
				return err
			}
			outcome[id] = err
		}
		return nil
	})
	return outcome, err
}

func (s *Store) retry(ctx context.Context, tx *sql.Tx, seq int64, progress string) error {
	now := s.clock.Now()
	_, err := tx.ExecContext(ctx, `
		UPDATE jobs SET status = 'pending', claimable_at = ?, delay = 0, updated_at = ?, failures = 0, deaths = 0, reached = 0,
			error = '', progress = ?, result = NULL, started_at = NULL, completed_at = NULL
		WHERE seq = ?`, millis(s.clock.Steady()), millis(now), progress, seq)
	if err != nil {
		return err
	}
	return appendEvents(ctx, tx, seq, state(now, models.StatusPending, ""))
}

// SetLimit implements [jobs.Control].
func (s *Store) SetLimit(ctx context.Context, id, limit string) error {
	return s.tx(ctx, func(tx *sql.Tx) error {
		var r row
		if err := r.find(ctx, tx, id); err != nil {
			return err
		}
		if r.status.Final() {
			return jobs.ErrFinished
		}
		if err := tx.QueryRowContext(ctx, `SELECT definition FROM jobs WHERE seq = ?`, r.seq).Scan(&r.definition); err != nil {
			return err
		}
		var def job.Definition
		if err := json.Unmarshal(r.definition, &def); err != nil {
			return fmt.Errorf("job %s: stored definition: %w", id, err)
		}
		def.Options.Limit = limit
		changed, err := json.Marshal(def)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE jobs SET definition = ?, updated_at = ? WHERE seq = ?`,
			string(changed), millis(s.clock.Now()), r.seq)
		return err
	})
}

// Delete implements [jobs.Control].
func (s *Store) Delete(ctx context.Context, id string) error {
	return s.tx(ctx, func(tx *sql.Tx) error {
		var r row
		if err := r.find(ctx, tx, id); err != nil {
			return err
		}
		if !r.status.Final() {
			return jobs.ErrNotFinished
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM jobs WHERE seq = ?`, r.seq)
		return err
	})
}

// find reads what steering a job needs to know.
func (r *row) find(ctx context.Context, tx *sql.Tx, id string) error {
	err := tx.QueryRowContext(ctx, `
		SELECT seq, status, ran, cancel, own_user AND secret IS NULL FROM jobs WHERE id = ?`, id).
		Scan(&r.seq, &r.status, &r.ran, &r.cancel, &r.dropped)
	if errors.Is(err, sql.ErrNoRows) {
		return jobs.ErrNotFound
	}
	return err
}
