// Package sqlite is a [jobs.Store] in one SQLite file.
//
// The file belongs to one daemon at a time, which a lock on a file beside it
// proves: a second one is refused with [ErrLocked]. That makes two things
// simple. The database is a library in the one process that uses it, so its
// clock is the process's clock, and leases are measured by that. And when a
// store is opened, whoever held a lease in it is dead, so every lease is made
// to run out at once instead of being waited for. A database that serves
// several daemons may do neither: it must take the time from its server and
// let leases run out. The statements themselves are plain SQL.
//
// Leases and delays are measured by a clock that does not jump while the process
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
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/hyper2kvm/hyper2kvm/daemon/store/clock"
)

// Errors of [Open]; the last two also of the store's methods, should the file
// be damaged while it is open.
var (
	// ErrLocked: another daemon uses the file.
	ErrLocked = errors.New("the state file is in use by another daemon")
	// ErrNewerSchema: a later version of this program has written the file.
	ErrNewerSchema = errors.New("the state file was written by a newer version of this program")
	// ErrCorrupt: the file is no SQLite database, or a damaged one.
	ErrCorrupt = errors.New("the state file is damaged or no SQLite database")
	// ErrFull: there is no room on the file's filesystem.
	ErrFull = errors.New("no space left for the state file")
)

//go:embed migrations/*.sql
var migrations embed.FS

// Store keeps jobs in a SQLite file. See [Open].
type Store struct {
	clock clock.Clock
	path  string
	lock  *flock.Flock
	write *sql.DB // one connection
	read  *sql.DB
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
	s := &Store{clock: clock.New(wall), path: path, lock: flock.New(path + ".lock")}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open state file %s: %w", path, err), s.Close())
	}
	return s, nil
}

func (s *Store) open(ctx context.Context) error {
	if err := s.acquire(); err != nil {
		return err
	}
	// SQLite gives its other files the mode of this one.
	f, err := os.OpenFile(s.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if s.write, err = connect(s.path, "_txlock=immediate"); err != nil {
		return err
	}
	s.write.SetMaxOpenConns(1)
	if s.read, err = connect(s.path, "_pragma=query_only(1)"); err != nil {
		return err
	}
	s.read.SetMaxOpenConns(4)
	s.read.SetMaxIdleConns(4)
	if err := s.migrate(ctx); err != nil {
		return s.explain(err)
	}
	now := millis(s.clock.Steady())
	_, err = s.write.ExecContext(ctx, `
		UPDATE jobs SET claimable_at = CASE status WHEN 'running' THEN ? ELSE min(claimable_at, ? + delay) END
		WHERE claimable_at IS NOT NULL AND status IN ('running', 'pending')`, now, now)
	return s.explain(err)
}

// acquire takes the lock that keeps other daemons out, and leaves this
// process's number in it for their message.
func (s *Store) acquire() error {
	locked, err := s.lock.TryLock()
	if err != nil {
		return err
	}
	if !locked {
		holder, _ := os.ReadFile(s.lock.Path())
		if pid := strings.TrimSpace(string(holder)); pid != "" && len(pid) < 20 {
			return fmt.Errorf("%w (process %s): stop it, or give this one another state directory", ErrLocked, pid)
		}
		return fmt.Errorf("%w: stop it, or give this one another state directory", ErrLocked)
	}
	return os.WriteFile(s.lock.Path(), fmt.Appendf(nil, "%d\n", os.Getpid()), 0o600)
}

func connect(path, option string) (*sql.DB, error) {
	dsn := url.URL{Scheme: "file", Path: path, RawQuery: strings.Join([]string{
		option,
		"_pragma=busy_timeout(5000)",
		"_pragma=journal_mode(WAL)",
		"_pragma=synchronous(FULL)",
		"_pragma=foreign_keys(1)",
	}, "&")}
	return sql.Open("sqlite", dsn.String())
}

// migrate brings the schema up to date.
func (s *Store) migrate(ctx context.Context) error {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, s.write, dir,
		goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return err
	}
	if err := s.readable(ctx); err != nil {
		return err
	}
	have, want, err := p.GetVersions(ctx)
	if err != nil {
		return err
	}
	if have > want {
		return fmt.Errorf("%w: its schema has version %d, this program knows up to %d; run the newer one, or move the file away", ErrNewerSchema, have, want)
	}
	if have == want {
		return nil
	}
	_, err = p.Up(ctx)
	return err
}

// readable returns the error of reading the schema's version, should the file
// have one. The migration library takes a table that it cannot read for one
// that is not there.
func (s *Store) readable(ctx context.Context) error {
	var tables int
	var version sql.NullInt64
	err := s.write.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_schema WHERE name = ?`, goose.DefaultTablename).Scan(&tables)
	if err != nil || tables == 0 {
		return err
	}
	return s.write.QueryRowContext(ctx, `SELECT max(version_id) FROM `+goose.DefaultTablename).Scan(&version)
}

// Close closes the file and lets other daemons have it. Leases are left as
// they are.
func (s *Store) Close() error {
	var errs []error
	for _, db := range []*sql.DB{s.read, s.write} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(append(errs, s.lock.Close())...)
}

// explain puts SQLite's errors that a person can act on in the package's
// terms.
func (s *Store) explain(err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("%w: move %s and the files beside it (-wal, -shm) away, or restore them together: %w", ErrCorrupt, s.path, err)
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("%w %s: %w", ErrFull, s.path, err)
	}
	return err
}

// tx runs f in one write transaction.
func (s *Store) tx(ctx context.Context, f func(tx *sql.Tx) error) error {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return s.explain(err)
	}
	if err := f(tx); err != nil {
		// The end of ctx may have rolled back already.
		if rollback := tx.Rollback(); rollback != nil && !errors.Is(rollback, sql.ErrTxDone) {
			err = errors.Join(err, rollback)
		}
		return s.explain(err)
	}
	return s.explain(tx.Commit())
}
