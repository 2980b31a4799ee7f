package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/clock"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/sqlstore"
	"github.com/hyper2kvm/hyper2kvm/internal/sleep"
)

const (
	// callTimeout bounds one call, with all its tries. It is well below what a claim
	// holds.
	callTimeout    = 20 * time.Second
	prepareTimeout = 2 * time.Minute
	// tries is how often a call is tried that others, or a broken connection, ended.
	tries = 4
	// pause is the wait after the first of them; it doubles with each.
	pause = 30 * time.Millisecond
	// fateTimeout is how long it is asked what became of a commit.
	fateTimeout = 10 * time.Second
)

// dialect is PostgreSQL's.
var dialect = sqlstore.Dialect{
	Numbered: true, Text: true, PassOver: " FOR UPDATE SKIP LOCKED", Hold: " FOR UPDATE",
	LockAudit: "LOCK TABLE audit IN SHARE ROW EXCLUSIVE MODE",
}

// serverTime is the server's clock in milliseconds since 1970.
const serverTime = `floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint`

// about is for how long the server's clock is reckoned from an earlier reading, for
// what only reads.
const about = 10 * time.Second

// reading is one of the server's clock.
type reading struct {
	server time.Time
	at     time.Time // by this process's clock, which does not jump
}

// read reads the server's clock through q.
func (d *database) read(ctx context.Context, q sqlstore.Querier) (clock.Moment, error) {
	if r := d.clock.Load(); r != nil {
		if since := time.Since(r.at); since < about {
			return d.moment(r.server.Add(since).UnixMilli()), nil
		}
	}
	var ms int64
	err := q.QueryRowContext(ctx, `SELECT `+serverTime).Scan(&ms)
	if err != nil {
		return clock.Moment{}, err
	}
	return d.note(ms), nil
}

// note keeps a reading of the server's clock.
func (d *database) note(ms int64) clock.Moment {
	d.clock.Store(&reading{server: time.UnixMilli(ms), at: time.Now()})
	return d.moment(ms)
}

// moment is what the clocks show when the server's shows ms.
func (d *database) moment(ms int64) clock.Moment {
	at := time.UnixMilli(ms).UTC()
	if d.o.shift == nil {
		return clock.Moment{Now: at, Steady: at}
	}
	now, steady := d.o.shift()
	return clock.Moment{Now: at.Add(now).Truncate(time.Millisecond), Steady: at.Add(steady)}
}

func (d *database) conn(q sqlstore.Querier) sqlstore.Conn {
	return sqlstore.Conn{Querier: q, Dialect: dialect, Clock: func(ctx context.Context) (clock.Moment, error) {
		return d.read(ctx, q)
	}}
}

// Read implements [sqlstore.Backend].
func (d *database) Read(ctx context.Context, f func(sqlstore.Conn) error) error {
	return d.keepTrying(ctx, func(context.Context) error { return f(d.conn(d.pool)) })
}

// Write implements [sqlstore.Backend].
func (d *database) Write(ctx context.Context, f func(sqlstore.Tx) error) error {
	return d.keepTrying(ctx, func(ctx context.Context) error { return d.transaction(ctx, f) })
}

// keepTrying calls f until it succeeds, or fails in a way that another try does not
// mend.
func (d *database) keepTrying(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, errSlow)
	defer cancel()
	for try := 0; ; try++ {
		err := f(ctx)
		if err == nil || try == tries-1 || ctx.Err() != nil || !passing(err) {
			return d.explain(ctx, err)
		}
		if broken(err) {
			d.dropIdle() // most likely, the others are broken, too
		}
		if sleep.For(ctx, pause<<try) != nil {
			return d.explain(ctx, err)
		}
	}
}

// dropIdle closes the connections that nobody uses now.
func (d *database) dropIdle() {
	d.pool.SetMaxIdleConns(0)
	d.pool.SetMaxIdleConns(d.o.Connections)
}

// transaction calls f in one transaction. When it returns an error, nothing of it
// remains, or the error is [errUnknown].
func (d *database) transaction(ctx context.Context, f func(sqlstore.Tx) error) error {
	tx, err := d.pool.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	var id string
	var ms int64
	var told []jobs.Notice
	err = tx.QueryRowContext(ctx, `SELECT pg_current_xact_id()::text, `+serverTime).Scan(&id, &ms)
	if err == nil {
		err = f(sqlstore.Tx{Conn: d.conn(tx), Moment: d.note(ms), Told: &told})
	}
	if err == nil && len(told) > 0 {
		_, err = tx.ExecContext(ctx, `SELECT pg_notify($1, n) FROM unnest($2::text[]) AS n`, channel, d.payloads(told))
	}
	if err != nil {
		_ = tx.Rollback() // when that fails, the connection is closed, which does the same
		return err
	}
	err = tx.Commit()
	if err == nil || answered(err) || ctx.Err() != nil {
		return err
	}
	return d.fate(ctx, id)
}

// fate asks what became of a transaction whose commit was not answered: nil is that
// it was committed.
func (d *database) fate(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, fateTimeout)
	defer cancel()
	for wait := pause; ; wait = min(2*wait, time.Second) {
		d.dropIdle()
		var status *string
		err := d.pool.QueryRowContext(ctx, `SELECT pg_xact_status($1::xid8)`, id).Scan(&status)
		switch {
		case err != nil && !passing(err):
			return errors.Join(errUnknown, err)
		case err == nil && status == nil: // long ago, which it was not
			return errUnknown
		case err == nil && *status == "committed":
			return nil
		case err == nil && *status == "aborted":
			return errBroken
		}
		if sleep.For(ctx, wait) != nil {
			return errors.Join(errUnknown, err)
		}
	}
}
