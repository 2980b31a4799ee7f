package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
)

// Secret implements [jobs.Secrets].
func (s Store) Secret(ctx context.Context, id string) (sealed []byte, err error) {
	err = s.db.Read(ctx, func(c Conn) error {
		err := c.QueryRow(ctx, `SELECT secret FROM jobs WHERE id = ?`, id).Scan(&sealed)
		if errors.Is(err, sql.ErrNoRows) {
			err = jobs.ErrNotFound
		}
		return err
	})
	return sealed, err
}

// Reseal implements [jobs.Secrets].
func (s Store) Reseal(ctx context.Context, reseal func(sealed []byte) ([]byte, error)) (n int, err error) {
	err = s.db.Write(ctx, func(tx Tx) error {
		n = 0
		all, err := collect(ctx, tx.Conn, func(scan func(...any) error) (r row, err error) {
			err = scan(&r.seq, &r.secret)
			return r, err
		}, `SELECT seq, secret FROM jobs WHERE secret IS NOT NULL ORDER BY seq`+tx.Dialect.Hold)
		if err != nil {
			return err
		}
		for i := range all {
			if all[i].secret, err = reseal(all[i].secret); err != nil {
				return err
			}
		}
		for _, r := range all {
			if r.secret == nil {
				continue
			}
			if _, err := tx.Exec(ctx, `UPDATE jobs SET secret = ? WHERE seq = ?`, r.secret, r.seq); err != nil {
				return err
			}
			n++
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

// DropSecrets implements [jobs.Secrets].
func (s Store) DropSecrets(ctx context.Context, age time.Duration) (n int, err error) {
	const due = ` FROM jobs WHERE secret IS NOT NULL AND status IN ('completed', 'failed', 'cancelled') AND completed_at <= ?`
	// Most looks find nothing: they need no write transaction.
	err = s.db.Read(ctx, func(c Conn) error {
		now, err := c.Clock(ctx)
		if err != nil {
			return err
		}
		return c.QueryRow(ctx, `SELECT count(*)`+due, millis(now.Now.Add(-age))).Scan(&n)
	})
	if err != nil || n == 0 {
		return 0, err
	}
	err = s.db.Write(ctx, func(tx Tx) error {
		dropped, err := tx.changed(ctx, `UPDATE jobs SET secret = NULL WHERE seq IN (SELECT seq`+due+`)`, millis(tx.Now.Add(-age)))
		n = int(dropped)
		return err
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}
