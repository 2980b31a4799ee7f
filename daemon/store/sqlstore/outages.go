package sqlstore

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
)

// ShareOutages implements [jobs.Outages].
func (s Store) ShareOutages(ctx context.Context, owner string, hold time.Duration, met []jobs.Outage, over []string) (all []jobs.Outage, err error) {
	if len(met) == 0 && len(over) == 0 {
		err = s.db.Read(ctx, func(c Conn) error {
			now, err := c.Clock(ctx)
			if err == nil {
				all, err = c.outages(ctx, now.Steady)
			}
			return err
		})
		return all, err
	}
	err = s.db.Write(ctx, func(tx Tx) error {
		n, err := tx.endOutages(ctx, over)
		if err != nil {
			return err
		}
		for _, o := range slices.SortedFunc(slices.Values(met), func(a, b jobs.Outage) int { return strings.Compare(a.VCenter, b.VCenter) }) {
			changed, err := tx.noteOutage(ctx, owner, hold, o)
			if err != nil {
				return err
			}
			n += changed
		}
		if n > 0 {
			tx.tell(jobs.Notice{Type: jobs.NoticeOutages})
		}
		all, err = tx.outages(ctx, tx.Steady)
		return err
	})
	return all, err
}

// outages are those that go on.
func (c Conn) outages(ctx context.Context, steady time.Time) ([]jobs.Outage, error) {
	return collect(ctx, c, func(scan func(...any) error) (o jobs.Outage, err error) {
		var since, next int64
		err = scan(&o.VCenter, &o.State, &o.Reason, &o.Named, &o.Tries, &since, &next)
		o.Since = time.UnixMilli(since).UTC()
		o.Wait = max(0, time.UnixMilli(next).Sub(steady))
		return o, err
	}, `SELECT vcenter, state, reason, named, tries, since, next FROM outages WHERE until > ? ORDER BY vcenter`, millis(steady))
}

// endOutages forgets those that are over, and those that nobody has told of for long. It
// returns how many of the former there were.
func (t Tx) endOutages(ctx context.Context, over []string) (n int64, err error) {
	if len(over) > 0 {
		n, err = t.changed(ctx, `DELETE FROM outages WHERE vcenter IN (`+marks(len(over))+`)`, anys(over)...)
	}
	if err == nil {
		_, err = t.Exec(ctx, `DELETE FROM outages WHERE until <= ?`, millis(t.Steady))
	}
	return n, err
}

// noteOutage enters an outage, or says that it goes on. It returns 1 when others have to
// hear of it.
func (t Tx) noteOutage(ctx context.Context, owner string, hold time.Duration, o jobs.Outage) (int64, error) {
	until, next := millis(t.Steady.Add(hold)), millis(t.Steady.Add(o.Wait))
	if o.New {
		n, err := t.changed(ctx, `
		INSERT INTO outages (vcenter, state, reason, named, tries, since, next, until) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (vcenter) DO NOTHING`, o.VCenter, o.State, o.Reason, o.Named, o.Tries, millis(o.Since), next, until)
		if err != nil || n > 0 {
			return n, err
		}
	}
	if _, err := t.Exec(ctx, `UPDATE outages SET until = ? WHERE vcenter = ? AND until < ?`, until, o.VCenter, until); err != nil || !o.Probed {
		return 0, err
	}
	return t.changed(ctx, `
		UPDATE outages SET state = ?, reason = ?, tries = ?, since = ?, next = ?, prober = '', probing = 0
		WHERE vcenter = ? AND prober = ?`, o.State, o.Reason, o.Tries, millis(o.Since), next, o.VCenter, owner)
}

// ClaimProbe implements [jobs.Outages].
func (s Store) ClaimProbe(ctx context.Context, vcenter, owner string, hold time.Duration, now bool) (bool, error) {
	var n int64
	err := s.db.Write(ctx, func(tx Tx) (err error) {
		due := millis(tx.Steady)
		if now {
			due = millis(tx.Steady.Add(time.Hour)) // later than any is
		}
		n, err = tx.changed(ctx, `UPDATE outages SET prober = ?, probing = ? WHERE vcenter = ? AND next <= ? AND (probing <= ? OR prober = ?)`,
			owner, millis(tx.Steady.Add(hold)), vcenter, due, millis(tx.Steady), owner)
		return err
	})
	return n > 0, err
}
