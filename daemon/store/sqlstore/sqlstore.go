// Package sqlstore is what the stores in SQL databases have in common: the
// statements of [jobs.Store], [jobs.Secrets], [jobs.Pruner], [jobs.Daemons], [jobs.Outages],
// [limits.Store], [limits.Refusals], [access.Tokens], [audit.Store] and [rates.Store], the columns and their JSON.
//
// A database is a [Backend], which owns connections, transactions, time, and the
// words for trouble. The statements are written once, in what SQLite and PostgreSQL
// both understand: parameters are marked by ?, times are whole milliseconds since
// 1970, JSON is text as Go writes it. The little that differs is in [Dialect].
//
// Each database has migrations of its own, which make the same tables and columns.
package sqlstore

import (
	"context"
	"database/sql"
	"strconv"
	"strings"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/audit"
	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/limits"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/clock"
)

// Backend is a database. Both methods put its errors into terms of
// [jobs.StoreError] where that fits; errors of f that are not the database's are
// returned as they are.
type Backend interface {
	// Read calls f with a connection that only reads, again when that fails in a
	// way that another try may not.
	Read(ctx context.Context, f func(Conn) error) error
	// Write calls f in a transaction, which is committed when f returns nil and
	// rolled back otherwise. It may call f again, in another transaction, when
	// nothing of the one before remains.
	Write(ctx context.Context, f func(Tx) error) error
}

// Dialect is what differs between databases in the words of statements.
type Dialect struct {
	// Numbered parameters are marked by $1, $2, … in place of ?.
	Numbered bool
	// Text that holds NUL (in JSON, too) or is no UTF-8 is refused by the database.
	Text bool
	// PassOver ends a query for one row to be changed: rows that another
	// transaction holds are passed over.
	PassOver string
	// Hold ends a query for one row that nobody else is to change until the end of
	// the transaction.
	Hold string
	// LockAudit keeps other writers of the audit log away until the end of the
	// transaction; empty when every transaction does.
	LockAudit string
}

// Querier is a connection, a pool of them, or a transaction.
type Querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Conn is where statements go to.
type Conn struct {
	Querier Querier
	Dialect Dialect
	// Clock reads the time that all daemons on the store share, about.
	Clock func(ctx context.Context) (clock.Moment, error)
}

// Tx is a transaction.
type Tx struct {
	Conn
	clock.Moment // when it began

	// Told are notices for other daemons, sent when the transaction is committed. It
	// is nil when there are no others.
	Told *[]jobs.Notice
}

// tell keeps notices for the end of the transaction.
func (t Tx) tell(notices ...jobs.Notice) {
	if t.Told != nil {
		*t.Told = append(*t.Told, notices...)
	}
}

// Exec runs a statement that returns nothing.
func (c Conn) Exec(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return c.Querier.ExecContext(ctx, c.Dialect.Statement(query), c.Dialect.arguments(args)...)
}

// Query runs a query.
func (c Conn) Query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return c.Querier.QueryContext(ctx, c.Dialect.Statement(query), c.Dialect.arguments(args)...)
}

// QueryRow runs a query for one row.
func (c Conn) QueryRow(ctx context.Context, query string, args ...any) *sql.Row {
	return c.Querier.QueryRowContext(ctx, c.Dialect.Statement(query), c.Dialect.arguments(args)...)
}

// changed runs a statement and returns how many rows it changed.
func (c Conn) changed(ctx context.Context, query string, args ...any) (int64, error) {
	done, err := c.Exec(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return done.RowsAffected()
}

// Statement is a statement in the dialect. No text of ours holds a question mark
// but for parameters.
func (d Dialect) Statement(query string) string {
	if !d.Numbered {
		return query
	}
	var b strings.Builder
	for n, part := range strings.Split(query, "?") {
		if n > 0 {
			b.WriteString("$" + strconv.Itoa(n))
		}
		b.WriteString(part)
	}
	return b.String()
}

// arguments are args as the database takes them. Characters that it refuses are
// replaced, so that no error text of a job can keep its end from being stored.
func (d Dialect) arguments(args []any) []any {
	if !d.Text {
		return args
	}
	for i, a := range args {
		if s, ok := a.(string); ok {
			args[i] = nul.Replace(strings.ToValidUTF8(s, "\ufffd"))
		}
	}
	return args
}

// nul replaces NUL, plain and in JSON.
var nul = strings.NewReplacer("\x00", "\ufffd", `\u0000`, `\ufffd`)

// Store keeps jobs in a database. Make it with [New]. What lacks of [jobs.Store] and
// [jobs.Pruner], Check and Compact, is each database's own.
type Store struct{ db Backend }

var (
	_ jobs.Queue      = Store{}
	_ jobs.Control    = Store{}
	_ jobs.Secrets    = Store{}
	_ limits.Store    = Store{}
	_ limits.Refusals = Store{}
	_ jobs.Outages    = Store{}
)

// New returns the store in a database.
func New(db Backend) Store { return Store{db} }

// Tokens returns the API tokens that the database has.
func (s Store) Tokens() access.Tokens { return tokens(s) }

// Audit returns where the audit log of the database is kept.
func (s Store) Audit() audit.Store { return auditLog(s) }

// Members returns what the database has of the daemons on it.
func (s Store) Members() jobs.Daemons { return s }

// collect runs a query and returns what read makes of its rows.
func collect[T any](ctx context.Context, c Conn, read func(scan func(...any) error) (T, error), query string, args ...any) ([]T, error) {
	rows, err := c.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		one, err := read(rows.Scan)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}

func millis(t time.Time) int64 { return t.UnixMilli() }
