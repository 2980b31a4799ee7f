package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
)

var _ jobs.Secrets = (*Store)(nil)

// Secret implements [jobs.Secrets].
func (s *Store) Secret(ctx context.Context, id string) (sealed []byte, err error) {
	err = s.read.QueryRowContext(ctx, `SELECT secret FROM jobs WHERE id = ?`, id).Scan(&sealed)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, jobs.ErrNotFound
	}
	return sealed, s.explain(err)
}

// Reseal implements [jobs.Secrets]. Afterwards neither the file nor its
// write-ahead log hold what was replaced.
func (s *Store) Reseal(ctx context.Context, reseal func(sealed []byte) ([]byte, error)) (n int, err error) {
	err = s.tx(ctx, func(tx *sql.Tx) error {
		fresh, err := resealed(ctx, tx, reseal)
		if err != nil {
			return err
		}
		for seq, secret := range fresh {
			if _, err := tx.ExecContext(ctx, `UPDATE jobs SET secret = ? WHERE seq = ?`, secret, seq); err != nil {
				return err
			}
		}
		n = len(fresh)
		return nil
	})
	if err != nil || n == 0 {
		return 0, err
	}
	return n, s.truncateLog(ctx)
}

// resealed returns the new secrets by row.
func resealed(ctx context.Context, tx *sql.Tx, reseal func([]byte) ([]byte, error)) (map[int64][]byte, error) {
	rows, err := tx.QueryContext(ctx, `SELECT seq, secret FROM jobs WHERE secret IS NOT NULL`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	fresh := make(map[int64][]byte)
	for rows.Next() {
		var seq int64
		var secret []byte
		if err := rows.Scan(&seq, &secret); err != nil {
			return nil, err
		}
		if secret, err = reseal(secret); err != nil {
			return nil, err
		}
		if secret != nil {
			fresh[seq] = secret
		}
	}
	return fresh, rows.Err()
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

// DropSecrets implements [jobs.Secrets].
func (s *Store) DropSecrets(ctx context.Context, age time.Duration) (n int, err error) {
	before := millis(s.clock.Now().Add(-age))
	const due = ` FROM jobs WHERE secret IS NOT NULL AND status IN ('completed', 'failed', 'cancelled') AND completed_at <= ?`
	// Most looks find nothing: they need no write transaction.
	if err := s.read.QueryRowContext(ctx, `SELECT count(*)`+due, before).Scan(&n); err != nil || n == 0 {
		return 0, s.explain(err)
	}
	err = s.tx(ctx, func(tx *sql.Tx) error {
		done, err := tx.ExecContext(ctx, `UPDATE jobs SET secret = NULL WHERE seq IN (SELECT seq`+due+`)`, before)
		if err != nil {
			return err
		}
		dropped, err := done.RowsAffected()
		n = int(dropped)
		return err
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}
