package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
)

// tokens is an [access.Tokens].
type tokens struct{ db Backend }

const tokenColumns = `id, name, role, digest, created, expires, revoked, last_used`

func scanToken(scan func(...any) error) (access.Token, error) {
	var t access.Token
	var role string
	var digest []byte
	var created int64
	var expires, revoked, used sql.NullInt64
	if err := scan(&t.ID, &t.Name, &role, &digest, &created, &expires, &revoked, &used); err != nil {
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
	return t.change(ctx, access.ErrTokenExists,
		`INSERT INTO tokens (`+tokenColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		n.ID, n.Name, n.Role.String(), n.Digest[:], millis(n.Created), moment(n.Expires), moment(n.Revoked), moment(n.LastUsed))
}

// List implements [access.Tokens].
func (t tokens) List(ctx context.Context) (all []access.Token, err error) {
	err = t.db.Read(ctx, func(c Conn) error {
		all, err = collect(ctx, c, scanToken, `SELECT `+tokenColumns+` FROM tokens ORDER BY seq`)
		return err
	})
	return all, err
}

// ByID implements [access.TokenReader].
func (t tokens) ByID(ctx context.Context, id string) (one access.Token, err error) {
	err = t.db.Read(ctx, func(c Conn) error {
		one, err = scanToken(c.QueryRow(ctx, `SELECT `+tokenColumns+` FROM tokens WHERE id = ?`, id).Scan)
		if errors.Is(err, sql.ErrNoRows) {
			err = access.ErrNoToken
		}
		return err
	})
	return one, err
}

// Any implements [access.TokenReader].
func (t tokens) Any(ctx context.Context) (had bool, err error) {
	err = t.db.Read(ctx, func(c Conn) error {
		return c.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM tokens)`).Scan(&had)
	})
	return had, err
}

// Revoke implements [access.Tokens].
func (t tokens) Revoke(ctx context.Context, name string, at time.Time) error {
	return t.change(ctx, access.ErrNoToken, `UPDATE tokens SET revoked = ? WHERE name = ? AND revoked IS NULL`, millis(at), name)
}

// Used implements [access.TokenReader].
func (t tokens) Used(ctx context.Context, id string, at time.Time) error {
	return t.change(ctx, access.ErrNoToken, `UPDATE tokens SET last_used = ? WHERE id = ?`, millis(at), id)
}

// change runs a statement that is about one token, or returns none when it changed
// nothing.
func (t tokens) change(ctx context.Context, none error, statement string, args ...any) error {
	return t.db.Write(ctx, func(tx Tx) error {
		n, err := tx.changed(ctx, statement, args...)
		if err == nil && n == 0 {
			err = none
		}
		return err
	})
}
