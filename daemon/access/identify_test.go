package access_test

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os/user"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/memory"
)

// door is an Authenticator with tokens and a clock of the test's own.
type door struct {
	*access.Authenticator
	t      *testing.T
	tokens *memory.Tokens
	now    time.Time
}

func newDoor(t *testing.T, o access.Options) *door {
	d := &door{t: t, tokens: &memory.Tokens{}, now: now}
	if o.Tokens == nil {
		o.Tokens = d.tokens
	}
	o.Now = func() time.Time { return d.now }
	d.Authenticator = access.New(o)
	return d
}

// token makes one and returns what its holder sends.
func (d *door) token(name string, role access.Role) string {
	d.t.Helper()
	token, secret := newToken(d.t, name, role)
	if err := d.tokens.Create(d.t.Context(), token); err != nil {
		d.t.Fatal(err)
	}
	return secret
}

// ask returns who is let in from peer with a bearer token, none when it is "".
func (d *door) ask(peer access.Peer, token string) (access.Principal, *access.Denied) {
	d.t.Helper()
	var header []string
	if token != "" {
		header = []string{"Bearer " + token}
	}
	return d.askWith(peer, header)
}

func (d *door) askWith(peer access.Peer, authorization []string) (access.Principal, *access.Denied) {
	d.t.Helper()
	p, err := d.Identify(d.t.Context(), peer, authorization)
	if err == nil {
		return p, nil
	}
	denied := new(access.Denied)
	if !errors.As(err, &denied) {
		d.t.Fatalf("%v is no *Denied", err)
	}
	if p.May(access.Viewer) {
		d.t.Fatalf("%+v may do something, with the error %v", p, err)
	}
	return p, denied
}

// wantDenied wants nobody to be let in, for that reason.
func (d *door) wantDenied(peer access.Peer, token string, reason access.Reason) {
	d.t.Helper()
	_ = d.denial(peer, token, reason)
}

// denial is wantDenied with what is said.
func (d *door) denial(peer access.Peer, token string, reason access.Reason) *access.Denied {
	d.t.Helper()
	p, denied := d.ask(peer, token)
	if denied == nil {
		d.t.Fatalf("%+v is let in", p)
	}
	if denied.Reason != reason {
		d.t.Fatalf("denied for reason %d, %q; want %d", denied.Reason, denied, reason)
	}
	return denied
}

func (d *door) wantRole(peer access.Peer, token string, role access.Role) access.Principal {
	d.t.Helper()
	p, denied := d.ask(peer, token)
	if denied != nil {
		d.t.Fatal(denied)
	}
	if p.Role != role {
		d.t.Fatalf("%+v, want %v", p, role)
	}
	return p
}

var (
	loopback = access.Peer{Loopback: true, Addr: netip.MustParseAddr("127.0.0.1")}
	remote   = access.Peer{Addr: netip.MustParseAddr("192.0.2.7")}
)

func onSocket(uid, gid uint32) access.Peer {
	return access.Peer{Unix: true, UID: uid, GID: gid, PID: 1}
}

func TestWithoutAnyTokenWhoeverIsOnThisMachineIsTheAdministrator(t *testing.T) {
	t.Parallel()
	d := newDoor(t, access.Options{})
	d.wantRole(loopback, "", access.Admin)
	d.wantRole(onSocket(4711, 4711), "", access.Admin)
	d.wantDenied(remote, "", access.Missing)
	d.wantDenied(access.Peer{}, "", access.Missing)
	d.wantDenied(access.Peer{Addr: netip.MustParseAddr("127.0.0.1")}, "", access.Missing) // to an address that others reach
}

func TestOnceThereIsATokenNobodyIsLetInWithoutProof(t *testing.T) {
	t.Parallel()
	d := newDoor(t, access.Options{Owner: 990})
	secret := d.token("ci", access.Operator)
	d.wantDenied(loopback, "", access.Missing)
	d.wantDenied(onSocket(4711, 4711), "", access.Missing)
	d.wantRole(onSocket(0, 0), "", access.Admin)
	d.wantRole(onSocket(990, 990), "", access.Admin)
	p := d.wantRole(remote, secret, access.Operator)
	if want := (access.Principal{Name: "ci", Role: access.Operator, Via: access.ViaToken}); p != want {
		t.Errorf("%+v, want %+v", p, want)
	}
	// Nor when the last one is revoked: the daemon is not open to all again.
	if err := d.tokens.Revoke(t.Context(), "ci", now); err != nil {
		t.Fatal(err)
	}
	d.wantDenied(loopback, "", access.Missing)
	again := newDoor(t, access.Options{Tokens: d.tokens})
	again.wantDenied(loopback, "", access.Missing)
}

func TestWhatElseTellsPeopleApartEndsTheOpenDoorToo(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]access.Options{
		"required":     {Required: true},
		"OIDC":         {OIDC: access.NewOIDC(access.OIDCOptions{Issuer: "https://idp.example.com", Audience: "hyper2kvm"})},
		"certificates": {Certificates: map[string]access.Role{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDoor(t, o)
			d.wantDenied(loopback, "", access.Missing)
			d.wantDenied(onSocket(4711, 4711), "", access.Missing)
		})
	}
}

func TestAWrongTokenIsRefusedAndTheAnswerTellsNothing(t *testing.T) {
	t.Parallel()
	d := newDoor(t, access.Options{})
	secret := d.token("ci", access.Admin)
	_, other := newToken(t, "ci", access.Admin) // as good, but of no daemon
	swapped := other[:4] + secret[4:12] + other[12:]
	mistyped := "mistyped"
	for _, c := range []struct{ name, token, want string }{
		{"another daemon's", other, "unknown token"},
		{"the right id with another secret, and its checksum wrong", swapped, mistyped},
		{"cut off", secret[:len(secret)-1], mistyped},
		{"with something behind it", secret + "a", mistyped},
		{"in capitals", strings.ToUpper(secret), mistyped},
		{"only its public part", secret[:12], mistyped},
		{"anything", "admin", mistyped},
		{"a zero byte", secret[:20] + "\x00" + secret[21:], mistyped},
		{"long", strings.Repeat("a", 60<<10), mistyped},
		{"three parts, without an identity provider", "a.b.c", mistyped},
	} {
		t.Run(c.name, func(t *testing.T) {
			fresh := newDoor(t, access.Options{Tokens: d.tokens}) // without the failures before
			denied := fresh.denial(loopback, c.token, access.Invalid)
			if !strings.Contains(denied.Text, c.want) || denied.Err != nil {
				t.Errorf("%q, %v", denied.Text, denied.Err)
			}
		})
	}
}

func TestTheAnswerIsTheSameWhetherAnIDExistsOrNot(t *testing.T) {
	t.Parallel()
	d := newDoor(t, access.Options{})
	secret := d.token("ci", access.Admin)
	_, other := newToken(t, "ci", access.Admin)
	known := access.Rechecked(secret[:13] + other[13:])
	unknown := access.Rechecked(other[:13] + secret[13:])
	a := d.denial(remote, known, access.Invalid)
	b := d.denial(remote, unknown, access.Invalid)
	if *a != *b || a.Text != "unknown token" {
		t.Errorf("%+v is told from %+v", a, b)
	}
}

func TestATokenThatHasExpiredOrWasRevokedIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	d := newDoor(t, access.Options{})
	expiring, revoked := d.token("expiring", access.Viewer), d.token("revoked", access.Viewer)
	d.wantRole(remote, expiring, access.Viewer)
	d.wantRole(remote, revoked, access.Viewer)
	if err := d.tokens.Revoke(t.Context(), "revoked", d.now); err != nil {
		t.Fatal(err)
	}
	if denied := d.denial(remote, revoked, access.Invalid); !strings.Contains(denied.Text, "revoked") {
		t.Error(denied)
	}
	d.now = now.Add(time.Hour - time.Nanosecond)
	d.wantRole(remote, expiring, access.Viewer)
	d.now = now.Add(time.Hour)
	if denied := d.denial(remote, expiring, access.Invalid); !strings.Contains(denied.Text, "expired") {
		t.Error(denied)
	}
}

func TestAnAuthorizationThatIsNoBearerTokenIsRefusedAndNotPassedOver(t *testing.T) {
	t.Parallel()
	d := newDoor(t, access.Options{}) // open: without the header, everybody is let in
	for _, header := range [][]string{
		{""}, {"Bearer"}, {"Bearer "}, {"Basic YWRtaW46YWRtaW4="}, {"h2k_aaaaaaaa"}, {"Bearer a", "Bearer b"},
	} {
		fresh := newDoor(t, access.Options{})
		if _, denied := fresh.askWith(loopback, header); denied == nil || denied.Reason != access.Invalid {
			t.Errorf("%q: %v", header, denied)
		}
	}
	secret := d.token("ci", access.Viewer)
	for _, header := range []string{"bearer " + secret, "BEARER  " + secret + " "} {
		if p, denied := d.askWith(loopback, []string{header}); denied != nil || p.Role != access.Viewer {
			t.Errorf("%+v, %v", p, denied)
		}
	}
	// A bad token does not fall back to the user of the socket.
	d.wantDenied(onSocket(0, 0), "nonsense", access.Invalid)
}

// brokenTokens cannot be read.
type brokenTokens struct{ *memory.Tokens }

var errBroken = errors.New("the state file cannot be read")

func (brokenTokens) ByID(context.Context, string) (access.Token, error) {
	return access.Token{}, errBroken
}
func (brokenTokens) Any(context.Context) (bool, error) { return false, errBroken }

func TestWhenTheTokensCannotBeReadNobodyIsLetIn(t *testing.T) {
	t.Parallel()
	d := newDoor(t, access.Options{Tokens: brokenTokens{&memory.Tokens{}}})
	_, secret := newToken(t, "ci", access.Admin)
	for range 20 { // which is nobody's fault: it is not counted as a guess
		for _, token := range []string{"", secret} {
			if denied := d.denial(loopback, token, access.Unavailable); !errors.Is(denied, errBroken) || denied.RetryAfter == 0 {
				t.Fatal(denied)
			}
		}
	}
}

// fullTokens can be read but not written.
type fullTokens struct {
	*memory.Tokens
	tries int
}

func (f *fullTokens) Used(context.Context, string, time.Time) error {
	f.tries++
	return errBroken
}

func TestTheUseOfATokenIsWrittenRarelyAndItsFailureHarmsNobody(t *testing.T) {
	t.Parallel()
	full := &fullTokens{Tokens: &memory.Tokens{}}
	d := newDoor(t, access.Options{Tokens: full})
	d.tokens = full.Tokens
	secret := d.token("ci", access.Viewer)
	for range 100 {
		d.wantRole(remote, secret, access.Viewer)
	}
	d.now = now.Add(11 * time.Minute)
	for range 100 {
		d.wantRole(remote, secret, access.Viewer)
	}
	if full.tries != 2 {
		t.Errorf("200 requests in 11 minutes were written %d times, want 2", full.tries)
	}
	written := newDoor(t, access.Options{Tokens: full.Tokens})
	written.wantRole(remote, secret, access.Viewer)
	if all, err := full.List(t.Context()); err != nil || !all[0].LastUsed.Equal(now) {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestGuessesAreSlowedDownMoreAndMore(t *testing.T) {
	t.Parallel()
	d := newDoor(t, access.Options{})
	d.token("ci", access.Admin)
	for range 5 {
		d.wantDenied(remote, "guess", access.Invalid)
	}
	var waits []time.Duration
	for range 7 {
		denied := d.denial(remote, "guess", access.TooMany)
		waits = append(waits, denied.RetryAfter)
		d.now = d.now.Add(denied.RetryAfter - time.Nanosecond)
		d.wantDenied(remote, "guess", access.TooMany) // which does not make it longer
		d.now = d.now.Add(time.Nanosecond)
		d.wantDenied(remote, "guess", access.Invalid)
	}
	if got, want := fmt.Sprint(waits), "[1s 2s 4s 8s 16s 30s 30s]"; got != want {
		t.Errorf("waits %s, want %s", got, want)
	}
}

func TestARightTokenThatWasNotSeenBeforeWaitsWithTheGuesses(t *testing.T) {
	t.Parallel()
	d := newDoor(t, access.Options{})
	secret := d.token("ci", access.Admin)
	for range 5 {
		d.wantDenied(remote, "guess", access.Invalid)
	}
	denied := d.denial(remote, secret, access.TooMany)
	d.now = d.now.Add(denied.RetryAfter)
	d.wantRole(remote, secret, access.Admin) // not for good
}

func TestWhoIsAtWorkIsNotLockedOutByANeighboursGuesses(t *testing.T) {
	t.Parallel()
	d := newDoor(t, access.Options{})
	secret := d.token("ci", access.Admin)
	d.wantRole(remote, secret, access.Admin)
	for range 5 {
		d.wantDenied(remote, "guess", access.Invalid)
	}
	d.wantDenied(remote, "guess", access.TooMany)
	d.wantRole(remote, secret, access.Admin)
	d.wantDenied(remote, "guess", access.TooMany) // and ends nobody's wait
	if err := d.tokens.Revoke(t.Context(), "ci", d.now); err != nil {
		t.Fatal(err)
	}
	d.wantDenied(remote, secret, access.Invalid)
	d.wantDenied(remote, secret, access.TooMany) // it is known as good no longer
}

func TestGuessesAreCountedByAddress(t *testing.T) {
	t.Parallel()
	peer := func(addr string) access.Peer { return access.Peer{Addr: netip.MustParseAddr(addr)} }
	for _, c := range []struct {
		name      string
		from, and access.Peer
		together  bool
	}{
		{"one address", peer("192.0.2.1"), peer("192.0.2.1"), true},
		{"one address, as IPv6 has it", peer("192.0.2.1"), peer("::ffff:192.0.2.1"), true},
		{"two addresses", peer("192.0.2.1"), peer("192.0.2.2"), false},
		{"one IPv6 network", peer("2001:db8::1"), peer("2001:db8::dead:beef"), true},
		{"two IPv6 networks", peer("2001:db8::1"), peer("2001:db8:0:1::1"), false},
		{"one link, two zones", peer("fe80::1%eth0"), peer("fe80::2%eth1"), true},
		{"one user of the socket", onSocket(1, 1), onSocket(1, 2), true},
		{"two users of the socket", onSocket(1, 1), onSocket(2, 1), false},
		{"the socket and loopback", onSocket(1, 1), loopback, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := newDoor(t, access.Options{})
			for range 5 {
				d.wantDenied(c.from, "guess", access.Invalid)
			}
			want := access.Invalid
			if c.together {
				want = access.TooMany
			}
			d.wantDenied(c.and, "guess", want)
		})
	}
}

func TestGuessesFromManyAddressesTakeBoundedMemory(t *testing.T) {
	t.Parallel()
	d := newDoor(t, access.Options{})
	for i := range 10_000 {
		addr := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		d.wantDenied(access.Peer{Addr: addr}, "guess", access.Invalid)
	}
	if n := d.Remembered(); n != access.MaxAddresses {
		t.Errorf("%d addresses are remembered, want %d", n, access.MaxAddresses)
	}
}

func TestGuessesAreForgottenAfterAWhile(t *testing.T) {
	t.Parallel()
	d := newDoor(t, access.Options{})
	for range 5 {
		d.wantDenied(remote, "guess", access.Invalid)
	}
	d.now = d.now.Add(16 * time.Minute)
	for range 5 {
		d.wantDenied(remote, "guess", access.Invalid)
	}
	d.wantDenied(remote, "guess", access.TooMany)
}

func TestAClientCertificateHasTheHighestRoleOfItsNames(t *testing.T) {
	t.Parallel()
	d := newDoor(t, access.Options{Certificates: map[string]access.Role{
		"ci": access.Viewer, "ci.example.com": access.Operator, "spiffe://example.com/ci": access.Admin,
	}})
	spiffe, err := url.Parse("spiffe://example.com/ci")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		cert x509.Certificate
		want access.Principal
	}{
		{x509.Certificate{Subject: pkix.Name{CommonName: "ci"}}, access.Principal{Name: "ci", Role: access.Viewer}},
		{x509.Certificate{Subject: pkix.Name{CommonName: "ci"}, DNSNames: []string{"ci.example.com"}}, access.Principal{Name: "ci.example.com", Role: access.Operator}},
		{x509.Certificate{URIs: []*url.URL{spiffe}}, access.Principal{Name: "spiffe://example.com/ci", Role: access.Admin}},
		{x509.Certificate{Subject: pkix.Name{CommonName: "CI"}}, access.Principal{Name: "CI"}},
		{x509.Certificate{}, access.Principal{}},
	} {
		peer := remote
		peer.Certificate = &c.cert
		c.want.Via = access.ViaCertificate
		if p, denied := d.ask(peer, ""); denied != nil || p != c.want {
			t.Errorf("%+v, %v; want %+v", p, denied, c.want)
		}
	}
	// A token that comes with it is what counts.
	peer := remote
	peer.Certificate = &x509.Certificate{URIs: []*url.URL{spiffe}}
	d.wantRole(peer, d.token("viewer", access.Viewer), access.Viewer)
}

func TestMembersOfAGroupHaveItsRoleOnTheSocket(t *testing.T) {
	t.Parallel()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	group, err := user.LookupGroupId(me.Gid)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.ParseUint(me.Gid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	d := newDoor(t, access.Options{Required: true, Owner: 990, SocketGroups: map[string]access.Role{group.Name: access.Operator}})
	const stranger = 4_000_000_000
	d.wantRole(onSocket(stranger, uint32(gid)), "", access.Operator)
	d.wantDenied(onSocket(stranger, stranger), "", access.Missing)
	member := onSocket(stranger, stranger)
	member.Groups = []uint32{stranger + 1, uint32(gid)}
	d.wantRole(member, "", access.Operator)
}
