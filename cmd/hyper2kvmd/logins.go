package main

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// logins is the gate that every login of the daemon passes, of jobs, probes, and
// questions through the API alike. vCenter locks an account after a few refused
// passwords (F-INV-5), so of each account one login is tried at a time, a
// password that was refused is not tried again, and of several passwords no more
// than strikes are tried within strikeTime. A daemon that is alone remembers that in
// memory only; daemons on a database do so there, all of them together.
type logins struct {
	key    [32]byte      // passwords are remembered as MACs under it
	shared *sharedLogins // nil for a daemon that is alone; set before the first login

	mu       sync.Mutex
	accounts map[account]*accountState
}

// How many refused passwords of an account are borne in how much time.
const (
	strikes    = 3
	strikeTime = 15 * time.Minute
)

// account is a user of a vCenter.
type account struct{ host, user string }

// accountState is what is known of an account.
type accountState struct {
	account
	shared *sharedLogins // may be nil
	turn   chan struct{} // held by who logs in

	mu      sync.Mutex
	flights int                           // logins that have ended
	last    error                         // what came of the last one
	refused map[[sha256.Size]byte]refusal // by password
	recent  []time.Time                   // of the last refusals, in order
	struck  bool                          // there were such before the login that has succeeded last
}

// refusal is what vCenter said to a password, and when.
type refusal struct {
	err   error
	at    time.Time
	hash  []byte // of the password, as in the database
	owing bool   // other daemons are still to be told
}

// password is one that is to be tried, as it is remembered here and in the database.
type password struct {
	mac    [sha256.Size]byte
	hashes [][]byte // that of the present key first; empty for a daemon that is alone
}

func newLogins() *logins {
	l := &logins{accounts: make(map[account]*accountState)}
	_, _ = rand.Read(l.key[:]) // never fails
	return l
}

// gate returns the [vsphere.Config.Gate] of a configuration.
func (l *logins) gate(cfg vsphere.Config) func(context.Context, func(context.Context) error) error {
	a, mac := l.account(cfg.URL, cfg.Username), l.mac(cfg.Password)
	return func(ctx context.Context, login func(context.Context) error) error {
		return a.pass(ctx, password{mac, a.shared.hashes(a.account, cfg.Password)}, login)
	}
}

// forgive has every password of the account tried again.
func (l *logins) forgive(cfg vsphere.Config) {
	a := l.account(cfg.URL, cfg.Username)
	a.shared.forgive(a.account)
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.refused)
	a.recent = nil
}

func (l *logins) account(u *url.URL, user string) *accountState {
	key := account{strings.TrimSuffix(strings.ToLower(u.Host), ":443"), user}
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.accounts[key]
	if a == nil {
		a = &accountState{account: key, shared: l.shared, turn: make(chan struct{}, 1), refused: make(map[[sha256.Size]byte]refusal)}
		l.accounts[key] = a
	}
	return a
}

func (l *logins) mac(password string) (sum [sha256.Size]byte) {
	h := hmac.New(sha256.New, l.key[:])
	h.Write([]byte(password))
	h.Sum(sum[:0])
	return sum
}

// pass tries a login when its turn has come and nothing speaks against it.
func (a *accountState) pass(ctx context.Context, p password, login func(context.Context) error) error {
	a.mu.Lock()
	queued := a.flights
	a.mu.Unlock()
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	release, err := a.shared.turn(ctx, a.account)
	if err != nil {
		return err
	}
	defer release()
	a.learn(ctx, p)
	if err := a.against(p.mac, queued); err != nil {
		return err
	}
	err = a.note(p, login(ctx))
	a.share(ctx, err == nil)
	return err
}

// against returns what speaks against trying a password now, or nil. What
// another login met while this one queued, it would meet as well.
func (a *accountState) against(password [sha256.Size]byte, queued int) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r, is := a.refused[password]; is {
		return &refusedError{r}
	}
	a.recent = append([]time.Time(nil), since(a.recent, time.Now().Add(-strikeTime))...)
	if n := len(a.recent); n >= strikes { // more, when daemons could not hear of each other
		return &heldError{until: a.recent[n-strikes].Add(strikeTime)}
	}
	if a.flights > queued && errors.Is(a.last, vsphere.ErrUnreachable) {
		return a.last
	}
	return nil
}

// since returns those of times, which are in order, that are after t.
func since(times []time.Time, t time.Time) []time.Time {
	for i, at := range times {
		if at.After(t) {
			return times[i:]
		}
	}
	return nil
}

// note remembers what came of a login, and returns it.
func (a *accountState) note(p password, err error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.flights++
	a.last = err
	switch {
	case err == nil:
		a.struck, a.recent = len(a.recent) > 0, nil
	case errors.Is(err, vsphere.ErrLogin), errors.Is(err, vsphere.ErrNoPermission):
		r := refusal{err: err, at: time.Now()}
		if len(p.hashes) > 0 {
			r.hash, r.owing = p.hashes[0], true
		}
		a.refused[p.mac] = r
		a.recent = append(a.recent, r.at)
		return &refusedError{r}
	}
	return err
}

// refusedError is a password that vCenter refuses.
type refusedError struct{ refusal }

// Error says that nobody tries again by himself.
func (e *refusedError) Error() string {
	return fmt.Sprintf("%v (refused at %s; not tried again with this password, so that the account is not locked)",
		e.err, e.at.Format(time.RFC3339))
}

// Unwrap makes it the login's error, and an [vsphere.ErrLogin] in any case.
func (e *refusedError) Unwrap() []error { return []error{vsphere.ErrLogin, e.err} }

// Permanent says that a job which brought the password along need not try again.
func (e *refusedError) Permanent() bool { return true }

// heldError is a login that is not tried because others were refused.
type heldError struct{ until time.Time }

// Error says until when.
func (e *heldError) Error() string {
	return fmt.Sprintf("%d passwords of this user were refused: no other one is tried before %s, so that the account is not locked",
		strikes, e.until.Format(time.RFC3339))
}

// Unwrap makes it an [vsphere.ErrLogin].
func (e *heldError) Unwrap() error { return vsphere.ErrLogin }
