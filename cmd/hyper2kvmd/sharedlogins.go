package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/limits"
)

// sharedLogins is what daemons on a database do for [logins] together: of each account
// one login is tried at a time, and a password that was refused to one of them is tried
// by none. Where the database cannot be asked, each goes by what it knows itself: work
// that is under way has to go on. A nil one is that of a daemon that is alone.
type sharedLogins struct {
	turns    turns
	refusals limits.Refusals
	hash     func(text string) [][]byte // keyed, alike at all daemons: see sealer.Keyring.Hashes
	log      *slog.Logger

	mu      sync.Mutex
	trouble string // with the database, told once
}

// turns are places that daemons share: a *limits.Keeper.
type turns interface {
	AcquireOrFail(ctx context.Context, name string, most int, hold time.Duration) (release func(), err error)
}

const (
	// refusalHolds is for how long a refused password is not tried by any daemon.
	refusalHolds = 24 * time.Hour
	// turnHolds is after how long the turn of a daemon that has died is free. It is longer
	// than a login may take.
	turnHolds = 90 * time.Second
	// askTime bounds how long the database may take to answer.
	askTime = 5 * time.Second
)

// loginsOf begins the names of the limits of logins.
const loginsOf = "logins of "

// hashes are those by which the password is known in the database.
func (s *sharedLogins) hashes(a account, password string) [][]byte {
	if s == nil {
		return nil
	}
	return s.hash(a.host + "\x00" + a.user + "\x00" + password)
}

// name is that of the account in the database.
func (a account) name() string { return a.user + " at " + a.host }

// turn waits until no other daemon logs in as that user. Its error is that of ctx.
func (s *sharedLogins) turn(ctx context.Context, a account) (release func(), err error) {
	if s == nil {
		return func() {}, nil
	}
	release, err = s.turns.AcquireOrFail(ctx, loginsOf+a.name(), 1, turnHolds)
	switch {
	case err == nil:
		return release, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	s.tell(err)
	return func() {}, nil
}

// tell logs trouble with the database, once until it is over.
func (s *sharedLogins) tell(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		s.trouble = ""
	case s.trouble == "":
		s.trouble = err.Error()
		s.log.Warn("the database cannot say which passwords vCenters have refused to other daemons: logins go by what this daemon knows", "error", err)
	}
}

// ask asks the database something, in bounded time also when ctx ends.
func (s *sharedLogins) ask(ctx context.Context, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTime)
	defer cancel()
	err := f(ctx)
	s.tell(err)
	return err
}

// forgive forgets for all daemons what was refused to an account.
func (s *sharedLogins) forgive(a account) {
	if s == nil {
		return
	}
	err := s.ask(context.Background(), func(ctx context.Context) error { return s.refusals.Forgive(ctx, a.name()) })
	if err != nil {
		s.log.Error("the database could not be told that a refused password may be tried again: ask for it once more", "user", a.user, "vcenter", a.host, "error", err)
	}
}

// learn takes over what the daemons know of the account, of the passwords that of p.
// What the others could not be told so far is kept.
func (a *accountState) learn(ctx context.Context, p password) {
	if a.shared == nil {
		return
	}
	a.settle(ctx)
	var known []limits.Refusal
	err := a.shared.ask(ctx, func(ctx context.Context) (err error) {
		known, err = a.shared.refusals.Refusals(ctx, a.name())
		return err
	})
	if err != nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	var recent []time.Time
	standing := func(hash []byte) bool { // the others know it, too
		return slices.ContainsFunc(known, func(k limits.Refusal) bool { return bytes.Equal(k.Password, hash) })
	}
	for mac, r := range a.refused {
		switch {
		case r.owing:
			recent = append(recent, r.at)
		case !standing(r.hash): // its time is over, or it was forgiven
			delete(a.refused, mac)
		}
	}
	for _, k := range known {
		at := now.Add(-k.Age)
		if k.Strike {
			recent = append(recent, at)
		}
		if slices.ContainsFunc(p.hashes, func(h []byte) bool { return bytes.Equal(h, k.Password) }) {
			a.refused[p.mac] = refusal{err: errors.New(k.Reason), at: at, hash: k.Password}
		}
	}
	slices.SortFunc(recent, time.Time.Compare)
	a.recent = recent
}

// share tells the other daemons what came of a login.
func (a *accountState) share(ctx context.Context, accepted bool) {
	if a.shared == nil {
		return
	}
	a.settle(ctx)
	a.mu.Lock()
	struck := a.struck
	a.mu.Unlock()
	if !accepted || !struck {
		return
	}
	// When it fails, strikes that are none delay another password at most.
	_ = a.shared.ask(ctx, func(ctx context.Context) error { return a.shared.refusals.Accepted(ctx, a.name()) })
}

// settle tells them of the refusals that they could not be told of before.
func (a *accountState) settle(ctx context.Context) {
	a.mu.Lock()
	var owing []refusal
	for _, r := range a.refused {
		if r.owing {
			owing = append(owing, r)
		}
	}
	a.mu.Unlock()
	for _, r := range owing {
		told := limits.Refusal{Account: a.name(), Password: r.hash, Reason: r.err.Error()}
		if a.shared.ask(ctx, func(ctx context.Context) error { return a.shared.refusals.Refuse(ctx, told, refusalHolds) }) != nil {
			return
		}
		a.mu.Lock()
		for mac, same := range a.refused {
			if bytes.Equal(same.hash, r.hash) {
				same.owing = false
				a.refused[mac] = same
			}
		}
		a.mu.Unlock()
	}
}
