package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
)

// How part files are to be treated, as column cancel says it.
const (
	cancelRemove = "remove"
	cancelKeep   = "keep"
)

// Cancel implements [jobs.Control].
func (s *Store) Cancel(ctx context.Context, id string, c models.Cancelled) (models.Status, error) {
	now := clock()
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
		case r.epoch == 0:
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
				WHERE seq = ?`, parts, millis(now), millis(now), r.seq)
		}
		return err
	})
	if err != nil {
		return r.status, err
	}
	return r.status, nil
}

// Retry implements [jobs.Control].
func (s *Store) Retry(ctx context.Context, id string) error {
	now := clock()
	progress, err := json.Marshal(models.Progress{Phase: string(models.StatusPending)})
	if err != nil {
		return err
	}
	return s.tx(ctx, func(tx *sql.Tx) error {
		var r row
		if err := r.find(ctx, tx, id); err != nil {
			return err
		}
		switch {
		case r.status == models.StatusCompleted:
			return jobs.ErrCompleted
		case !r.status.Final():
			return jobs.ErrNotFinished
		}
		_, err := tx.ExecContext(ctx, `
			UPDATE jobs SET status = 'pending', claimable_at = ?, updated_at = ?, failures = 0, error = '',
				progress = ?, result = NULL, started_at = NULL, completed_at = NULL
			WHERE seq = ?`, millis(now), millis(now), string(progress), r.seq)
		if err != nil {
			return err
		}
		return appendEvents(ctx, tx, r.seq, state(now, models.StatusPending, ""))
	})
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
		var def models.JobDefinition
		if err := json.Unmarshal(r.definition, &def); err != nil {
			return fmt.Errorf("job %s: stored definition: %w", id, err)
		}
		def.Options.Limit = limit
		changed, err := json.Marshal(def)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE jobs SET definition = ?, updated_at = ? WHERE seq = ?`,
			string(changed), millis(clock()), r.seq)
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
	err := tx.QueryRowContext(ctx, `SELECT seq, status, epoch, cancel FROM jobs WHERE id = ?`, id).
		Scan(&r.seq, &r.status, &r.epoch, &r.cancel)
	if errors.Is(err, sql.ErrNoRows) {
		return jobs.ErrNotFound
	}
	return err
}
