package sqlstore

import (
	"context"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/limits"
)

// Refusals implements [limits.Refusals].
func (s Store) Refusals(ctx context.Context, account string) (all []limits.Refusal, err error) {
	err = s.db.Read(ctx, func(c Conn) error {
		now, err := c.Clock(ctx)
		if err != nil {
			return err
		}
		all, err = collect(ctx, c, func(scan func(...any) error) (r limits.Refusal, err error) {
			var at, noted int64
			err = scan(&r.Account, &r.Password, &r.Reason, &r.Strike, &at, &noted)
			r.At, r.Age = time.UnixMilli(at).UTC(), max(0, now.Steady.Sub(time.UnixMilli(noted)))
			return r, err
		}, `SELECT account, password, reason, strike, refused_at, noted FROM refusals
			WHERE account = ? AND until > ? ORDER BY noted, password`, account, millis(now.Steady))
		return err
	})
	return all, err
}

// Refuse implements [limits.Refusals].
func (s Store) Refuse(ctx context.Context, r limits.Refusal, hold time.Duration) error {
	return s.db.Write(ctx, func(tx Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM refusals WHERE until <= ?`, millis(tx.Steady)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `
			INSERT INTO refusals (account, password, reason, strike, refused_at, noted, until) VALUES (?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (account, password) DO UPDATE SET reason = excluded.reason, strike = excluded.strike,
				refused_at = excluded.refused_at, noted = excluded.noted, until = excluded.until`,
			r.Account, r.Password, r.Reason, true, millis(tx.Now), millis(tx.Steady), millis(tx.Steady.Add(hold)))
		return err
	})
}

// Accepted implements [limits.Refusals].
func (s Store) Accepted(ctx context.Context, account string) error {
	return s.db.Write(ctx, func(tx Tx) error {
		_, err := tx.Exec(ctx, `UPDATE refusals SET strike = ? WHERE account = ?`, false, account)
		return err
	})
}

// Forgive implements [limits.Refusals].
func (s Store) Forgive(ctx context.Context, account string) error {
	return s.db.Write(ctx, func(tx Tx) error {
		_, err := tx.Exec(ctx, `DELETE FROM refusals WHERE account = ?`, account)
		return err
	})
}
