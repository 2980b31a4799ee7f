package access

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"
)

// How long a session of a browser lasts.
const (
	DefaultSessionIdle = time.Hour      // without a request
	DefaultSessionLife = 12 * time.Hour // whatever is asked
	maxSessions        = 4096           // at once; the one that was idle longest is ended first
	sessionSecret      = 32             // bytes
)

// SessionOptions are the bounds of sessions. The zero value has the defaults.
type SessionOptions struct {
	Idle time.Duration    // 0 means DefaultSessionIdle
	Life time.Duration    // 0 means DefaultSessionLife
	Now  func() time.Time // nil is time.Now
}

// Sessions are the browsers that have signed in: each has a random secret, and is kept
// here by the secret's SHA-256. They end when they are idle or old, when the browser
// signs out, and when the daemon does. One that began with an API token is judged by
// that token at each request, so that it ends with it, and has the role that it has. One
// that began at the identity provider ends when that no longer vouches (see grant).
type Sessions struct {
	who *Authenticator
	o   SessionOptions
	key [sha256.Size]byte // of Sessions.Mark

	mu  sync.Mutex
	all *recent[Digest, session]
}

// session is one browser. It has no secret in it.
type session struct {
	tokenID string // of the API token that it began with
	token   Digest
	grant   *grant // without a token: what the identity provider has said
	began   time.Time
	seen    time.Time
}

// NewSessions returns Sessions of people whom who knows.
func NewSessions(who *Authenticator, o SessionOptions) *Sessions {
	if o.Idle <= 0 {
		o.Idle = DefaultSessionIdle
	}
	if o.Life <= 0 {
		o.Life = DefaultSessionLife
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Sessions{who: who, o: o, all: newRecent[Digest, session](maxSessions)}
	_, _ = rand.Read(s.key[:]) // never fails
	return s
}

// SignIn begins a session for who holds an API token, and returns its secret, which is
// another one each time. Guesses are slowed down as those of [Authenticator.Identify]
// are. The error is a *[Denied].
func (s *Sessions) SignIn(ctx context.Context, peer Peer, token string) (secret string, who Principal, err error) {
	id, ok := tokenID(token)
	if who, err = s.who.bearer(ctx, peer, []string{"Bearer " + token}); err != nil {
		return "", Principal{}, err
	}
	if !ok { // a token of the identity provider, which ends within minutes
		return "", Principal{}, &Denied{Reason: Invalid, Text: "this is no API token of this daemon"}
	}
	return s.begin(session{tokenID: id, token: sha256.Sum256([]byte(token))}), who, nil
}

// Provider is the issuer at which browsers can sign in, or "".
func (s *Sessions) Provider() string {
	if p := s.who.o.OIDC; p != nil && p.client != nil {
		return p.o.Issuer
	}
	return ""
}

// errNoProvider is for those who ask for a sign-in that is not configured.
var errNoProvider = &Denied{Reason: Invalid, Text: "this daemon has no identity provider to sign in at"}

// BeginLogin begins a sign-in at the identity provider, which sends the browser back to
// callback, a URL of ours; afterwards it goes to to. The error is a *[Denied].
func (s *Sessions) BeginLogin(ctx context.Context, callback, to string) (Attempt, error) {
	if s.Provider() == "" {
		return Attempt{}, errNoProvider
	}
	return s.who.o.OIDC.client.begin(ctx, callback, to)
}

// Login is a session that began at the identity provider.
type Login struct {
	Secret string // of the session, another one each time
	Who    Principal
	To     string // as given to [Sessions.BeginLogin]
}

// NoRoleError says that the identity provider knows somebody who has no role here.
type NoRoleError struct {
	Name    string // as logs have it
	Claim   string // that was looked at
	Missing bool   // it is not in the ID token
}

// Error is for who has tried to sign in.
func (e *NoRoleError) Error() string {
	why := "holds no value that access.oidc.roles has a role for"
	if e.Missing {
		why = "is not in it"
	}
	return fmt.Sprintf("The identity provider knows you as %s, but you have no role at this daemon. It has looked at the claim %s of your ID token, which %s.", e.Name, e.Claim, why)
}

// FinishLogin begins the session of who has signed in at the identity provider. sealed is
// what the browser has of [Attempt.Sealed], and answer the query that it came back with.
// What the provider does not confirm is slowed down as wrong tokens are. The error is a
// *[Denied] or a *[NoRoleError].
func (s *Sessions) FinishLogin(ctx context.Context, peer Peer, sealed string, answer url.Values) (Login, error) {
	if s.Provider() == "" {
		return Login{}, errNoProvider
	}
	client, address, credential := s.who.o.OIDC.client, addressOf(peer), digestOf(answer.Get("code"))
	if err := s.who.slowedDown(address, credential); err != nil {
		return Login{}, err
	}
	a, code, err := client.open(sealed, answer)
	if err != nil {
		return Login{}, err
	}
	g, err := client.redeem(ctx, a, code)
	if err != nil {
		s.who.countFailure(ctx, address, credential, err)
		return Login{}, err
	}
	if g.who.Role == Nobody {
		return Login{}, &NoRoleError{Name: g.who.Name, Claim: client.provider.o.RoleClaim, Missing: g.missing}
	}
	return Login{Secret: s.begin(session{grant: g}), Who: g.who, To: a.To}, nil
}

func (s *Sessions) begin(n session) string {
	secret := randomText()
	s.mu.Lock()
	defer s.mu.Unlock()
	n.began = s.o.Now()
	n.seen = n.began
	s.all.put(digestOf(secret), n)
	return secret
}

// ErrNoSession is the error of [Sessions.Identify] when there is no such session, or no
// longer.
var ErrNoSession = errors.New("the session has ended")

// Identify returns who a session is of. It is [ErrNoSession] when there is none with
// that secret, and a *[Denied] when what it began with is not good any more, which ends it, or
// cannot be judged now, which does not.
func (s *Sessions) Identify(ctx context.Context, secret string) (Principal, error) {
	key := digestOf(secret)
	found, ok := s.look(key)
	if !ok {
		return Principal{}, ErrNoSession
	}
	identify := func(ctx context.Context) (Principal, error) { return s.who.byDigest(ctx, found.tokenID, found.token) }
	if found.grant != nil {
		identify = found.grant.identify
	}
	who, err := identify(ctx)
	if denied := new(Denied); errors.As(err, &denied) && denied.Reason == Invalid {
		s.end(key)
	}
	return who, err
}

// look returns a session that has not ended, and notes that it is in use.
func (s *Sessions) look(key Digest) (session, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, ok := s.all.get(key)
	if !ok {
		return session{}, false
	}
	now := s.o.Now()
	if now.Sub(found.began) >= s.o.Life || now.Sub(found.seen) >= s.o.Idle {
		s.all.remove(key)
		return session{}, false
	}
	found.seen = now
	s.all.put(key, found)
	return found, true
}

// End ends the session with that secret, if there is one.
func (s *Sessions) End(secret string) { s.end(digestOf(secret)) }

func (s *Sessions) end(key Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all.remove(key)
}

// Mark returns what a form of the one that of stands for is marked with, so that a
// form which another site has made is told from ours: only this process can make it.
func (s *Sessions) Mark(of string) string {
	h := hmac.New(sha256.New, s.key[:])
	h.Write([]byte("form\n" + of))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// Marked reports whether mark is [Sessions.Mark] of the same.
func (s *Sessions) Marked(of, mark string) bool {
	return hmac.Equal([]byte(s.Mark(of)), []byte(mark))
}

func digestOf(secret string) Digest { return sha256.Sum256([]byte(secret)) }

// randomText is 256 random bits that a URL and a cookie can hold.
func randomText() string {
	var b [sessionSecret]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}
