// Package sqlite is a [jobs.Store] in one SQLite file.
//
// The file belongs to one daemon at a time, which locks on it and on a file
// beside it prove: a second one is refused with [ErrLocked]. That makes two things
// simple. The database is a library in the one process that uses it, so its
// clock is the process's clock, and claims are measured by that. And when a
// store is opened, whoever held a claim in it is dead, so every claim is made
// to run out at once instead of being waited for. A database that serves
// several daemons may do neither: it must take the time from its server and
// let claims run out (package postgres). The statements are those of package
// sqlstore.
//
// Claims and delays are measured by a clock that does not jump while the process
// lives (package clock). Whoever opens the file cannot know how its clock stands
// to that of the process before, so no job waits longer from then on than the
// delay it was given.
//
// Writes go through one connection, one transaction at a time, so none finds
// the database busy; reads use others and see the last commit (WAL). A write
// that returned is on disk (synchronous=FULL).
package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/clock"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/sqlstore"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Store keeps jobs in a SQLite file. See [Open].
type Store struct {
	sqlstore.Store // the statements
	*file
}

var (
	_ jobs.Store   = (*Store)(nil)
	_ jobs.Pruner  = (*Store)(nil)
	_ jobs.Secrets = (*Store)(nil)
	_ jobs.Daemons = (*Store)(nil)
)

// file is the [sqlstore.Backend].
type file struct {
	clock clock.Clock
	path  string
	hold  *holding
	write *sql.DB // one connection
	read  *sql.DB
	// pin is never used. As long as it is open, no other connection is the
	// last one, with which SQLite removes the write-ahead log.
	pin *sql.Conn
}

// Open opens the state file at path, creates it when it is not there (its
// directory must be), and brings its schema up to date. Jobs that were running
// can be claimed at once.
func Open(ctx context.Context, path string) (*Store, error) {
	return OpenAt(ctx, path, nil)
}

// OpenAt is Open with another wall clock than time.Now.
func OpenAt(ctx context.Context, path string, wall func() time.Time) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open state file: %w", err)
	}
	s := newStore(&file{clock: clock.New(wall), path: path, hold: newHolding(path)})
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open state file %s: %w", path, err), s.Close())
	}
	return s, nil
}

func newStore(f *file) *Store { return &Store{sqlstore.New(f), f} }

func (s *Store) open(ctx context.Context) error {
	if err := s.hold.acquire(); err != nil {
		return err
	}
	var err error
	if s.write, err = connect(s.path, "_txlock=immediate"); err != nil {
		return err
	}
	s.write.SetMaxOpenConns(1)
	if s.read, err = connect(s.path, "_pragma=query_only(1)"); err != nil {
		return err
	}
	s.read.SetMaxOpenConns(1 + readers)
	s.read.SetMaxIdleConns(readers)
	if err := s.migrate(ctx); err != nil {
		return s.explain(err)
	}
	if err := s.incremental(ctx); err != nil {
		return s.explain(err)
	}
	now := millis(s.clock.Steady())
	_, err = s.write.ExecContext(ctx, `
		UPDATE jobs SET claimable_at = CASE status WHEN 'running' THEN ? ELSE min(claimable_at, ? + delay) END
		WHERE claimable_at IS NOT NULL AND status IN ('running', 'pending')`, now, now)
	if err != nil {
		return s.explain(err)
	}
	if _, err := s.write.ExecContext(ctx, `UPDATE daemons SET until = min(until, ?)`, now); err != nil {
		return s.explain(err)
	}
	if err := s.probe(ctx); err != nil {
		return err
	}
	if s.pin, err = s.read.Conn(ctx); err != nil {
		return s.explain(err)
	}
	if _, err := s.pin.ExecContext(ctx, `SELECT 1 FROM counts`); err != nil {
		return s.explain(err)
	}
	return s.hold.opened()
}

// readers is how many reads there may be at once.
const readers = 4

func connect(path, option string) (*sql.DB, error) {
	dsn := url.URL{Scheme: "file", Path: path, RawQuery: strings.Join([]string{
		option,
		"_pragma=busy_timeout(5000)",
		"_pragma=journal_mode(WAL)",
		"_pragma=synchronous(FULL)",
		"_pragma=foreign_keys(1)",
		"_pragma=secure_delete(1)", // what was a password's place is overwritten
	}, "&")}
	return sql.Open("sqlite", dsn.String())
}

// migrate brings the schema up to date.
func (s *file) migrate(ctx context.Context) error {
	if err := s.intact(ctx); err != nil {
		return err
	}
	p, have, want, err := s.versions(ctx)
	if err != nil || have == want {
		return err
	}
	_, err = p.Up(ctx)
	return err
}

// versions returns which version the schema has, and which this program's has,
// or [ErrNewerSchema].
func (s *file) versions(ctx context.Context) (p *goose.Provider, have, want int64, err error) {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, 0, 0, err
	}
	p, err = goose.NewProvider(goose.DialectSQLite3, s.write, dir,
		goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return nil, 0, 0, err
	}
	have, want, err = p.GetVersions(ctx)
	if err == nil && have > want {
		err = fmt.Errorf("%w: its schema has version %d, this program knows up to %d; run the newer one, or move the file away", ErrNewerSchema, have, want)
	}
	return p, have, want, err
}

// Close closes the file and lets other daemons have it. Claims are left as
// they are. Should the file have been deleted or replaced meanwhile, what the
// store held is saved beside it, and the error says where.
func (s *Store) Close() error {
	var errs []error
	saved := ""
	if s.hold.gone() {
		var err error
		if saved, err = s.rescue(context.Background()); err != nil {
			saved = ""
			errs = append(errs, fmt.Errorf("%s was deleted or replaced while the daemon used it, and its jobs could not be saved: %w", s.path, err))
		}
	}
	if s.pin != nil {
		errs = append(errs, s.pin.Close())
	}
	for _, db := range []*sql.DB{s.read, s.write} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	if saved != "" {
		errs = append(errs, s.hold.dropLog(), fmt.Errorf(
			"%s was deleted or replaced while the daemon used it; its jobs are saved in %s: move that to %s before the next start", s.path, saved, s.path))
	}
	return errors.Join(append(errs, s.hold.release())...)
}

// conn is where statements go to.
func (s *file) conn(q sqlstore.Querier) sqlstore.Conn {
	return sqlstore.Conn{Querier: q, Clock: func(context.Context) (clock.Moment, error) { return s.clock.Moment(), nil }}
}

// Read implements [sqlstore.Backend].
func (s *file) Read(_ context.Context, f func(sqlstore.Conn) error) error {
	return s.explain(f(s.conn(s.read)))
}

// Write implements [sqlstore.Backend].
func (s *file) Write(ctx context.Context, f func(sqlstore.Tx) error) error {
	c, err := s.writer(ctx)
	if err != nil {
		return err
	}
	defer c.Close() // gives it back
	tx, err := c.BeginTx(ctx, nil)
	if err != nil {
		return s.explain(err)
	}
	if err := f(sqlstore.Tx{Conn: s.conn(tx), Moment: s.clock.Moment()}); err != nil {
		rollback := tx.Rollback()
		err = s.explain(err)
		// The end of ctx may have rolled back already, and so may SQLite in
		// trouble.
		if rollback != nil && !errors.Is(rollback, sql.ErrTxDone) && !errors.As(err, new(*jobs.StoreError)) {
			err = errors.Join(err, rollback)
		}
		return err
	}
	return s.explain(tx.Commit())
}

// Create implements [jobs.Queue].
func (s *Store) Create(ctx context.Context, batch []jobs.NewJob) error {
	if err := s.hold.present(); err != nil {
		return err
	}
	return s.Store.Create(ctx, batch)
}

// Claim implements [jobs.Queue].
func (s *Store) Claim(ctx context.Context, r jobs.ClaimRequest) (jobs.Claimed, error) {
	if err := s.hold.present(); err != nil && !r.Cancelling {
		return jobs.Claimed{}, err
	}
	return s.Store.Claim(ctx, r)
}

// Retry implements [jobs.Control].
func (s *Store) Retry(ctx context.Context, ids []string) (map[string]error, error) {
	if err := s.hold.present(); err != nil {
		return nil, err
	}
	return s.Store.Retry(ctx, ids)
}

// Reseal implements [jobs.Secrets]. Afterwards neither the file nor its
// write-ahead log hold what was replaced.
func (s *Store) Reseal(ctx context.Context, reseal func(sealed []byte) ([]byte, error)) (int, error) {
	n, err := s.Store.Reseal(ctx, reseal)
	if err != nil || n == 0 {
		return 0, err
	}
	return n, s.truncateLog(ctx)
}

func millis(t time.Time) int64 { return t.UnixMilli() }
