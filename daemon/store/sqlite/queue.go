package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
)

// Create implements [jobs.Queue].
func (s *Store) Create(ctx context.Context, batch []jobs.NewJob) error {
	if err := s.hold.present(); err != nil {
		return err
	}
	now, steady := s.clock.Now(), s.clock.Steady()
	progress, err := json.Marshal(models.Progress{Phase: string(models.StatusPending)})
	if err != nil {
		return err
	}
	first := state(now, models.StatusPending, "")
	first.ID = 1
	event, err := json.Marshal(first)
	if err != nil {
		return err
	}
	return s.tx(ctx, func(tx *sql.Tx) error {
		insert, err := tx.PrepareContext(ctx, `
			INSERT INTO jobs (id, definition, secret, vcenter, own_user, priority, status, claimable_at, progress, updated_at, last_event)
			VALUES (?, ?, ?, ?, ?, ?, 'pending', ?, ?, ?, 1)
			ON CONFLICT (id) DO NOTHING RETURNING seq`)
		if err != nil {
			return err
		}
		defer insert.Close()
		log, err := tx.PrepareContext(ctx, `INSERT INTO events (job, id, data) VALUES (?, 1, ?)`)
		if err != nil {
			return err
		}
		defer log.Close()
		var taken []string
		for _, n := range batch {
			def, err := json.Marshal(n.Definition)
			if err != nil {
				return err
			}
			var seq int64
			err = insert.QueryRowContext(ctx, n.Definition.ID, string(def), n.Secret, n.Definition.VCenterKey(),
				n.Definition.Username != "", n.Definition.Priority, millis(steady), string(progress), millis(now)).Scan(&seq)
			if errors.Is(err, sql.ErrNoRows) {
				taken = append(taken, n.Definition.ID)
				continue
			}
			if err != nil {
				return err
			}
			if _, err := log.ExecContext(ctx, seq, string(event)); err != nil {
				return err
			}
		}
		if len(taken) > 0 {
			return &jobs.ExistsError{IDs: taken}
		}
		return nil
	})
}

// claimNext returns the query for the job to claim: of each vCenter the first
// that is due in the order of the queue's index, and of these the best.
func claimNext(r jobs.ClaimRequest, steady time.Time) (query string, args []any) {
	args = []any{millis(steady), r.Owner}
	var more string
	if len(r.Refused) > 0 {
		more += ` AND (h.own_user OR h.vcenter NOT IN (` + marks(len(r.Refused)) + `))`
		args = appendAll(args, r.Refused)
	}
	for _, dir := range r.Below {
		more += ` AND substr(json_extract(h.definition, '$.output_path') || '/', 1, length(?)) <> ?`
		prefix := strings.TrimSuffix(dir, "/") + "/"
		args = append(args, prefix, prefix)
	}
	if r.Deaths > 0 {
		more += ` AND h.deaths + (h.status = 'running') >= ?`
		args = append(args, r.Deaths)
	}
	return `
WITH RECURSIVE v (vcenter) AS (
	SELECT min(vcenter) FROM jobs WHERE claimable_at IS NOT NULL AND cancel = ''
	UNION ALL
	SELECT (SELECT min(j.vcenter) FROM jobs j
		WHERE j.claimable_at IS NOT NULL AND j.cancel = '' AND j.vcenter > v.vcenter)
	FROM v WHERE v.vcenter IS NOT NULL
)
SELECT j.seq FROM v
JOIN jobs j ON j.seq = (
	SELECT h.seq FROM jobs h
	WHERE h.vcenter = v.vcenter AND h.claimable_at IS NOT NULL AND h.cancel = ''
		AND h.claimable_at <= ? AND NOT (h.status = 'running' AND h.owner = ?)` + more + `
	ORDER BY h.priority DESC, h.seq LIMIT 1)
LEFT JOIN turns t ON t.vcenter = v.vcenter
WHERE v.vcenter NOT IN (` + marks(len(r.Full)) + `)
ORDER BY j.priority DESC, coalesce(t.turn, 0), j.seq LIMIT 1`, appendAll(args, r.Full)
}

// claimCancelling returns the query for a job to clean up.
func claimCancelling(r jobs.ClaimRequest, steady time.Time) (query string, args []any) {
	return `
SELECT seq FROM jobs
WHERE cancel <> '' AND claimable_at <= ? AND NOT (status = 'running' AND owner = ?)
ORDER BY seq LIMIT 1`, []any{millis(steady), r.Owner}
}

func appendAll(args []any, more []string) []any {
	for _, m := range more {
		args = append(args, m)
	}
	return args
}

// Claim implements [jobs.Queue].
func (s *Store) Claim(ctx context.Context, r jobs.ClaimRequest) (jobs.Claimed, error) {
	if err := s.hold.present(); err != nil && !r.Cancelling {
		return jobs.Claimed{}, err
	}
	now, steady := s.clock.Now(), s.clock.Steady()
	next := claimNext
	if r.Cancelling {
		next = claimCancelling
	}
	query, args := next(r, steady)
	// Most looks find nothing: they need no write transaction.
	var seq int64
	err := s.read.QueryRowContext(ctx, query, args...).Scan(&seq)
	if errors.Is(err, sql.ErrNoRows) {
		return jobs.Claimed{}, jobs.ErrNoJob
	}
	if err != nil {
		return jobs.Claimed{}, s.explain(err)
	}
	var row row
	err = s.tx(ctx, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, query, args...).Scan(&seq)
		if errors.Is(err, sql.ErrNoRows) {
			return jobs.ErrNoJob
		}
		if err != nil {
			return err
		}
		err = row.scan(tx.QueryRowContext(ctx, `
			UPDATE jobs SET status = 'running', owner = ?, epoch = epoch + 1, ran = ran + 1,
				deaths = deaths + (status = 'running'), claimable_at = ?,
				started_at = coalesce(started_at, ?), updated_at = ?, error = ''
			WHERE seq = ? RETURNING `+columns,
			r.Owner, millis(steady.Add(r.Hold)), millis(now), millis(now), seq))
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `
			INSERT INTO turns (vcenter, turn) SELECT ?, 1 + coalesce(max(turn), 0) FROM turns WHERE true
			ON CONFLICT (vcenter) DO UPDATE SET turn = excluded.turn`, row.vcenter)
		if err != nil {
			return err
		}
		return appendEvents(ctx, tx, seq, state(now, models.StatusRunning, ""))
	})
	if err != nil {
		return jobs.Claimed{}, err
	}
	job, err := row.job(s.clock)
	if err != nil {
		return jobs.Claimed{}, err
	}
	return jobs.Claimed{
		Claim:    jobs.Claim{JobID: row.id, Owner: r.Owner, Epoch: row.epoch},
		Job:      job,
		Secret:   row.secret,
		Cancel:   row.cancelled(),
		Failures: row.failures,
		Deaths:   row.deaths,
	}, nil
}

// held is the condition under which a claim holds; its arguments are
// [claimArgs].
const held = ` WHERE id = ? AND owner = ? AND epoch = ? AND status = 'running'`

func claimArgs(l jobs.Claim) []any { return []any{l.JobID, l.Owner, l.Epoch} }

// Heartbeat implements [jobs.Queue].
func (s *Store) Heartbeat(ctx context.Context, l jobs.Claim, b jobs.Beat) (jobs.Signals, error) {
	now, until := s.clock.Now(), s.clock.Steady().Add(b.Hold)
	percent := 0.0
	if b.Progress != nil {
		percent = b.Progress.PercentComplete
	}
	var r row
	err := s.tx(ctx, func(tx *sql.Tx) error {
		progress, err := optional(b.Progress)
		if err != nil {
			return err
		}
		err = tx.QueryRowContext(ctx, `
			UPDATE jobs SET claimable_at = ?, updated_at = ?, progress = coalesce(?, progress),
				deaths = CASE WHEN ? >= reached + 1 THEN 0 ELSE deaths END,
				reached = CASE WHEN ? >= reached + 1 THEN ? ELSE reached END`+held+`
			RETURNING seq, cancel, deaths`,
			append([]any{millis(until), millis(now), progress, percent, percent, percent}, claimArgs(l)...)...).
			Scan(&r.seq, &r.cancel, &r.deaths)
		if errors.Is(err, sql.ErrNoRows) {
			return jobs.ErrFenced
		}
		if err != nil {
			return err
		}
		return appendEvents(ctx, tx, r.seq, b.Events...)
	})
	return jobs.Signals{Cancel: r.cancelled(), Deaths: r.deaths}, err
}

// Finish implements [jobs.Queue].
func (s *Store) Finish(ctx context.Context, l jobs.Claim, o jobs.Outcome) error {
	now, steady := s.clock.Now(), s.clock.Steady()
	return s.tx(ctx, func(tx *sql.Tx) error {
		progress, err := optional(o.Progress)
		if err != nil {
			return err
		}
		result, err := optional(o.Result)
		if err != nil {
			return err
		}
		var seq int64
		args := append([]any{
			o.Status, o.Error, result, progress, o.Failed, millis(now),
			o.Status.Final(), millis(now), // completed_at
			o.Status.Final(), millis(steady), millis(steady.Add(o.Delay)), // claimable_at
			o.Delay.Milliseconds(),
			o.Status.Final(), o.Status, // cancel, secret
			o.Untouched, o.Untouched, // ran, started_at
		}, claimArgs(l)...)
		err = tx.QueryRowContext(ctx, `
			UPDATE jobs SET status = ?, error = ?, result = ?, progress = coalesce(?, progress),
				failures = failures + ?, updated_at = ?, owner = '',
				completed_at = CASE WHEN ? THEN ? END,
				claimable_at = CASE WHEN ? THEN NULL WHEN cancel <> '' THEN ? ELSE ? END, delay = ?,
				cancel = CASE WHEN ? THEN '' ELSE cancel END,
				secret = CASE WHEN ? = 'completed' THEN NULL ELSE secret END,
				ran = ran - ?, started_at = CASE WHEN ran > ? THEN started_at END, deaths = 0`+held+`
			RETURNING seq`, args...).Scan(&seq)
		if errors.Is(err, sql.ErrNoRows) {
			return jobs.ErrFenced
		}
		if err != nil {
			return err
		}
		return appendEvents(ctx, tx, seq, append(o.Events[:len(o.Events):len(o.Events)], state(now, o.Status, o.Error))...)
	})
}

// state is the event of a change of status.
func state(now time.Time, s models.Status, text string) models.Event {
	return models.Event{Type: models.EventState, Time: now, Status: s, Error: text}
}

// appendEvents adds to a job's log and drops the oldest above the bound.
func appendEvents(ctx context.Context, tx *sql.Tx, job int64, events ...models.Event) error {
	if len(events) == 0 {
		return nil
	}
	var last int64
	err := tx.QueryRowContext(ctx, `UPDATE jobs SET last_event = last_event + ? WHERE seq = ? RETURNING last_event`,
		len(events), job).Scan(&last)
	if err != nil {
		return err
	}
	for i, e := range events {
		e.ID = last - int64(len(events)-1-i)
		data, err := json.Marshal(e)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO events (job, id, data) VALUES (?, ?, ?)`, job, e.ID, string(data)); err != nil {
			return err
		}
	}
	if last <= jobs.MaxEvents {
		return nil
	}
	_, err = tx.ExecContext(ctx, `DELETE FROM events WHERE job = ? AND id <= ?`, job, last-jobs.MaxEvents)
	return err
}
