package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
)

// Backup writes what the state file holds at one moment into the new file at path,
// while a daemon goes on with its work. The copy is checked from end to end, and
// synced; when anything fails there is none. It has the passwords of jobs as they
// are kept, encrypted with a key that is not in it.
func (b *Beside) Backup(ctx context.Context, path string) (err error) {
	if err := b.s.copyTo(ctx, path); err != nil {
		return fmt.Errorf("copy the state file: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	if err := check(ctx, path); err != nil {
		return fmt.Errorf("the copy of the state file: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// copyTo writes what the store holds into a new file, for its user alone.
func (s *Store) copyTo(ctx context.Context, path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) // for its mode
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if _, err := s.write.ExecContext(ctx, `VACUUM INTO ?`, path); err != nil {
		return errors.Join(s.explain(err), os.Remove(path))
	}
	return nil
}

// check reads all of a state file that nobody uses.
func check(ctx context.Context, path string) (err error) {
	dsn := url.URL{Scheme: "file", Path: path, RawQuery: "mode=ro&immutable=1"}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var found string
	if err := db.QueryRowContext(ctx, `PRAGMA integrity_check(1)`).Scan(&found); err != nil {
		return err
	}
	if found != "ok" {
		return errors.New("it is damaged: " + found)
	}
	return nil
}
