package sqlstore

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/rates"
)

// rateStore is a [rates.Store]. A sample is one row, with its hosts as JSON, so that
// the number of rows does not depend on theirs.
type rateStore struct{ db Backend }

// Rates returns where the database keeps how many bytes came over time.
func (s Store) Rates() rates.Store { return rateStore(s) }

// Keep implements [rates.Store].
func (r rateStore) Keep(ctx context.Context, writer string, samples []rates.Sample) error {
	if len(samples) == 0 {
		return ctx.Err()
	}
	var args []any
	for _, s := range samples {
		data, err := json.Marshal(s.Bytes)
		if err != nil {
			return err
		}
		args = append(args, s.Span.Milliseconds(), millis(s.Start), writer, string(data))
	}
	return r.db.Write(ctx, func(tx Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO rates (span, start, writer, data) VALUES `+repeat(len(samples), `(?, ?, ?, ?)`)+`
			ON CONFLICT (span, start, writer) DO UPDATE SET data = excluded.data`, args...)
		return err
	})
}

// Since implements [rates.Store].
func (r rateStore) Since(ctx context.Context, span time.Duration, from time.Time) (found []rates.Sample, err error) {
	err = r.db.Read(ctx, func(c Conn) error {
		found, err = collect(ctx, c, func(scan func(...any) error) (rates.Sample, error) {
			s := rates.Sample{Span: span}
			var start int64
			var data []byte
			if err := scan(&start, &data); err != nil {
				return s, err
			}
			s.Start = time.UnixMilli(start).UTC()
			if err := json.Unmarshal(data, &s.Bytes); err != nil {
				return s, fmt.Errorf("rates at %s: %w", s.Start.Format(time.RFC3339), err)
			}
			return s, nil
		}, `SELECT start, data FROM rates WHERE span = ? AND start >= ? ORDER BY start, writer`, span.Milliseconds(), millis(from))
		return err
	})
	return found, err
}

// Forget implements [rates.Store].
func (r rateStore) Forget(ctx context.Context, span time.Duration, before time.Time) error {
	return r.db.Write(ctx, func(tx Tx) error {
		_, err := tx.Exec(ctx, `DELETE FROM rates WHERE span = ? AND start < ?`, span.Milliseconds(), millis(before))
		return err
	})
}
