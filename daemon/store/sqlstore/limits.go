package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/limits"
)

// share is a row of that table.
type share struct {
	name string
	limits.Part
}

// Divide implements [limits.Store].
func (s Store) Divide(ctx context.Context, owner string, hold time.Duration, needs []limits.Need) (got []limits.Share, err error) {
	if len(needs) == 0 {
		return nil, nil
	}
	err = s.db.Write(ctx, func(tx Tx) error {
		got, err = tx.divide(ctx, owner, hold, needs)
		return err
	})
	return got, err
}

func (t Tx) divide(ctx context.Context, owner string, hold time.Duration, needs []limits.Need) ([]limits.Share, error) {
	var names []string
	for _, n := range needs {
		names = append(names, n.Name)
	}
	chosen, err := t.lockLimits(ctx, names)
	if err != nil {
		return nil, err
	}
	held, err := collect(ctx, t.Conn, func(scan func(...any) error) (r share, err error) {
		err = scan(&r.name, &r.Owner, &r.Most, &r.Held, &r.Want, &r.Weight, &r.Served)
		return r, err
	}, `SELECT name, owner, most, held, wanted, weight, served FROM shares
		WHERE (until > ? OR owner = ?) AND name IN (`+marks(len(names))+`)`,
		slices.Concat([]any{millis(t.Steady), owner}, anys(names))...)
	if err != nil {
		return nil, err
	}
	others, mine := make(map[string][]limits.Part), make(map[string]limits.Part)
	for _, r := range held {
		if r.Owner == owner {
			mine[r.name] = r.Part
		} else {
			others[r.name] = append(others[r.name], r.Part)
		}
	}
	got := make([]limits.Share, len(needs))
	var keep []any
	gone := []any{millis(t.Steady), owner}
	tell := false
	for i, n := range needs {
		before := mine[n.Name]
		d := limits.Divide(limits.Part{
			Owner: owner, Most: n.Limit, Held: n.Keep, Want: n.Want, Weight: n.Weight, Served: before.Served,
		}, others[n.Name], chosen[n.Name])
		d.Name = n.Name
		got[i] = d.Share
		changed := before.Want != n.Want || before.Weight != n.Weight || before.Most != n.Limit
		tell = tell || before.Held > d.Part.Held && d.Waited || changed && d.Crowded
		if n.Want == 0 && d.Part.Held == 0 {
			gone = append(gone, n.Name)
			continue
		}
		holds := n.HoldOf(hold)
		keep = append(keep, n.Name, owner, n.Limit, d.Part.Held, n.Want, n.Weight, d.Served, holds.Milliseconds(), millis(t.Steady.Add(holds)))
	}
	if tell {
		t.tell(jobs.Notice{Type: jobs.NoticeShares})
	}
	if len(keep) > 0 {
		_, err = t.Exec(ctx, `
			INSERT INTO shares (name, owner, most, held, wanted, weight, served, hold, until)
			VALUES `+repeat(len(keep)/9, `(?, ?, ?, ?, ?, ?, ?, ?, ?)`)+`
			ON CONFLICT (name, owner) DO UPDATE SET most = excluded.most, held = excluded.held, wanted = excluded.wanted,
				weight = excluded.weight, served = excluded.served, hold = excluded.hold, until = excluded.until`, keep...)
		if err != nil {
			return nil, err
		}
	}
	if len(gone) > 2 { // and those of daemons that have died
		_, err = t.Exec(ctx, `DELETE FROM shares WHERE (until <= ? OR owner = ?) AND name IN (`+marks(len(gone)-2)+`)`, gone...)
	}
	return got, err
}

// lockLimits keeps everybody else from dividing limits until the end of the
// transaction, in the order of their names so that no two wait for each other. It
// returns what was chosen for them.
func (t Tx) lockLimits(ctx context.Context, names []string) (map[string]*int64, error) {
	type row struct {
		name   string
		chosen *int64
	}
	names = slices.Sorted(slices.Values(names))
	lock := func() (map[string]*int64, error) {
		rows, err := collect(ctx, t.Conn, func(scan func(...any) error) (r row, err error) {
			err = scan(&r.name, &r.chosen)
			return r, err
		}, `SELECT name, chosen FROM limits WHERE name IN (`+marks(len(names))+`) ORDER BY name`+t.Dialect.Hold, anys(names)...)
		chosen := make(map[string]*int64, len(rows))
		for _, r := range rows {
			chosen[r.name] = r.chosen
		}
		return chosen, err
	}
	chosen, err := lock()
	if err != nil || len(chosen) == len(names) {
		return chosen, err
	}
	_, err = t.Exec(ctx, `INSERT INTO limits (name) VALUES `+repeat(len(names), `(?)`)+` ON CONFLICT (name) DO NOTHING`, anys(names)...)
	if err != nil {
		return nil, err
	}
	return lock()
}

// Choose implements [limits.Store].
func (s Store) Choose(ctx context.Context, name string, limit int64) error {
	return s.db.Write(ctx, func(tx Tx) error {
		tx.tell(jobs.Notice{Type: jobs.NoticeShares})
		_, err := tx.Exec(ctx, `
			INSERT INTO limits (name, chosen) VALUES (?, ?)
			ON CONFLICT (name) DO UPDATE SET chosen = excluded.chosen`, name, limit)
		return err
	})
}

// Chosen implements [limits.Store].
func (s Store) Chosen(ctx context.Context, name string) (limit int64, ok bool, err error) {
	err = s.db.Read(ctx, func(c Conn) error {
		var chosen *int64
		err := c.QueryRow(ctx, `SELECT chosen FROM limits WHERE name = ?`, name).Scan(&chosen)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if chosen != nil {
			limit, ok = *chosen, true
		}
		return err
	})
	return limit, ok, err
}

// Holdings implements [limits.Store].
func (s Store) Holdings(ctx context.Context) (all []limits.Holding, err error) {
	err = s.db.Read(ctx, func(c Conn) error {
		now, err := c.Clock(ctx)
		if err != nil {
			return err
		}
		parts, chosen := make(map[string][]limits.Part), make(map[string]*int64)
		_, err = collect(ctx, c, func(scan func(...any) error) (none struct{}, err error) {
			var r share
			var limit *int64
			err = scan(&r.name, &r.Owner, &r.Held, &r.Want, &r.Most, &limit)
			parts[r.name], chosen[r.name] = append(parts[r.name], r.Part), limit
			return none, err
		}, `SELECT s.name, s.owner, s.held, s.wanted, s.most, l.chosen FROM shares s JOIN limits l ON l.name = s.name
			WHERE s.until > ? ORDER BY s.owner`, millis(now.Steady))
		all = limits.Standing(parts, chosen)
		return err
	})
	return all, err
}
