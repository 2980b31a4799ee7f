package memory

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/audit"
)

// Tokens is an [access.Tokens]. The zero value is empty and ready.
type Tokens struct {
	mu  sync.Mutex
	all []access.Token
}

// find returns where the first token is that fits, or -1.
func (t *Tokens) find(fits func(access.Token) bool) int { return slices.IndexFunc(t.all, fits) }

func valid(name string) func(access.Token) bool {
	return func(t access.Token) bool { return t.Name == name && t.Revoked.IsZero() }
}

func withID(id string) func(access.Token) bool {
	return func(t access.Token) bool { return t.ID == id }
}

// Create implements [access.Tokens].
func (t *Tokens) Create(_ context.Context, n access.Token) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.find(valid(n.Name)) >= 0 {
		return access.ErrTokenExists
	}
	t.all = append(t.all, n)
	return nil
}

// List implements [access.Tokens].
func (t *Tokens) List(context.Context) ([]access.Token, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.all), nil
}

// Revoke implements [access.Tokens].
func (t *Tokens) Revoke(_ context.Context, name string, at time.Time) error {
	return t.change(valid(name), func(one *access.Token) { one.Revoked = at.UTC() })
}

// ByID implements [access.TokenReader].
func (t *Tokens) ByID(_ context.Context, id string) (access.Token, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := t.find(withID(id)); i >= 0 {
		return t.all[i], nil
	}
	return access.Token{}, access.ErrNoToken
}

// Any implements [access.TokenReader].
func (t *Tokens) Any(context.Context) (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.all) > 0, nil
}

// Used implements [access.TokenReader].
func (t *Tokens) Used(_ context.Context, id string, at time.Time) error {
	return t.change(withID(id), func(one *access.Token) { one.LastUsed = at.UTC() })
}

func (t *Tokens) change(fits func(access.Token) bool, f func(*access.Token)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := t.find(fits)
	if i < 0 {
		return access.ErrNoToken
	}
	f(&t.all[i])
	return nil
}

// Audit is an [audit.Store]. The zero value is empty and ready.
type Audit struct {
	mu  sync.Mutex
	all []audit.Record
}

// Append implements [audit.Store].
func (a *Audit) Append(_ context.Context, next func(audit.Record) (audit.Record, error)) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var last audit.Record
	if n := len(a.all); n > 0 {
		last = a.all[n-1]
	}
	r, err := next(last)
	if err == nil {
		a.all = append(a.all, r)
	}
	return err
}

// After implements [audit.Store].
func (a *Audit) After(_ context.Context, n int64, limit int) ([]audit.Record, error) {
	return a.some(limit, false, func(r audit.Record) bool { return r.Number > n })
}

// Before implements [audit.Store].
func (a *Audit) Before(_ context.Context, n int64, limit int) ([]audit.Record, error) {
	return a.some(limit, true, func(r audit.Record) bool { return r.Number < n || n == 0 })
}

func (a *Audit) some(limit int, lastFirst bool, fits func(audit.Record) bool) ([]audit.Record, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var found []audit.Record
	for _, r := range a.all {
		if fits(r) {
			found = append(found, r)
		}
	}
	if lastFirst {
		slices.Reverse(found)
	}
	return found[:min(limit, len(found))], nil
}
