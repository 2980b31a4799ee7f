package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"

	"github.com/hyper2kvm/hyper2kvm/daemon/audit"
)

// Audit returns where the audit log of the file is kept.
func (s *Store) Audit() audit.Store { return auditLog{s} }

// auditLog is an [audit.Store].
type auditLog struct{ s *Store }

func scanRecord(from interface{ Scan(...any) error }) (audit.Record, error) {
	var r audit.Record
	var hash []byte
	if err := from.Scan(&r.Number, &hash, &r.Data); err != nil {
		return audit.Record{}, err
	}
	if len(hash) == len(r.Hash) { // another one is no hash of anything, which Verify tells
		copy(r.Hash[:], hash)
	}
	return r, nil
}

// Append implements [audit.Store].
func (l auditLog) Append(ctx context.Context, next func(audit.Record) (audit.Record, error)) error {
	return l.s.tx(ctx, func(tx *sql.Tx) error {
		last, err := scanRecord(tx.QueryRowContext(ctx, `SELECT number, hash, data FROM audit ORDER BY number DESC LIMIT 1`))
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		r, err := next(last)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO audit (number, hash, data) VALUES (?, ?, ?)`, r.Number, r.Hash[:], r.Data)
		return err
	})
}

// After implements [audit.Store].
func (l auditLog) After(ctx context.Context, n int64, limit int) ([]audit.Record, error) {
	return l.records(ctx, `SELECT number, hash, data FROM audit WHERE number > ? ORDER BY number LIMIT ?`, n, limit)
}

// Before implements [audit.Store].
func (l auditLog) Before(ctx context.Context, n int64, limit int) ([]audit.Record, error) {
	if n == 0 {
		n = math.MaxInt64
	}
	return l.records(ctx, `SELECT number, hash, data FROM audit WHERE number < ? ORDER BY number DESC LIMIT ?`, n, limit)
}

func (l auditLog) records(ctx context.Context, query string, args ...any) ([]audit.Record, error) {
	rows, err := l.s.read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, l.s.explain(err)
	}
	defer rows.Close()
	var all []audit.Record
	for rows.Next() {
		r, err := scanRecord(rows)
		if err != nil {
			return nil, fmt.Errorf("audit log: %w", l.s.explain(err))
		}
		all = append(all, r)
	}
	return all, l.s.explain(rows.Err())
}
