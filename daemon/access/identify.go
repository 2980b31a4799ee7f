package access

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os/user"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// usedEvery is how often a token's use is written down.
const usedEvery = 10 * time.Minute

// usedTimeout bounds how long a request may wait for that.
const usedTimeout = time.Second

// Reason is why somebody was not recognised.
type Reason int

// The reasons.
const (
	Missing     Reason = iota // nothing was sent that proves anything
	Invalid                   // what was sent is not good
	TooMany                   // too much of that came from the address
	Unavailable               // it cannot be judged now
)

// Denied is the error of [Authenticator.Identify].
type Denied struct {
	Reason     Reason
	Text       string        // for who asked: holds nothing secret and no hint for guesses
	RetryAfter time.Duration // after which asking again makes sense, or 0
	Err        error         // for the log: what Text does not tell, or nil
}

// Error is for who asked.
func (d *Denied) Error() string { return d.Text }

// Unwrap returns Err.
func (d *Denied) Unwrap() error { return d.Err }

// Options of an [Authenticator]. The zero value knows nobody: everybody on
// this machine is the administrator, and nobody else is let in.
type Options struct {
	Tokens TokenReader // nil for a daemon that has none
	OIDC   *OIDC       // nil for none

	// Certificates gives roles to client certificates by their common name or one
	// of their DNS names, mail addresses or URIs; of several, the highest
	// counts. That it is not nil is an access control even when it is empty.
	Certificates map[string]Role

	// SocketGroups gives roles to the members of groups of this machine that
	// come over the unix socket; of several, the highest counts.
	SocketGroups map[string]Role
	// Owner is the user that the daemon runs as, who is an administrator on the
	// unix socket, as root is.
	Owner uint32

	// Required says that nobody is let in without proof, also before there is
	// a token.
	Required bool

	Logger *slog.Logger     // nil discards
	Now    func() time.Time // nil is time.Now
}

// Authenticator finds out who a request is from.
type Authenticator struct {
	o        Options
	log      *slog.Logger
	now      func() time.Time
	throttle *throttle
	decoy    Digest      // compared when there is no token to compare with
	hadToken atomic.Bool // there was one, so there always will have been

	mu   sync.Mutex
	used map[string]time.Time // when a token's use was last written, or tried to be
}

// New returns an Authenticator.
func New(o Options) *Authenticator {
	a := &Authenticator{o: o, log: o.Logger, now: o.Now, used: make(map[string]time.Time)}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if a.now == nil {
		a.now = time.Now
	}
	a.throttle = newThrottle(a.now)
	_, _ = rand.Read(a.decoy[:]) // never fails
	return a
}

// Configured reports whether there is anything by which people are told apart:
// a token (also one that was revoked since), an identity provider, client
// certificates. Without it, who is on this machine is the administrator.
func (a *Authenticator) Configured(ctx context.Context) (bool, error) {
	if a.o.Required || a.o.OIDC != nil || a.o.Certificates != nil || a.hadToken.Load() {
		return true, nil
	}
	if a.o.Tokens == nil {
		return false, nil
	}
	had, err := a.o.Tokens.Any(ctx)
	if had {
		a.hadToken.Store(true)
	}
	return had, err
}

// lookTimeout bounds how long it is looked whether there are tokens: what needs nobody
// to be known, such as the daemon's health, is answered also when the store is not.
const lookTimeout = 2 * time.Second

// Identify returns who a request over a connection of peer is from.
// authorization are the values of its Authorization header. What is sent is
// judged, and not passed over for another proof when it is not good. The error is
// a *[Denied].
//
// A principal that is known but has no role is no error; it may do nothing.
func (a *Authenticator) Identify(ctx context.Context, peer Peer, authorization []string) (Principal, error) {
	if len(authorization) > 0 {
		return a.bearer(ctx, peer, authorization)
	}
	if peer.Certificate != nil {
		return a.certificate(peer.Certificate), nil
	}
	look, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	configured, err := a.Configured(look)
	if err != nil {
		return Principal{}, unavailable(err)
	}
	if !configured && (peer.Unix || peer.Loopback) {
		p := Principal{Name: "local", Role: Admin, Via: ViaLocal}
		if peer.Unix {
			p.Name = userName(peer.UID)
		}
		return p, nil
	}
	if peer.Unix {
		return a.socket(peer)
	}
	return Principal{}, &Denied{Reason: Missing, Text: "this daemon wants to know who asks: send a token as Authorization: Bearer h2k_…"}
}

func unavailable(err error) error {
	return &Denied{Reason: Unavailable, Text: "the daemon cannot look up who asks: " + err.Error(), RetryAfter: 5 * time.Second, Err: err}
}

// bearer judges a token.
func (a *Authenticator) bearer(ctx context.Context, peer Peer, authorization []string) (Principal, error) {
	scheme, token, _ := strings.Cut(authorization[0], " ")
	token = strings.TrimSpace(token)
	if len(authorization) > 1 || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return Principal{}, &Denied{Reason: Invalid, Text: "the Authorization header must be there once, as: Bearer TOKEN"}
	}
	address, digest := addressOf(peer), Digest(sha256.Sum256([]byte(token)))
	if err := a.slowedDown(address, digest); err != nil {
		return Principal{}, err
	}
	judge := a.token
	if a.o.OIDC != nil && strings.Count(token, ".") == 2 {
		judge = func(ctx context.Context, token string, _ Digest) (Principal, error) {
			return a.o.OIDC.identify(ctx, token)
		}
	}
	p, err := judge(ctx, token, digest)
	if err == nil {
		a.throttle.success(digest)
		return p, nil
	}
	a.countFailure(ctx, address, digest, err)
	return Principal{}, err
}

// slowedDown is the error for a credential from an address that has to wait, or nil.
func (a *Authenticator) slowedDown(address string, credential Digest) error {
	wait := a.throttle.wait(address, credential)
	if wait <= 0 {
		return nil
	}
	return &Denied{
		Reason: TooMany, RetryAfter: wait,
		Text: "too many wrong tokens came from this address: wait before the next one",
	}
}

// countFailure notes that a credential was not good, if that is what err says.
func (a *Authenticator) countFailure(ctx context.Context, address string, credential Digest, err error) {
	denied := new(Denied)
	if !errors.As(err, &denied) || denied.Reason != Invalid {
		return
	}
	a.throttle.forget(credential)
	if a.throttle.failure(address) {
		a.log.WarnContext(ctx, "wrong tokens keep coming from an address, which has to wait between them from now on", "address", address)
	}
}

// token judges an API token. Whether its id exists is not told, nor by the time
// that it takes: the comparison is made in any case.
func (a *Authenticator) token(ctx context.Context, token string, digest Digest) (Principal, error) {
	id, ok := tokenID(token)
	if !ok {
		return Principal{}, &Denied{Reason: Invalid, Text: "this is no token of this daemon: it may be mistyped or cut off"}
	}
	return a.byDigest(ctx, id, digest)
}

// byDigest judges the API token with that id and digest.
func (a *Authenticator) byDigest(ctx context.Context, id string, digest Digest) (Principal, error) {
	unknown := &Denied{Reason: Invalid, Text: "unknown token"}
	if a.o.Tokens == nil {
		return Principal{}, unknown
	}
	t, err := a.o.Tokens.ByID(ctx, id)
	found := err == nil
	if err != nil && !errors.Is(err, ErrNoToken) {
		return Principal{}, unavailable(err)
	}
	if !found {
		t.Digest = a.decoy
	}
	if same := subtle.ConstantTimeCompare(t.Digest[:], digest[:]) == 1; !same || !found {
		return Principal{}, unknown
	}
	// From here on, who asks has the secret and may know what became of it.
	now := a.now()
	switch {
	case !t.Revoked.IsZero():
		return Principal{}, &Denied{Reason: Invalid, Text: "the token was revoked", Err: fmt.Errorf("token %q was revoked at %s", t.Name, t.Revoked.Format(time.RFC3339))}
	case !t.Expires.IsZero() && !now.Before(t.Expires):
		return Principal{}, &Denied{Reason: Invalid, Text: "the token has expired", Err: fmt.Errorf("token %q expired at %s", t.Name, t.Expires.Format(time.RFC3339))}
	}
	a.noteUse(ctx, t, now)
	return Principal{Name: t.Name, Role: t.Role, Via: ViaToken}, nil
}

// noteUse writes down that a token is used, rarely, and never to the harm of the
// request.
func (a *Authenticator) noteUse(ctx context.Context, t Token, now time.Time) {
	a.mu.Lock()
	last := a.used[t.ID]
	if t.LastUsed.After(last) {
		last = t.LastUsed
	}
	due := now.Sub(last) >= usedEvery
	if due {
		a.used[t.ID] = now
	}
	a.mu.Unlock()
	if !due {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), usedTimeout)
	defer cancel()
	if err := a.o.Tokens.Used(ctx, t.ID, now); err != nil {
		a.log.DebugContext(ctx, "the use of a token could not be written down", "token", t.Name, "error", err)
	}
	if left := t.Expires.Sub(now); !t.Expires.IsZero() && left < 7*24*time.Hour {
		a.log.WarnContext(ctx, "a token that is in use expires soon", "token", t.Name, "expires", t.Expires)
	}
}

// certificate gives a client certificate, which the listener has verified, its
// role.
func (a *Authenticator) certificate(c *x509.Certificate) Principal {
	names := append([]string{c.Subject.CommonName}, c.DNSNames...)
	names = append(names, c.EmailAddresses...)
	for _, u := range c.URIs {
		names = append(names, u.String())
	}
	p := Principal{Via: ViaCertificate}
	for _, name := range names {
		if name == "" {
			continue
		}
		p.Name = cmp.Or(p.Name, name)
		if r := a.o.Certificates[name]; r > p.Role {
			p.Name, p.Role = name, r
		}
	}
	return p
}

// socket gives the user at the other end of the unix socket their role.
func (a *Authenticator) socket(peer Peer) (Principal, error) {
	p := Principal{Name: userName(peer.UID), Via: ViaSocket}
	if peer.UID == 0 || peer.UID == a.o.Owner {
		p.Role = Admin
		return p, nil
	}
	for _, group := range groupsOf(peer) {
		p.Role = max(p.Role, a.o.SocketGroups[group])
	}
	if p.Role == Nobody {
		return Principal{}, &Denied{Reason: Missing, Text: "user " + p.Name +
			" has no role on this socket: send a token as Authorization: Bearer h2k_…, or be in a group of access.socket_groups"}
	}
	return p, nil
}

// userName is how a user of this machine is called.
func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "uid " + id
}

// groupsOf returns the names of the groups that the process at the other end of the
// unix socket has. A group without a name in the machine's database is left out.
func groupsOf(peer Peer) []string {
	var names []string
	for _, gid := range append([]uint32{peer.GID}, peer.Groups...) {
		if g, err := user.LookupGroupId(strconv.FormatUint(uint64(gid), 10)); err == nil {
			names = append(names, g.Name)
		}
	}
	return names
}
