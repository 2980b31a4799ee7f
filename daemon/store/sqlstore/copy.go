package sqlstore

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
)

// table is a table as both kinds of databases have it.
type table struct {
	name    string
	columns []string
}

// tables are all but the numbers of jobs, which follow of themselves, and the daemons,
// which enter themselves; each after those that it refers to.
func tables() []table {
	return []table{
		{"jobs", strings.Fields(`seq id definition secret vcenter own_user priority wants status claimable_at delay owner daemon daemon_before epoch ran
			failures deaths reached cancel progress result error started_at completed_at updated_at last_event`)},
		{"events", []string{"job", "id", "data"}},
		{"turns", []string{"vcenter", "turn"}},
		{"tokens", strings.Split("seq, "+tokenColumns, ", ")},
		{"audit", []string{"number", "hash", "data"}},
		{"rates", []string{"span", "start", "writer", "data"}},
	}
}

// Moved is how many rows there were of each table, and how the jobs stand.
type Moved struct {
	Events, Tokens, Entries int64
	Jobs                    jobs.Counts
}

// NotEmptyError tells what a database holds that should hold nothing.
type NotEmptyError struct{ Table string }

// Error says that.
func (e *NotEmptyError) Error() string { return "it is not empty: there are " + e.Table + " in it" }

// Copy copies everything into a database of another kind that holds nothing, and counts
// it on both sides. Jobs that were running can be claimed at once. It returns a
// *[NotEmptyError].
func Copy(ctx context.Context, from Backend, to Tx) (m Moved, err error) {
	for _, t := range tables() {
		n, err := to.size(ctx, t)
		if err != nil {
			return m, err
		}
		if n > 0 {
			return m, &NotEmptyError{t.name}
		}
	}
	err = from.Read(ctx, func(c Conn) error {
		for _, t := range tables() {
			if err := to.fill(ctx, t, c); err != nil {
				return fmt.Errorf("table %s: %w", t.name, err)
			}
			had, err := c.size(ctx, t)
			if err != nil {
				return err
			}
			has, err := to.size(ctx, t)
			if err != nil {
				return err
			}
			if had != has {
				return fmt.Errorf("table %s: %d rows have become %d", t.name, had, has)
			}
			switch t.name {
			case "events":
				m.Events = has
			case "tokens":
				m.Tokens = has
			case "audit":
				m.Entries = has
			}
		}
		had, err := c.counts(ctx)
		if err != nil {
			return err
		}
		if m.Jobs, err = to.counts(ctx); err == nil && had != m.Jobs {
			err = fmt.Errorf("the jobs are %+v, and were %+v", m.Jobs, had)
		}
		return err
	})
	if err != nil {
		return m, err
	}
	_, err = to.Exec(ctx, `
		UPDATE jobs SET claimable_at = ? + CASE status WHEN 'running' THEN 0 ELSE delay END
		WHERE claimable_at IS NOT NULL AND (status = 'running' OR claimable_at > ? + delay)`, millis(to.Steady), millis(to.Steady))
	return m, err
}

func (c Conn) size(ctx context.Context, t table) (n int64, err error) {
	err = c.QueryRow(ctx, `SELECT count(*) FROM `+t.name).Scan(&n)
	return n, err
}

// fill copies the rows of a table.
func (t Tx) fill(ctx context.Context, tb table, from Conn) error {
	columns := strings.Join(tb.columns, ", ")
	rows, err := from.Query(ctx, `SELECT `+columns+` FROM `+tb.name+` ORDER BY 1, 2`)
	if err != nil {
		return err
	}
	defer rows.Close()
	width, truth := len(tb.columns), slices.Index(tb.columns, "own_user")
	one := `(` + marks(width) + `)`
	var args []any
	flush := func() error {
		if len(args) == 0 {
			return nil
		}
		_, err := t.Exec(ctx, `INSERT INTO `+tb.name+` (`+columns+`) VALUES `+repeat(len(args)/width, one), args...)
		args = args[:0]
		return err
	}
	for rows.Next() {
		row, at := make([]any, width), make([]any, width)
		for i := range row {
			at[i] = &row[i]
		}
		if err := rows.Scan(at...); err != nil {
			return err
		}
		if n, ok := row[max(truth, 0)].(int64); ok && truth >= 0 {
			row[truth] = n != 0 // which SQLite has as a number
		}
		if args = append(args, row...); len(args) >= createBatch*width {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	return flush()
}

// Within is the store as a transaction sees it.
func Within(tx Tx) Store { return New(within{tx}) }

// within is a Backend.
type within struct{ tx Tx }

// Read implements [Backend].
func (w within) Read(_ context.Context, f func(Conn) error) error { return f(w.tx.Conn) }

// Write implements [Backend]: it is written with the transaction.
func (w within) Write(_ context.Context, f func(Tx) error) error { return f(w.tx) }
