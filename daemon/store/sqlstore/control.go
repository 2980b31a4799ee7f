package sqlstore

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
func (s Store) Cancel(ctx context.Context, id string, c job.Cancelled) (models.Status, error) {
	parts := cancelRemove
	if c.KeepParts {
		parts = cancelKeep
	}
	var r row
	err := s.db.Write(ctx, func(tx Tx) (err error) {
		if r, err = tx.find(ctx, id); err != nil {
			return err
		}
		switch {
		case r.status == models.StatusCancelled || r.cancel != "":
		case r.status.Final():
			return jobs.ErrFinished
		case r.ran == 0:
			r.status = models.StatusCancelled
			_, err = tx.Exec(ctx, `
				UPDATE jobs SET status = ?, claimable_at = NULL, completed_at = ?, updated_at = ? WHERE seq = ?`,
				r.status, millis(tx.Now), millis(tx.Now), r.seq)
			if err == nil {
				err = tx.appendEvents(ctx, r.seq, id, state(tx.Now, r.status, ""))
			}
		default:
			tx.tell(jobs.Notice{Type: jobs.NoticeCancel, Job: id}, jobs.Notice{Type: jobs.NoticeQueue})
			_, err = tx.Exec(ctx, `
				UPDATE jobs SET cancel = ?, updated_at = ?,
					claimable_at = CASE WHEN status = 'pending' THEN ? ELSE claimable_at END
				WHERE seq = ?`, parts, millis(tx.Now), millis(tx.Steady), r.seq)
		}
		return err
	})
	return r.status, err
}

// Retry implements [jobs.Control].
func (s Store) Retry(ctx context.Context, ids []string) (map[string]error, error) {
	progress, err := json.Marshal(models.Progress{Phase: string(models.StatusPending)})
	if err != nil {
		return nil, err
	}
	var outcome map[string]error
	err = s.db.Write(ctx, func(tx Tx) error {
		outcome = make(map[string]error, len(ids))
		for _, id := range ids {
			if _, seen := outcome[id]; seen {
				continue
			}
			r, err := tx.find(ctx, id)
			switch {
			case err == nil && r.status == models.StatusCompleted:
				err = jobs.ErrCompleted
			case err == nil && !r.status.Final():
				err = jobs.ErrNotFinished
			case err == nil && r.dropped:
				err = jobs.ErrNoPassword
			case err == nil:
				if err := tx.retry(ctx, r.seq, id, string(progress)); err != nil {
					return err
				}
			case !errors.Is(err, jobs.ErrNotFound):
				return err
			}
			outcome[id] = err
		}
		tx.tell(jobs.Notice{Type: jobs.NoticeQueue})
		return nil
	})
	return outcome, err
}

func (t Tx) retry(ctx context.Context, seq int64, id, progress string) error {
	_, err := t.Exec(ctx, `
		UPDATE jobs SET status = 'pending', claimable_at = ?, delay = 0, updated_at = ?, failures = 0, deaths = 0, reached = 0,
			error = '', progress = ?, result = NULL, started_at = NULL, completed_at = NULL
		WHERE seq = ?`, millis(t.Steady), millis(t.Now), progress, seq)
	if err != nil {
		return err
	}
	return t.appendEvents(ctx, seq, id, state(t.Now, models.StatusPending, ""))
}

// SetLimit implements [jobs.Control].
func (s Store) SetLimit(ctx context.Context, id, limit string) error {
	return s.db.Write(ctx, func(tx Tx) error {
		r, err := tx.find(ctx, id)
		if err != nil {
			return err
		}
		if r.status.Final() {
			return jobs.ErrFinished
		}
		if err := tx.QueryRow(ctx, `SELECT definition FROM jobs WHERE seq = ?`, r.seq).Scan(&r.definition); err != nil {
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
		tx.tell(jobs.Notice{Type: jobs.NoticeLimit, Job: id})
		_, err = tx.Exec(ctx, `UPDATE jobs SET definition = ?, updated_at = ? WHERE seq = ?`, string(changed), millis(tx.Now), r.seq)
		return err
	})
}

// Delete implements [jobs.Control].
func (s Store) Delete(ctx context.Context, id string) error {
	return s.db.Write(ctx, func(tx Tx) error {
		r, err := tx.find(ctx, id)
		if err != nil {
			return err
		}
		if !r.status.Final() {
			return jobs.ErrNotFinished
		}
		tx.tell(jobs.Notice{Type: jobs.NoticeJob, Job: id})
		_, err = tx.Exec(ctx, `DELETE FROM jobs WHERE seq = ?`, r.seq)
		return err
	})
}

// find reads what steering a job needs to know. Nobody else changes the job until
// the transaction ends.
func (t Tx) find(ctx context.Context, id string) (r row, err error) {
	err = t.QueryRow(ctx, `
		SELECT seq, status, ran, cancel, own_user AND secret IS NULL FROM jobs WHERE id = ?`+t.Dialect.Hold, id).
		Scan(&r.seq, &r.status, &r.ran, &r.cancel, &r.dropped)
	if errors.Is(err, sql.ErrNoRows) {
		err = jobs.ErrNotFound
	}
	return r, err
}
