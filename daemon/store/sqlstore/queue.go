package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// createBatch is how many jobs one statement adds.
const createBatch = 100

// Create implements [jobs.Queue].
func (s Store) Create(ctx context.Context, batch []jobs.NewJob) error {
	return s.db.Write(ctx, func(tx Tx) error {
		var taken []string
		for some := range slices.Chunk(batch, createBatch) {
			more, err := tx.create(ctx, some)
			if err != nil {
				return err
			}
			taken = append(taken, more...)
		}
		if len(taken) > 0 {
			return &jobs.ExistsError{IDs: taken}
		}
		tx.tell(jobs.Notice{Type: jobs.NoticeQueue})
		return nil
	})
}

// create adds jobs, but for those whose ids are taken, which it returns.
func (t Tx) create(ctx context.Context, batch []jobs.NewJob) (taken []string, err error) {
	progress, err := json.Marshal(models.Progress{Phase: string(models.StatusPending)})
	if err != nil {
		return nil, err
	}
	first := state(t.Now, models.StatusPending, "")
	first.ID = 1
	event, err := json.Marshal(first)
	if err != nil {
		return nil, err
	}
	var args []any
	for _, n := range batch {
		def, err := json.Marshal(n.Definition)
		if err != nil {
			return nil, err
		}
		args = append(args, n.Definition.ID, string(def), n.Secret, n.Definition.VCenterKey(),
			n.Definition.Username != "", n.Definition.Priority, wants(n.Definition.Constraint), millis(t.Steady), string(progress), millis(t.Now))
	}
	added, err := collect(ctx, t.Conn, func(scan func(...any) error) (r row, err error) {
		err = scan(&r.id, &r.seq)
		return r, err
	}, `
		INSERT INTO jobs (id, definition, secret, vcenter, own_user, priority, wants, status, claimable_at, progress, updated_at, last_event)
		VALUES `+repeat(len(batch), `(?, ?, ?, ?, ?, ?, ?, 'pending', ?, ?, ?, 1)`)+`
		ON CONFLICT (id) DO NOTHING RETURNING id, seq`, args...)
	if err != nil {
		return nil, err
	}
	logs := make(map[string]bool, len(added))
	args = args[:0:0]
	for _, r := range added {
		logs[r.id] = true
		args = append(args, r.seq, string(event))
	}
	for _, n := range batch {
		if !logs[n.Definition.ID] {
			taken = append(taken, n.Definition.ID)
		}
		delete(logs, n.Definition.ID) // a second one with the id is one too many
	}
	if len(added) > 0 {
		_, err = t.Exec(ctx, `INSERT INTO events (job, id, data) VALUES `+repeat(len(added), `(?, 1, ?)`), args...)
	}
	return taken, err
}

// repeat is a list of n times the same.
func repeat(n int, text string) string {
	return strings.TrimSuffix(strings.Repeat(text+", ", n), ", ")
}

// condition is a part of a statement with its parameters.
type condition struct {
	text string
	args []any
}

// due is the condition under which a job h, which is not to be cancelled, can be
// claimed.
func due(r jobs.ClaimRequest, steady time.Time) condition {
	c := condition{
		` h.claimable_at IS NOT NULL AND h.cancel = '' AND h.claimable_at <= ? AND NOT (h.status = 'running' AND h.owner = ?)`,
		[]any{millis(steady), r.Owner},
	}
	// A daemon that is to be drained may not know yet.
	c.text += ` AND NOT EXISTS (SELECT 1 FROM daemons d WHERE d.owner = ? AND d.drain <> '')`
	c.args = append(c.args, r.Owner)
	c.suited(r)
	if len(r.Refused) > 0 {
		c.text += ` AND (h.own_user OR h.vcenter NOT IN (` + marks(len(r.Refused)) + `))`
		c.args = append(c.args, anys(r.Refused)...)
	}
	for _, dir := range r.Below {
		c.text += ` AND substr((h.definition ->> 'output_path') || '/', 1, length(CAST(? AS TEXT))) <> ?`
		prefix := strings.TrimSuffix(dir, "/") + "/"
		c.args = append(c.args, prefix, prefix)
	}
	if r.Deaths > 0 {
		c.text += ` AND h.deaths + CASE h.status WHEN 'running' THEN 1 ELSE 0 END >= ?`
		c.args = append(c.args, r.Deaths)
	}
	return c
}

// suited adds that the owner has the labels that the job wants: when those are taken
// out of what it wants, nothing is left.
func (c *condition) suited(r jobs.ClaimRequest) {
	left := `h.wants`
	for _, key := range slices.Sorted(maps.Keys(r.Labels)) {
		left = `replace(` + left + `, ?, '')`
		c.args = append(c.args, wants(job.Labels{key: r.Labels[key]}))
	}
	c.text += ` AND ` + left + ` = ''`
}

// wants is a constraint as column wants has it: <key=value> for each, where no key and no
// value has these characters, so that none is found inside another.
func wants(constraint job.Labels) string {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(constraint)) {
		b.WriteString("<" + key + "=" + constraint[key] + ">")
	}
	return b.String()
}

// inOrder ends a query for the first job h of a vCenter in the order of the queue's
// index.
const inOrder = ` ORDER BY h.priority DESC, h.seq LIMIT 1`

// nextVCenters is the query for the vCenters that have a job to claim: of each the
// first that is due counts, and the vCenter of the best is first.
func nextVCenters(r jobs.ClaimRequest, c condition) (query string, args []any) {
	query = `
WITH RECURSIVE v (vcenter) AS (
	SELECT min(vcenter) FROM jobs WHERE claimable_at IS NOT NULL AND cancel = ''
	UNION ALL
	SELECT (SELECT min(j.vcenter) FROM jobs j
		WHERE j.claimable_at IS NOT NULL AND j.cancel = '' AND j.vcenter > v.vcenter)
	FROM v WHERE v.vcenter IS NOT NULL
), n (vcenter, seq) AS MATERIALIZED (
	SELECT v.vcenter, (SELECT h.seq FROM jobs h WHERE h.vcenter = v.vcenter AND` + c.text + inOrder + `)
	FROM v WHERE v.vcenter IS NOT NULL`
	if len(r.Full) > 0 {
		query += ` AND v.vcenter NOT IN (` + marks(len(r.Full)) + `)`
	}
	return query + `
)
SELECT n.vcenter FROM n JOIN jobs j ON j.seq = n.seq LEFT JOIN turns t ON t.vcenter = n.vcenter
ORDER BY j.priority DESC, coalesce(t.turn, 0), j.seq`, slices.Concat(c.args, anys(r.Full))
}

// candidates returns how a job to claim is found: each condition is tried in turn.
func candidates(ctx context.Context, c Conn, r jobs.ClaimRequest, steady time.Time) ([]condition, error) {
	if r.Cancelling {
		left := condition{` h.cancel <> '' AND h.claimable_at <= ? AND NOT (h.status = 'running' AND h.owner = ?)`, []any{millis(steady), r.Owner}}
		left.suited(r)
		left.text += ` ORDER BY h.seq LIMIT 1`
		var seq int64
		err := c.QueryRow(ctx, `SELECT h.seq FROM jobs h WHERE`+left.text, left.args...).Scan(&seq)
		if errors.Is(err, sql.ErrNoRows) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		return []condition{left}, nil
	}
	one := due(r, steady)
	query, args := nextVCenters(r, one)
	return collect(ctx, c, func(scan func(...any) error) (condition, error) {
		var vcenter string
		err := scan(&vcenter)
		return condition{` h.vcenter = ? AND` + one.text + inOrder, slices.Concat([]any{vcenter}, one.args)}, err
	}, query, args...)
}

// Claim implements [jobs.Queue].
func (s Store) Claim(ctx context.Context, r jobs.ClaimRequest) (jobs.Claimed, error) {
	// Most looks find nothing: they need no write transaction.
	some := false
	err := s.db.Read(ctx, func(c Conn) error {
		now, err := c.Clock(ctx)
		if err != nil {
			return err
		}
		r, err := c.withFull(ctx, r, now.Steady)
		if err != nil {
			return err
		}
		found, err := candidates(ctx, c, r, now.Steady)
		some = len(found) > 0
		return err
	})
	if err == nil && !some {
		err = jobs.ErrNoJob
	}
	if err != nil {
		return jobs.Claimed{}, err
	}
	var claimed jobs.Claimed
	err = s.db.Write(ctx, func(tx Tx) error {
		r, err := tx.alone(ctx, r)
		if err != nil {
			return err
		}
		found, err := candidates(ctx, tx.Conn, r, tx.Steady)
		if err != nil {
			return err
		}
		for _, where := range found {
			if claimed, err = tx.claim(ctx, r, where); !errors.Is(err, sql.ErrNoRows) {
				return err
			} // others are just claiming it
		}
		return jobs.ErrNoJob
	})
	if err != nil {
		return jobs.Claimed{}, err
	}
	return claimed, nil
}

// withFull is r with the vCenters that are at their limits among those that are full.
func (c Conn) withFull(ctx context.Context, r jobs.ClaimRequest, steady time.Time) (jobs.ClaimRequest, error) {
	if r.Cancelling || len(r.Most) == 0 {
		return r, nil
	}
	names := slices.Sorted(maps.Keys(r.Most))
	type running struct {
		vcenter string
		n       int
	}
	all, err := collect(ctx, c, func(scan func(...any) error) (r running, err error) {
		err = scan(&r.vcenter, &r.n)
		return r, err
	}, `SELECT vcenter, count(*) FROM jobs WHERE status = 'running' AND claimable_at > ? AND vcenter IN (`+marks(len(names))+`)
		GROUP BY vcenter`, slices.Concat([]any{millis(steady)}, anys(names))...)
	r.Full = slices.Clone(r.Full)
	for _, v := range all {
		if v.n >= r.Most[v.vcenter] {
			r.Full = append(r.Full, v.vcenter)
		}
	}
	return r, err
}

// alone is withFull while nobody else claims jobs of these vCenters.
func (t Tx) alone(ctx context.Context, r jobs.ClaimRequest) (jobs.ClaimRequest, error) {
	if t.Dialect.Hold != "" && !r.Cancelling && len(r.Most) > 0 {
		var names []string
		for vcenter := range r.Most {
			names = append(names, "jobs of vCenter "+vcenter)
		}
		if _, err := t.lockLimits(ctx, names); err != nil {
			return r, err
		}
	}
	return t.withFull(ctx, r, t.Steady)
}

// claim claims the job that where finds, or returns sql.ErrNoRows.
func (t Tx) claim(ctx context.Context, r jobs.ClaimRequest, where condition) (jobs.Claimed, error) {
	args := []any{r.Owner, r.Daemon, millis(t.Steady.Add(r.Hold)), r.Hold.Milliseconds(), millis(t.Now), millis(t.Now)}
	var before string
	found := t.QueryRow(ctx, `
		UPDATE jobs SET deaths = deaths + CASE status WHEN 'running' THEN 1 ELSE 0 END,
			status = 'running', owner = ?, daemon_before = daemon, daemon = ?, epoch = epoch + 1, ran = ran + 1,
			claimable_at = ?, delay = ?, started_at = coalesce(started_at, ?), updated_at = ?, error = ''
		WHERE seq = (SELECT h.seq FROM jobs h WHERE`+where.text+t.Dialect.PassOver+`) RETURNING `+columns+`, daemon_before`,
		append(args, where.args...)...)
	row, err := scanRow(func(to ...any) error { return found.Scan(append(to, &before)...) })
	if err != nil {
		return jobs.Claimed{}, err
	}
	_, err = t.Exec(ctx, `
		INSERT INTO turns (vcenter, turn) SELECT CAST(? AS TEXT), 1 + coalesce(max(turn), 0) FROM turns WHERE true
		ON CONFLICT (vcenter) DO UPDATE SET turn = excluded.turn`, row.vcenter)
	if err != nil {
		return jobs.Claimed{}, err
	}
	job, err := row.job(t.Moment)
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
		Before:   before,
	}, t.appendEvents(ctx, row.seq, row.id, state(t.Now, models.StatusRunning, ""))
}

// held is the condition under which a claim holds; its arguments are
// [claimArgs].
const held = ` WHERE id = ? AND owner = ? AND epoch = ? AND status = 'running'`

func claimArgs(l jobs.Claim) []any { return []any{l.JobID, l.Owner, l.Epoch} }

// Heartbeat implements [jobs.Queue].
func (s Store) Heartbeat(ctx context.Context, l jobs.Claim, b jobs.Beat) (jobs.Signals, error) {
	percent := 0.0
	if b.Progress != nil {
		percent = b.Progress.PercentComplete
	}
	progress, err := optional(b.Progress)
	if err != nil {
		return jobs.Signals{}, err
	}
	var r row
	err = s.db.Write(ctx, func(tx Tx) error {
		until := millis(tx.Steady.Add(b.Hold))
		err := tx.QueryRow(ctx, `
			UPDATE jobs SET claimable_at = ?, delay = ?, updated_at = ?, progress = coalesce(?, progress),
				deaths = CASE WHEN ? >= reached + 1 THEN 0 ELSE deaths END,
				reached = CASE WHEN ? >= reached + 1 THEN ? ELSE reached END`+held+`
			RETURNING seq, cancel, deaths`,
			append([]any{until, b.Hold.Milliseconds(), millis(tx.Now), progress, percent, percent, percent}, claimArgs(l)...)...).
			Scan(&r.seq, &r.cancel, &r.deaths)
		if errors.Is(err, sql.ErrNoRows) {
			return jobs.ErrFenced
		}
		if err != nil {
			return err
		}
		return tx.appendEvents(ctx, r.seq, l.JobID, b.Events...)
	})
	return jobs.Signals{Cancel: r.cancelled(), Deaths: r.deaths}, err
}

// Finish implements [jobs.Queue].
func (s Store) Finish(ctx context.Context, l jobs.Claim, o jobs.Outcome) error {
	progress, err := optional(o.Progress)
	if err != nil {
		return err
	}
	result, err := optional(o.Result)
	if err != nil {
		return err
	}
	return s.db.Write(ctx, func(tx Tx) error {
		// What a job has that has ended, and what one that is handed back has.
		var completed, claimable, due any
		delay := o.Delay.Milliseconds()
		if o.Status.Final() {
			completed = millis(tx.Now)
		} else {
			claimable, due = millis(tx.Steady.Add(o.Delay)), millis(tx.Steady)
		}
		args := append([]any{
			o.Status, o.Error, result, progress, count(o.Failed), millis(tx.Now), completed,
			due, claimable, delay, o.Status.Final(), o.Status == models.StatusCompleted,
			count(o.Untouched), count(o.Untouched), // ran, started_at
		}, claimArgs(l)...)
		var seq int64
		err = tx.QueryRow(ctx, `
			UPDATE jobs SET status = ?, error = ?, result = ?, progress = coalesce(?, progress),
				failures = failures + ?, updated_at = ?, owner = '', completed_at = ?,
				claimable_at = CASE WHEN cancel <> '' THEN CAST(? AS BIGINT) ELSE CAST(? AS BIGINT) END, delay = ?,
				cancel = CASE WHEN CAST(? AS BOOLEAN) THEN '' ELSE cancel END,
				secret = CASE WHEN CAST(? AS BOOLEAN) THEN NULL ELSE secret END,
				ran = ran - ?, started_at = CASE WHEN ran > ? THEN started_at END, deaths = 0`+held+`
			RETURNING seq`, args...).Scan(&seq)
		if errors.Is(err, sql.ErrNoRows) {
			return jobs.ErrFenced
		}
		if err != nil {
			return err
		}
		tx.tell(jobs.Notice{Type: jobs.NoticeQueue}) // of this job, or of those that wait for its place
		return tx.appendEvents(ctx, seq, l.JobID, append(o.Events[:len(o.Events):len(o.Events)], state(tx.Now, o.Status, o.Error))...)
	})
}

// count is 1 for what is so.
func count(so bool) int {
	if so {
		return 1
	}
	return 0
}

// state is the event of a change of status.
func state(now time.Time, s models.Status, text string) models.Event {
	return models.Event{Type: models.EventState, Time: now, Status: s, Error: text}
}

// appendEvents adds to the log of the job with that seq and id, and drops the
// oldest above the bound.
func (t Tx) appendEvents(ctx context.Context, job int64, id string, events ...models.Event) error {
	if len(events) == 0 {
		return nil
	}
	t.tell(jobs.Notice{Type: jobs.NoticeJob, Job: id})
	var last int64
	err := t.QueryRow(ctx, `UPDATE jobs SET last_event = last_event + ? WHERE seq = ? RETURNING last_event`,
		len(events), job).Scan(&last)
	if err != nil {
		return err
	}
	args := make([]any, 0, 3*len(events))
	for i, e := range events {
		e.ID = last - int64(len(events)-1-i)
		data, err := json.Marshal(e)
		if err != nil {
			return err
		}
		args = append(args, job, e.ID, string(data))
	}
	for some := range slices.Chunk(args, 3*createBatch) {
		if _, err := t.Exec(ctx, `INSERT INTO events (job, id, data) VALUES `+repeat(len(some)/3, `(?, ?, ?)`), some...); err != nil {
			return err
		}
	}
	if last <= jobs.MaxEvents {
		return nil
	}
	_, err = t.Exec(ctx, `DELETE FROM events WHERE job = ? AND id <= ?`, job, last-jobs.MaxEvents)
	return err
}
