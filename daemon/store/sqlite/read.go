package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
)

// allStatuses in the order in which a job can pass through them.
func allStatuses() []models.Status {
	return []models.Status{
		models.StatusPending, models.StatusRunning,
		models.StatusCompleted, models.StatusFailed, models.StatusCancelled,
	}
}

// idsPerQuery keeps well below SQLite's bound on parameters.
const idsPerQuery = 1000

// List implements [jobs.Reader].
func (s *Store) List(ctx context.Context, q jobs.Query) (jobs.Page, error) {
	var page jobs.Page
	var err error
	if q.IDs != nil {
		page, err = s.byIDs(ctx, q.IDs)
	} else {
		page, err = s.byStatus(ctx, q)
	}
	if err != nil {
		return jobs.Page{}, s.explain(err)
	}
	return page, nil
}

func (s *Store) byIDs(ctx context.Context, ids []string) (jobs.Page, error) {
	found := make(map[string]models.Job)
	for chunk := range slices.Chunk(ids, idsPerQuery) {
		args := make([]any, len(chunk))
		for i, id := range chunk {
			args[i] = id
		}
		rows, err := s.query(ctx, `SELECT `+columns+` FROM jobs WHERE id IN (`+marks(len(chunk))+`)`, args...)
		if err != nil {
			return jobs.Page{}, err
		}
		for _, r := range rows {
			if found[r.id], err = r.job(s.clock); err != nil {
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
func (s *Store) byStatus(ctx context.Context, q jobs.Query) (jobs.Page, error) {
	statuses := allStatuses()
	if len(q.Statuses) > 0 {
		statuses = slices.DeleteFunc(statuses, func(s models.Status) bool { return !slices.Contains(q.Statuses, s) })
	}
	counts, err := s.Counts(ctx)
	if err != nil {
		return jobs.Page{}, err
	}
	page := jobs.Page{Jobs: []models.Job{}}
	for _, status := range statuses {
		page.Total += counts.Of(status)
	}
	limit := -1 // none
	if q.Limit > 0 {
		limit = q.Limit + 1 // one more tells whether there is another page
	}
	var cursor any
	if q.Cursor != "" {
		if cursor, err = strconv.ParseInt(q.Cursor, 10, 64); err != nil {
			return jobs.Page{}, jobs.ErrCursor
		}
	}
	var parts []string
	var args []any
	for _, status := range statuses {
		parts = append(parts, `SELECT * FROM (SELECT seq FROM jobs
			WHERE status = ? AND seq < coalesce(?, 9223372036854775807) ORDER BY seq DESC LIMIT ?)`)
		args = append(args, status, cursor, limit)
	}
	if len(parts) == 0 {
		return page, nil
	}
	rows, err := s.query(ctx, `SELECT `+columns+` FROM jobs WHERE seq IN (`+
		strings.Join(parts, " UNION ALL ")+`) ORDER BY seq DESC LIMIT ?`, append(args, limit)...)
	if err != nil {
		return jobs.Page{}, err
	}
	if q.Limit > 0 && len(rows) > q.Limit {
		rows = rows[:q.Limit]
		page.Next = strconv.FormatInt(rows[q.Limit-1].seq, 10)
	}
	for _, r := range rows {
		job, err := r.job(s.clock)
		if err != nil {
			return jobs.Page{}, err
		}
		page.Jobs = append(page.Jobs, job)
	}
	return page, nil
}

// query reads jobs.
func (s *Store) query(ctx context.Context, text string, args ...any) ([]row, error) {
	rows, err := s.read.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []row
	for rows.Next() {
		var r row
		if err := r.scan(rows); err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, rows.Err()
}

// Waiting implements [jobs.Reader].
func (s *Store) Waiting(ctx context.Context, vcenter string) (int, error) {
	var n int
	err := s.read.QueryRowContext(ctx, `
		SELECT count(*) FROM jobs
		WHERE vcenter = ? AND claimable_at IS NOT NULL AND cancel = '' AND status = 'pending'`, vcenter).Scan(&n)
	return n, s.explain(err)
}

// Counts implements [jobs.Reader].
func (s *Store) Counts(ctx context.Context) (jobs.Counts, error) {
	var c jobs.Counts
	err := s.read.QueryRowContext(ctx, `
		SELECT
			(SELECT n FROM counts WHERE status = 'pending'),
			(SELECT n FROM counts WHERE status = 'running'),
			(SELECT n FROM counts WHERE status = 'completed'),
			(SELECT n FROM counts WHERE status = 'failed'),
			(SELECT n FROM counts WHERE status = 'cancelled')`).
		Scan(&c.Pending, &c.Running, &c.Completed, &c.Failed, &c.Cancelled)
	return c, s.explain(err)
}

// Sealed returns how many jobs hold a sealed password that a run may need.
func (s *Store) Sealed(ctx context.Context) (int, error) {
	var n int
	err := s.read.QueryRowContext(ctx, `SELECT count(*) FROM jobs WHERE secret IS NOT NULL AND status <> 'completed'`).Scan(&n)
	return n, s.explain(err)
}

// Events implements [jobs.Reader].
func (s *Store) Events(ctx context.Context, id string, after int64, limit int) ([]models.Event, error) {
	var job int64
	err := s.read.QueryRowContext(ctx, `SELECT seq FROM jobs WHERE id = ?`, id).Scan(&job)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, jobs.ErrNotFound
	}
	if err != nil {
		return nil, s.explain(err)
	}
	if limit <= 0 {
		limit = -1
	}
	rows, err := s.read.QueryContext(ctx, `SELECT data FROM events WHERE job = ? AND id > ? ORDER BY id LIMIT ?`, job, after, limit)
	if err != nil {
		return nil, s.explain(err)
	}
	defer rows.Close()
	var events []models.Event
	for rows.Next() {
		var data []byte
		var e models.Event
		if err := rows.Scan(&data); err != nil {
			return nil, s.explain(err)
		}
		if err := json.Unmarshal(data, &e); err != nil {
			return nil, fmt.Errorf("job %s: event log: %w", id, err)
		}
		events = append(events, e)
	}
	return events, s.explain(rows.Err())
}
