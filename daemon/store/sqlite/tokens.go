package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
)

// Tokens returns the API tokens that the file has.
func (s *Store) Tokens() access.Tokens { return tokens{s} }

// tokens is an [access.Tokens].
type tokens struct{ s *Store }

const tokenColumns = `id, name, role, digest, created, expires, revoked, last_used`

func scanToken(from interface{ Scan(...any) error }) (access.Token, error) {
	var t access.Token
	var role string
	var digest []byte
	var created int64
	var expires, revoked, used sql.NullInt64
	if err := from.Scan(&t.ID, &t.Name, &role, &digest, &created, &expires, &revoked, &used); err != nil {
		return access.Token{}, err
	}
	if len(digest) != len(t.Digest) || t.Role.UnmarshalText([]byte(role)) != nil {
		return access.Token{}, fmt.Errorf("token %q: the stored row is damaged", t.Name)
	}
	copy(t.Digest[:], digest)
	t.Created = time.UnixMilli(created).UTC()
	for _, p := range []struct {
		at *time.Time
		ms sql.NullInt64
	}{{&t.Expires, expires}, {&t.Revoked, revoked}, {&t.LastUsed, used}} {
		if w := when(p.ms); w != nil {
			*p.at = *w
		}
	}
	return t, nil
}

// moment is a time as it is stored, NULL for the zero one.
func moment(t time.Time) sql.NullInt64 {
	return sql.NullInt64{Int64: millis(t), Valid: !t.IsZero()}
}

// Create implements [access.Tokens].
func (t tokens) Create(ctx context.Context, n access.Token) error {
	return t.s.tx(ctx, func(tx *sql.Tx) error {
		var taken bool
		err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM tokens WHERE name = ? AND revoked IS NULL)`, n.Name).Scan(&taken)
		if err != nil {
			return err
		}
		if taken {
			return access.ErrTokenExists
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO tokens (`+tokenColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
			n.ID, n.Name, n.Role.String(), n.Digest[:], millis(n.Created), moment(n.Expires), moment(n.Revoked), moment(n.LastUsed))
		return err
	})
}

// List implements [access.Tokens].
func (t tokens) List(ctx context.Context) ([]access.Token, error) {
	rows, err := t.s.read.QueryContext(ctx, `SELECT `+tokenColumns+` FROM tokens ORDER BY seq`)
	if err != nil {
		return nil, t.s.explain(err)
	}
	defer rows.Close()
	var all []access.Token
	for rows.Next() {
		one, err := scanToken(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, t.s.explain(rows.Err())
}

// ByID implements [access.TokenReader].
func (t tokens) ByID(ctx context.Context, id string) (access.Token, error) {
	one, err := scanToken(t.s.read.QueryRowContext(ctx, `SELECT `+tokenColumns+` FROM tokens WHERE id = ?`, id))
	if errors.Is(err, sql.ErrNoRows) {
		return access.Token{}, access.ErrNoToken
	}
	return one, t.s.explain(err)
}

// Any implements [access.TokenReader].
func (t tokens) Any(ctx context.Context) (bool, error) {
	var had bool
	err := t.s.read.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM tokens)`).Scan(&had)
	return had, t.s.explain(err)
}

// Revoke implements [access.Tokens].
func (t tokens) Revoke(ctx context.Context, name string, at time.Time) error {
	return t.change(ctx, `UPDATE tokens SET revoked = ? WHERE name = ? AND revoked IS NULL`, millis(at), name)
}

// Used implements [access.TokenReader].
func (t tokens) Used(ctx context.Context, id string, at time.Time) error {
	return t.change(ctx, `UPDATE tokens SET last_used = ? WHERE id = ?`, millis(at), id)
}

// change runs a statement that is about one token.
func (t tokens) change(ctx context.Context, statement string, args ...any) error {
	return t.s.tx(ctx, func(tx *sql.Tx) error {
		r, err := tx.ExecContext(ctx, statement, args...)
		if err != nil {
			return err
		}
		n, err := r.RowsAffected()
		if err == nil && n == 0 {
			return access.ErrNoToken
		}
		return err
	})
}
