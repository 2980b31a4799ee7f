package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
)

var _ jobs.Pruner = (*Store)(nil)

// place is where a walk along the jobs that have ended goes on.
type place struct{ at, seq int64 }

func parsePlace(cursor string) (p place, err error) {
	if cursor == "" {
		return place{at: -1 << 62}, nil
	}
	if _, err := fmt.Sscanf(cursor, "%d.%d", &p.at, &p.seq); err != nil {
		return p, jobs.ErrCursor
	}
	return p, nil
}

// next is the cursor after a page of n of at most limit rows, whose last is p.
func (p place) next(n, limit int) string {
	if n < limit {
		return ""
	}
	return fmt.Sprintf("%d.%d", p.at, p.seq)
}

// walk is the rest of a statement that looks at jobs that have ended, with its
// parameters at, seq, before.
const walk = ` FROM jobs WHERE completed_at IS NOT NULL AND (completed_at, seq) > (?, ?) AND completed_at <= ?`

// Ended implements [jobs.Pruner].
func (s *Store) Ended(ctx context.Context, statuses []models.Status, age time.Duration, cursor string, limit int) ([]models.Job, string, error) {
	p, err := parsePlace(cursor)
	if err != nil {
		return nil, "", err
	}
	args := []any{p.at, p.seq, millis(s.clock.Now().Add(-age))}
	for _, status := range statuses {
		args = append(args, status)
	}
	rows, err := s.query(ctx, `SELECT `+columns+walk+` AND status IN (`+marks(len(statuses))+`) ORDER BY completed_at, seq LIMIT ?`, append(args, limit)...)
	if err != nil {
		return nil, "", s.explain(err)
	}
	ended := make([]models.Job, len(rows))
	for i, r := range rows {
		if ended[i], err = r.job(s.clock); err != nil {
			return nil, "", err
		}
		p = place{r.completedAt.Int64, r.seq}
	}
	return ended, p.next(len(rows), limit), nil
}

// Prune implements [jobs.Pruner].
func (s *Store) Prune(ctx context.Context, ids []string, age time.Duration) (pruned []string, err error) {
	before := millis(s.clock.Now().Add(-age))
	err = s.tx(ctx, func(tx *sql.Tx) error {
		for _, id := range ids {
			done, err := tx.ExecContext(ctx, `
				DELETE FROM jobs WHERE id = ? AND status IN ('completed', 'failed', 'cancelled') AND completed_at <= ?`, id, before)
			if err != nil {
				return err
			}
			if n, err := done.RowsAffected(); err != nil {
				return err
			} else if n > 0 {
				pruned = append(pruned, id)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return pruned, nil
}

// PruneEvents implements [jobs.Pruner].
func (s *Store) PruneEvents(ctx context.Context, age time.Duration, cursor string, limit int) (n int, next string, err error) {
	p, err := parsePlace(cursor)
	if err != nil {
		return 0, "", err
	}
	before := millis(s.clock.Now().Add(-age))
	found, err := s.withEvents(ctx, p, before, limit)
	if err != nil || len(found) == 0 {
		return 0, "", s.explain(err)
	}
	err = s.tx(ctx, func(tx *sql.Tx) error {
		for _, p := range found {
			// It may be another attempt's by now.
			_, err := tx.ExecContext(ctx, `DELETE FROM events WHERE job = ?
				AND id < (SELECT last_event FROM jobs WHERE seq = ? AND completed_at = ?)`, p.seq, p.seq, p.at)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, "", err
	}
	return len(found), found[len(found)-1].next(len(found), limit), nil
}

// withEvents are the jobs after p that have more events than the last.
func (s *Store) withEvents(ctx context.Context, p place, before int64, limit int) ([]place, error) {
	rows, err := s.read.QueryContext(ctx, `SELECT completed_at, seq`+walk+`
		AND EXISTS (SELECT 1 FROM events WHERE job = jobs.seq AND id < jobs.last_event) ORDER BY completed_at, seq LIMIT ?`,
		p.at, p.seq, before, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var found []place
	for rows.Next() {
		if err := rows.Scan(&p.at, &p.seq); err != nil {
			return nil, err
		}
		found = append(found, p)
	}
	return found, rows.Err()
}

const (
	// slackPages are free pages that are kept: there will be other jobs.
	slackPages = 64
	// compactPages are given back in one transaction.
	compactPages = 512
)

// Compact implements [jobs.Pruner]. The file is shorter once its write-ahead log
// has been moved into it, which the last call does.
func (s *Store) Compact(ctx context.Context) (more bool, err error) {
	c, err := s.writer(ctx)
	if err != nil {
		return false, err
	}
	free := 0
	err = func() error {
		defer c.Close() // gives it back
		if err := c.QueryRowContext(ctx, `PRAGMA freelist_count`).Scan(&free); err != nil || free <= slackPages {
			return err
		}
		rows, err := c.QueryContext(ctx, fmt.Sprintf(`PRAGMA incremental_vacuum(%d)`, min(compactPages, free-slackPages)))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() { // each step gives back a page
		}
		return rows.Err()
	}()
	switch {
	case err != nil || free <= slackPages:
		return false, s.explain(err)
	case free-compactPages > slackPages:
		return true, nil
	}
	return false, s.truncateLog(ctx)
}

// incremental makes the file one that can be given back in parts, which files of
// earlier versions are not. It takes as much room as the file has for a while; when
// there is none, the file stays as it is until another start.
func (s *Store) incremental(ctx context.Context) error {
	c, err := s.writer(ctx)
	if err != nil {
		return err
	}
	defer c.Close() // gives it back
	mode := 0
	if err := c.QueryRowContext(ctx, `PRAGMA auto_vacuum`).Scan(&mode); err != nil || mode == 2 {
		return err
	}
	if _, err := c.ExecContext(ctx, `PRAGMA auto_vacuum = INCREMENTAL`); err != nil {
		return err
	}
	_, err = c.ExecContext(ctx, `VACUUM`)
	if trouble := new(jobs.StoreError); errors.As(s.explain(err), &trouble) && trouble.Trouble == jobs.TroubleFull {
		return nil
	}
	return err
}
