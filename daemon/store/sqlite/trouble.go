package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/sqlstore"
)

// Errors of [Open]. The last two also are in the *[jobs.StoreError] of the
// store's methods, should it come to that while the file is open.
var (
	// ErrLocked: another daemon uses the file.
	ErrLocked = errors.New("the state file is in use by another daemon")
	// ErrNewerSchema: a later version of this program has written the file.
	ErrNewerSchema = errors.New("the state file was written by a newer version of this program")
	// ErrMissing: the file is not there or empty, and others tell that it held
	// jobs.
	ErrMissing = errors.New("the state file is missing or empty, though it held jobs")
	// ErrCorrupt: the file is no SQLite database, or a damaged one.
	ErrCorrupt = errors.New("the state file is damaged or no SQLite database")
	// ErrFull: there is no room on the file's filesystem.
	ErrFull = errors.New("no space left for the state file")
)

// writerTimeout is how long a write waits for others of this process to be done
// with the connection. Each of them waits for other programs as long as
// busy_timeout says.
const writerTimeout = 10 * time.Second

// explain puts SQLite's errors that a person can act on in terms of
// [jobs.StoreError].
func (s *file) explain(err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) || errors.As(err, new(*jobs.StoreError)) {
		return err
	}
	trouble := func(t jobs.Trouble, format string, args ...any) error {
		return &jobs.StoreError{Trouble: t, Err: fmt.Errorf(format, args...)}
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return trouble(jobs.TroubleBroken, "%w: %w", s.corrupt(), err)
	case sqlite3.SQLITE_FULL:
		return trouble(jobs.TroubleFull, "%w %s: make room on its file system: %w", ErrFull, s.path, err)
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return trouble(jobs.TroubleBusy, "the state file %s is locked by another program, such as a shell with an open transaction: %w", s.path, err)
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
		return trouble(jobs.TroubleReadOnly, "the state file %s cannot be written: look at its mode and owner, and whether its file system is mounted read-only: %w", s.path, err)
	case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN:
		if readOnly(filepath.Dir(s.path)) {
			return trouble(jobs.TroubleReadOnly, "the state file %s cannot be written: its file system is mounted read-only: %w", s.path, err)
		}
		return trouble(jobs.TroubleBroken, "the state file %s cannot be read or written; the system's log may say why: %w", s.path, err)
	}
	return err
}

// corrupt is [ErrCorrupt] with what to do.
func (s *file) corrupt() error {
	return fmt.Errorf("%w: restore %s from a backup, or move it and the files beside it (-wal, -shm) away to begin without any job", ErrCorrupt, s.path)
}

// intact reads the whole database once and returns [ErrCorrupt] unless it is one
// in good order.
func (s *file) intact(ctx context.Context) error {
	var verdict string
	if err := s.write.QueryRowContext(ctx, `PRAGMA quick_check(1)`).Scan(&verdict); err != nil {
		return s.explain(err)
	}
	if verdict != "ok" {
		return fmt.Errorf("%w (%s)", s.corrupt(), verdict)
	}
	return nil
}

// Check implements [jobs.Reader].
func (s *Store) Check(ctx context.Context) ([]string, error) {
	if err := s.hold.present(); err != nil {
		return nil, err
	}
	return s.hold.notes(), s.probe(ctx)
}

// probe writes something, as nothing else proves that it can be done: the time
// into a number of the database's header that is the application's.
func (s *Store) probe(ctx context.Context) error {
	return s.Write(ctx, func(tx sqlstore.Tx) error {
		_, err := tx.Exec(ctx, fmt.Sprintf(`PRAGMA user_version = %d`, time.Now().UnixMilli()&0x7fffffff))
		return err
	})
}

// New reports whether the state file was made, or was empty, when the store was
// opened.
func (s *Store) New() bool { return s.hold.fresh }

// writer returns the connection for writing.
func (s *file) writer(ctx context.Context) (*sql.Conn, error) {
	wait, cancel := context.WithTimeout(ctx, writerTimeout)
	defer cancel()
	c, err := s.write.Conn(wait)
	if err != nil && ctx.Err() == nil && wait.Err() != nil {
		return nil, &jobs.StoreError{Trouble: jobs.TroubleBusy, Err: fmt.Errorf(
			"the state file %s takes no writes: other writes have waited for %v; another program may have locked it", s.path, writerTimeout)}
	}
	return c, s.explain(err)
}
