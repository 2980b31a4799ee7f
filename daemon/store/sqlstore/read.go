package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/clock"
)

// allStatuses in the order in which a job can pass through them.
func allStatuses() []models.Status {
	return []models.Status{
		models.StatusPending, models.StatusRunning,
		models.StatusCompleted, models.StatusFailed, models.StatusCancelled,
	}
}

// idsPerQuery keeps well below the bounds on parameters.
const idsPerQuery = 1000

// unlimited is the LIMIT of a query without one.
const unlimited = int64(math.MaxInt64)

// List implements [jobs.Reader].
func (s Store) List(ctx context.Context, q jobs.Query) (page jobs.Page, err error) {
	err = s.db.Read(ctx, func(c Conn) error {
		now, err := c.Clock(ctx)
		if err != nil {
			return err
		}
		if q.IDs != nil {
			page, err = c.byIDs(ctx, q.IDs, now)
		} else {
			page, err = c.byStatus(ctx, q, now)
		}
		return err
	})
	if err != nil {
		return jobs.Page{}, err
	}
	return page, nil
}

func (c Conn) byIDs(ctx context.Context, ids []string, now clock.Moment) (jobs.Page, error) {
	found := make(map[string]models.Job)
	for chunk := range slices.Chunk(ids, idsPerQuery) {
		rows, err := collect(ctx, c, scanRow, `SELECT `+columns+` FROM jobs WHERE id IN (`+marks(len(chunk))+`)`, anys(chunk)...)
		if err != nil {
			return jobs.Page{}, err
		}
		for _, r := range rows {
			if found[r.id], err = r.job(now); err != nil {
				return jobs.Page{}, err
			}
		}
	}
	page := jobs.Page{Jobs: []models.Job{}}
	for _, id := range ids {
		if job, ok := found[id]; ok {
			page.Jobs = append(page.Jobs, job)
			delete(found, id) // asked for twice, given once
		}
	}
	page.Total = len(page.Jobs)
	return page, nil
}

// byStatus reads one page. Each status is a walk along an index of its own,
// bounded by the limit, so a page costs the same however many jobs there are.
func (c Conn) byStatus(ctx context.Context, q jobs.Query, now clock.Moment) (jobs.Page, error) {
	statuses := allStatuses()
	if len(q.Statuses) > 0 {
		statuses = slices.DeleteFunc(statuses, func(s models.Status) bool { return !slices.Contains(q.Statuses, s) })
	}
	counts, err := c.counts(ctx)
	if err != nil {
		return jobs.Page{}, err
	}
	page := jobs.Page{Jobs: []models.Job{}}
	for _, status := range statuses {
		page.Total += counts.Of(status)
	}
	limit := unlimited
	if q.Limit > 0 {
		limit = int64(q.Limit) + 1 // one more tells whether there is another page
	}
	before := int64(math.MaxInt64)
	if q.Cursor != "" {
		if before, err = strconv.ParseInt(q.Cursor, 10, 64); err != nil {
			return jobs.Page{}, jobs.ErrCursor
		}
	}
	var parts []string
	var args []any
	for i, status := range statuses {
		parts = append(parts, `SELECT * FROM (SELECT seq FROM jobs
			WHERE status = ? AND seq < ? ORDER BY seq DESC LIMIT ?) AS part`+strconv.Itoa(i))
		args = append(args, status, before, limit)
	}
	if len(parts) == 0 {
		return page, nil
	}
	rows, err := collect(ctx, c, scanRow, `SELECT `+columns+` FROM jobs WHERE seq IN (`+
		strings.Join(parts, " UNION ALL ")+`) ORDER BY seq DESC LIMIT ?`, append(args, limit)...)
	if err != nil {
		return jobs.Page{}, err
	}
	if q.Limit > 0 && len(rows) > q.Limit {
		rows = rows[:q.Limit]
		page.Next = strconv.FormatInt(rows[q.Limit-1].seq, 10)
	}
	page.Jobs, err = views(rows, now)
	return page, err
}

// number runs a query for one number.
func (s Store) number(ctx context.Context, query string, args ...any) (n int, err error) {
	err = s.db.Read(ctx, func(c Conn) error { return c.QueryRow(ctx, query, args...).Scan(&n) })
	return n, err
}

// Waiting implements [jobs.Reader].
func (s Store) Waiting(ctx context.Context, vcenter string) (int, error) {
	return s.number(ctx, `
		SELECT count(*) FROM jobs
		WHERE vcenter = ? AND claimable_at IS NOT NULL AND cancel = '' AND status = 'pending'`, vcenter)
}

// Sealed returns how many jobs hold a sealed password that a run may need, and the
// newest of those.
func (s Store) Sealed(ctx context.Context) (n int, newest []byte, err error) {
	const sealed = ` FROM jobs WHERE secret IS NOT NULL AND status <> 'completed'`
	err = s.db.Read(ctx, func(c Conn) error {
		if err := c.QueryRow(ctx, `SELECT count(*)`+sealed).Scan(&n); err != nil || n == 0 {
			return err
		}
		err := c.QueryRow(ctx, `SELECT secret`+sealed+` ORDER BY seq DESC LIMIT 1`).Scan(&newest)
		if errors.Is(err, sql.ErrNoRows) { // it was dropped just now
			n, err = 0, nil
		}
		return err
	})
	return n, newest, err
}

// Counts implements [jobs.Reader].
func (s Store) Counts(ctx context.Context) (counts jobs.Counts, err error) {
	err = s.db.Read(ctx, func(c Conn) error {
		counts, err = c.counts(ctx)
		return err
	})
	return counts, err
}

// counts reads the table that triggers keep: each row is a part of the number of
// jobs with a status.
func (c Conn) counts(ctx context.Context) (counts jobs.Counts, err error) {
	into := map[models.Status]*int{
		models.StatusPending: &counts.Pending, models.StatusRunning: &counts.Running, models.StatusCompleted: &counts.Completed,
		models.StatusFailed: &counts.Failed, models.StatusCancelled: &counts.Cancelled,
	}
	_, err = collect(ctx, c, func(scan func(...any) error) (struct{}, error) {
		var status models.Status
		var n int
		err := scan(&status, &n)
		if p := into[status]; p != nil {
			*p = n
		}
		return struct{}{}, err
	}, `SELECT status, CAST(sum(n) AS BIGINT) FROM counts GROUP BY status`)
	return counts, err
}

// Events implements [jobs.Reader].
func (s Store) Events(ctx context.Context, id string, after int64, limit int) (events []models.Event, err error) {
	most := unlimited
	if limit > 0 {
		most = int64(limit)
	}
	err = s.db.Read(ctx, func(c Conn) error {
		var job int64
		err := c.QueryRow(ctx, `SELECT seq FROM jobs WHERE id = ?`, id).Scan(&job)
		if errors.Is(err, sql.ErrNoRows) {
			return jobs.ErrNotFound
		}
		if err != nil {
			return err
		}
		events, err = collect(ctx, c, func(scan func(...any) error) (e models.Event, err error) {
			var data []byte
			if err := scan(&data); err != nil {
				return e, err
			}
			if err := json.Unmarshal(data, &e); err != nil {
				return e, fmt.Errorf("job %s: event log: %w", id, err)
			}
			return e, nil
		}, `SELECT data FROM events WHERE job = ? AND id > ? ORDER BY id LIMIT ?`, job, after, most)
		return err
	})
	return events, err
}
