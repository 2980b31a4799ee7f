package postgres

import (
	"context"
	"fmt"

	"github.com/hyper2kvm/hyper2kvm/daemon/store/sqlstore"
)

// Import copies everything of another store into this one, which must be empty, in one
// transaction, from which all others are kept out. check looks at the result before it
// is committed, and may add to it. What takes long is not cut off.
func (s *Store) Import(ctx context.Context, from sqlstore.Backend, check func(sqlstore.Store, sqlstore.Moved) error) (m sqlstore.Moved, err error) {
	err = s.transaction(ctx, func(tx sqlstore.Tx) error {
		const all = `jobs, events, turns, tokens, audit`
		if _, err := tx.Exec(ctx, `LOCK TABLE `+all+` IN SHARE ROW EXCLUSIVE MODE`); err != nil {
			return err
		}
		if m, err = sqlstore.Copy(ctx, from, tx); err != nil {
			return err
		}
		for _, table := range []string{"jobs", "tokens"} {
			_, err := tx.Exec(ctx, fmt.Sprintf(
				`SELECT setval(pg_get_serial_sequence('%s', 'seq'), coalesce(max(seq), 0) + 1, false) FROM %s`, table, table))
			if err != nil {
				return err
			}
		}
		return check(sqlstore.Within(tx), m)
	})
	return m, s.explain(ctx, err)
}
