package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
)

var _ jobs.Daemons = Store{}

// Enter implements [jobs.Daemons].
func (s Store) Enter(ctx context.Context, m jobs.Member, hold time.Duration, first bool) (drain jobs.Drain, err error) {
	labels, err := json.Marshal(m.Labels)
	if err != nil {
		return "", err
	}
	err = s.db.Write(ctx, func(tx Tx) error {
		if first {
			if err := tx.forgetDaemons(ctx); err != nil {
				return err
			}
		}
		var owner string
		var until int64
		drain = jobs.DrainNone
		err := tx.QueryRow(ctx, `SELECT owner, drain, until FROM daemons WHERE id = ?`+tx.Dialect.Hold, m.ID).Scan(&owner, &drain, &until)
		switch {
		case errors.Is(err, sql.ErrNoRows):
		case err != nil:
			return err
		case owner == m.Owner && !first:
			_, err := tx.Exec(ctx, `UPDATE daemons SET beat = ?, until = ? WHERE owner = ?`,
				millis(tx.Now), millis(tx.Steady.Add(hold)), m.Owner)
			return err
		case !first && until > millis(tx.Steady):
			return jobs.ErrReplaced
		default: // what hangs on the process that was goes with it
			if _, err := tx.Exec(ctx, `DELETE FROM daemons WHERE id = ?`, m.ID); err != nil {
				return err
			}
		}
		tx.tell(jobs.Notice{Type: jobs.NoticeDaemons})
		_, err = tx.Exec(ctx, `
			INSERT INTO daemons (owner, id, host, version, labels, drain, started, beat, until) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			m.Owner, m.ID, m.Host, m.Version, string(labels), drain, millis(tx.Now), millis(tx.Now), millis(tx.Steady.Add(hold)))
		return err
	})
	if err != nil {
		return "", err
	}
	return drain, nil
}

// forgetDaemons forgets the entries that have not held for long.
func (t Tx) forgetDaemons(ctx context.Context) error {
	_, err := t.Exec(ctx, `DELETE FROM daemons WHERE until < CASE drain WHEN '' THEN CAST(? AS BIGINT) ELSE CAST(? AS BIGINT) END`,
		millis(t.Steady.Add(-jobs.KeepDead)), millis(t.Steady.Add(-jobs.KeepDrained)))
	return err
}

// Leave implements [jobs.Daemons].
func (s Store) Leave(ctx context.Context, owner string) error {
	return s.db.Write(ctx, func(tx Tx) error {
		tx.tell(jobs.Notice{Type: jobs.NoticeDaemons})
		if _, err := tx.Exec(ctx, `DELETE FROM daemons WHERE owner = ? AND drain = ''`, owner); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `UPDATE daemons SET until = ? WHERE owner = ? AND until > ?`, millis(tx.Steady), owner, millis(tx.Steady))
		return err
	})
}

// Drain implements [jobs.Daemons].
func (s Store) Drain(ctx context.Context, id string, d jobs.Drain) error {
	return s.db.Write(ctx, func(tx Tx) error {
		tx.tell(jobs.Notice{Type: jobs.NoticeDaemons})
		n, err := tx.changed(ctx, `UPDATE daemons SET drain = ? WHERE id = ?`, d, id)
		if err == nil && n == 0 {
			err = jobs.ErrNoDaemon
		}
		return err
	})
}

// Daemons implements [jobs.Daemons].
func (s Store) Daemons(ctx context.Context) (all []jobs.Daemon, err error) {
	err = s.db.Read(ctx, func(c Conn) error {
		now, err := c.Clock(ctx)
		if err != nil {
			return err
		}
		all, err = collect(ctx, c, func(scan func(...any) error) (jobs.Daemon, error) { return scanDaemon(scan, millis(now.Steady)) },
			`SELECT owner, id, host, version, labels, drain, started, beat, until FROM daemons ORDER BY host, id`)
		if err != nil {
			return err
		}
		claims, err := collect(ctx, c, func(scan func(...any) error) (claim jobs.Claim, err error) {
			err = scan(&claim.Owner, &claim.JobID)
			return claim, err
		}, `SELECT owner, id FROM jobs WHERE status = 'running' ORDER BY seq`)
		for i := range all {
			for _, claim := range claims {
				if claim.Owner == all[i].Owner {
					all[i].Jobs = append(all[i].Jobs, claim.JobID)
				}
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

func scanDaemon(scan func(...any) error, steady int64) (d jobs.Daemon, err error) {
	var labels []byte
	var started, beat, until int64
	if err := scan(&d.Owner, &d.ID, &d.Host, &d.Version, &labels, &d.Drain, &started, &beat, &until); err != nil {
		return d, err
	}
	if err := json.Unmarshal(labels, &d.Labels); err != nil {
		return d, fmt.Errorf("daemon %s: stored labels: %w", d.ID, err)
	}
	d.Started, d.LastBeat, d.Alive = time.UnixMilli(started).UTC(), time.UnixMilli(beat).UTC(), until > steady
	return d, nil
}
