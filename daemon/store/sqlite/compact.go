package sqlite

import (
	"context"
	"errors"
	"fmt"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
)

const (
	// slackPages are free pages that are kept: there will be other jobs.
	slackPages = 64
	// compactPages are given back in one transaction.
	compactPages = 512
)

// Compact implements [jobs.Pruner]. The file is shorter once its write-ahead log
// has been moved into it, which the last call does.
func (s *Store) Compact(ctx context.Context) (more bool, err error) {
	c, err := s.writer(ctx)
	if err != nil {
		return false, err
	}
	free := 0
	err = func() error {
		defer c.Close() // gives it back
		if err := c.QueryRowContext(ctx, `PRAGMA freelist_count`).Scan(&free); err != nil || free <= slackPages {
			return err
		}
		rows, err := c.QueryContext(ctx, fmt.Sprintf(`PRAGMA incremental_vacuum(%d)`, min(compactPages, free-slackPages)))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() { // each step gives back a page
		}
		return rows.Err()
	}()
	switch {
	case err != nil || free <= slackPages:
		return false, s.explain(err)
	case free-compactPages > slackPages:
		return true, nil
	}
	return false, s.truncateLog(ctx)
}

// incremental makes the file one that can be given back in parts, which files of
// earlier versions are not. It takes as much room as the file has for a while; when
// there is none, the file stays as it is until another start.
func (s *Store) incremental(ctx context.Context) error {
	c, err := s.writer(ctx)
	if err != nil {
		return err
	}
	defer c.Close() // gives it back
	mode := 0
	if err := c.QueryRowContext(ctx, `PRAGMA auto_vacuum`).Scan(&mode); err != nil || mode == 2 {
		return err
	}
	if _, err := c.ExecContext(ctx, `PRAGMA auto_vacuum = INCREMENTAL`); err != nil {
		return err
	}
	_, err = c.ExecContext(ctx, `VACUUM`)
	if trouble := new(jobs.StoreError); errors.As(s.explain(err), &trouble) && trouble.Trouble == jobs.TroubleFull {
		return nil
	}
	return err
}

// truncateLog moves the write-ahead log into the file, as far as readers let it,
// and empties it.
func (s *Store) truncateLog(ctx context.Context) error {
	c, err := s.writer(ctx)
	if err != nil {
		return err
	}
	defer c.Close() // gives it back
	_, err = c.ExecContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`)
	return s.explain(err)
}
