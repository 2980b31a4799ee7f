package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"

	"github.com/hyper2kvm/hyper2kvm/daemon/audit"
)

// auditLog is an [audit.Store].
type auditLog struct{ db Backend }

func scanRecord(scan func(...any) error) (r audit.Record, err error) {
	var hash []byte
	if err := scan(&r.Number, &hash, &r.Data); err != nil {
		return r, fmt.Errorf("audit log: %w", err)
	}
	if len(hash) == len(r.Hash) { // another one is no hash of anything, which Verify tells
		copy(r.Hash[:], hash)
	}
	return r, nil
}

// Append implements [audit.Store].
func (l auditLog) Append(ctx context.Context, next func(audit.Record) (audit.Record, error)) error {
	return l.db.Write(ctx, func(tx Tx) error {
		if tx.Dialect.LockAudit != "" {
			if _, err := tx.Exec(ctx, tx.Dialect.LockAudit); err != nil {
				return err
			}
		}
		last, err := scanRecord(tx.QueryRow(ctx, `SELECT number, hash, data FROM audit ORDER BY number DESC LIMIT 1`).Scan)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		r, err := next(last)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO audit (number, hash, data) VALUES (?, ?, ?)`, r.Number, r.Hash[:], r.Data)
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

func (l auditLog) records(ctx context.Context, query string, args ...any) (all []audit.Record, err error) {
	err = l.db.Read(ctx, func(c Conn) error {
		all, err = collect(ctx, c, scanRecord, query, args...)
		return err
	})
	return all, err
}
