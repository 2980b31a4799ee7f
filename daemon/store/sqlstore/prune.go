package sqlstore

import (
	"context"
	"fmt"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
)

// place is where a walk along the jobs that have ended goes on.
type place struct{ at, seq int64 }

func scanPlace(scan func(...any) error) (p place, err error) {
	err = scan(&p.at, &p.seq)
	return p, err
}

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
func (s Store) Ended(ctx context.Context, statuses []models.Status, age time.Duration, cursor string, limit int) (ended []models.Job, next string, err error) {
	p, err := parsePlace(cursor)
	if err != nil {
		return nil, "", err
	}
	err = s.db.Read(ctx, func(c Conn) error {
		now, err := c.Clock(ctx)
		if err != nil {
			return err
		}
		args := append([]any{p.at, p.seq, millis(now.Now.Add(-age))}, anys(statuses)...)
		rows, err := collect(ctx, c, scanRow, `SELECT `+columns+walk+` AND status IN (`+marks(len(statuses))+`) ORDER BY completed_at, seq LIMIT ?`,
			append(args, limit)...)
		if err != nil {
			return err
		}
		next = ""
		if n := len(rows); n > 0 {
			next = place{rows[n-1].completedAt.Int64, rows[n-1].seq}.next(n, limit)
		}
		ended, err = views(rows, now)
		return err
	})
	if err != nil {
		return nil, "", err
	}
	return ended, next, nil
}

// Prune implements [jobs.Pruner].
func (s Store) Prune(ctx context.Context, ids []string, age time.Duration) (pruned []string, err error) {
	err = s.db.Write(ctx, func(tx Tx) error {
		pruned = nil
		for _, id := range ids {
			n, err := tx.changed(ctx, `
				DELETE FROM jobs WHERE id = ? AND status IN ('completed', 'failed', 'cancelled') AND completed_at <= ?`, id, millis(tx.Now.Add(-age)))
			if err != nil {
				return err
			}
			if n > 0 {
				pruned = append(pruned, id)
				tx.tell(jobs.Notice{Type: jobs.NoticeJob, Job: id})
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
func (s Store) PruneEvents(ctx context.Context, age time.Duration, cursor string, limit int) (n int, next string, err error) {
	p, err := parsePlace(cursor)
	if err != nil {
		return 0, "", err
	}
	var found []place // the jobs after p that have more events than the last
	err = s.db.Read(ctx, func(c Conn) error {
		now, err := c.Clock(ctx)
		if err != nil {
			return err
		}
		found, err = collect(ctx, c, scanPlace, `SELECT completed_at, seq`+walk+`
			AND EXISTS (SELECT 1 FROM events WHERE job = jobs.seq AND id < jobs.last_event) ORDER BY completed_at, seq LIMIT ?`,
			p.at, p.seq, millis(now.Now.Add(-age)), limit)
		return err
	})
	if err != nil || len(found) == 0 {
		return 0, "", err
	}
	err = s.db.Write(ctx, func(tx Tx) error {
		for _, p := range found {
			// It may be another attempt's by now.
			_, err := tx.Exec(ctx, `DELETE FROM events WHERE job = ?
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
