package access_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
)

// idp is an identity provider: it has keys, and signs what a test likes.
type idp struct {
	*httptest.Server
	t       *testing.T
	now     time.Time
	fetches atomic.Int32 // of the keys

	mu   sync.Mutex
	keys []jose.JSONWebKey
	// answer, if not nil, answers in place of the provider when it is asked where
	// its keys are.
	answer http.HandlerFunc
	// tokens answers at the token endpoint.
	tokens http.HandlerFunc
}

// rsaKey is one for all tests, because making one takes long.
var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

func ecKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func startIDP(t *testing.T) *idp {
	t.Helper()
	p := &idp{t: t, now: now, keys: []jose.JSONWebKey{{Key: rsaKey(), KeyID: "rsa", Algorithm: "RS256", Use: "sig"}}}
	p.Server = httptest.NewTLSServer(http.HandlerFunc(p.serve))
	t.Cleanup(p.Close)
	return p
}

func (p *idp) serve(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case r.URL.Path == "/token":
		p.tokens(w, r)
	case p.answer != nil && r.URL.Path != "/keys":
		p.answer(w, r)
	case r.URL.Path == "/.well-known/openid-configuration":
		_ = json.NewEncoder(w).Encode(map[string]any{
			"issuer": p.URL, "jwks_uri": p.URL + "/keys", "authorization_endpoint": p.URL + "/auth", "token_endpoint": p.URL + "/token",
			"id_token_signing_alg_values_supported": []string{"RS256", "HS256", "none"},
		})
	case r.URL.Path == "/keys":
		p.fetches.Add(1)
		var set struct {
			Keys []any `json:"keys"`
		}
		set.Keys = append(set.Keys, map[string]string{"kty": "of tomorrow", "kid": "new"}) // which hides no other
		for _, k := range p.keys {
			if public := k.Public(); public.Key != nil {
				k = public
			}
			set.Keys = append(set.Keys, k)
		}
		_ = json.NewEncoder(w).Encode(set)
	default:
		http.NotFound(w, r)
	}
}

// be changes the provider while nobody asks it.
func (p *idp) be(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

// door is one that this provider opens.
func (p *idp) door(change ...func(*access.OIDCOptions)) *door {
	p.t.Helper()
	var d *door
	o := access.OIDCOptions{
		Issuer: p.URL, Audience: "hyper2kvm", Client: p.Client(),
		Roles: map[string]access.Role{"exporters": access.Operator, "platform": access.Admin, "auditors": access.Viewer},
		Now:   func() time.Time { return d.now },
	}
	for _, f := range change {
		f(&o)
	}
	d = newDoor(p.t, access.Options{OIDC: access.NewOIDC(o)})
	return d
}

// claims are those of a good token, changed as a test says; nil removes one.
func (p *idp) claims(change map[string]any) map[string]any {
	c := map[string]any{
		"iss": p.URL, "aud": "hyper2kvm", "sub": "42", "preferred_username": "alice", "groups": []string{"staff", "exporters"},
		"exp": p.now.Add(time.Hour).Unix(), "iat": p.now.Unix(),
	}
	for k, v := range change {
		if c[k] = v; v == nil {
			delete(c, k)
		}
	}
	return c
}

// sign signs claims with a key.
func sign(t *testing.T, alg jose.SignatureAlgorithm, key any, kid string, claims map[string]any) string {
	t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: kid}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := s.Sign(body)
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// token is a good one, but for the claims that change.
func (p *idp) token(change map[string]any) string {
	p.t.Helper()
	return sign(p.t, jose.RS256, rsaKey(), "rsa", p.claims(change))
}

func TestATokenOfTheProviderGivesTheHighestRoleOfItsGroups(t *testing.T) {
	t.Parallel()
	p := startIDP(t)
	for _, c := range []struct {
		name   string
		change map[string]any
		claim  string
		want   access.Principal
	}{
		{"a list", nil, "", access.Principal{Name: "alice (42)", Role: access.Operator}},
		{"several", map[string]any{"groups": []string{"auditors", "platform", "exporters"}}, "", access.Principal{Name: "alice (42)", Role: access.Admin}},
		{"one text", map[string]any{"groups": "auditors"}, "", access.Principal{Name: "alice (42)", Role: access.Viewer}},
		{"none that counts", map[string]any{"groups": []string{"staff", "Platform", "platform "}}, "", access.Principal{Name: "alice (42)"}},
		{"no claim", map[string]any{"groups": nil}, "", access.Principal{Name: "alice (42)"}},
		{"something else in the claim", map[string]any{"groups": []any{1, nil, map[string]any{"platform": true}, "auditors"}}, "", access.Principal{Name: "alice (42)", Role: access.Viewer}},
		{"an object as the claim", map[string]any{"groups": map[string]any{"platform": true}}, "", access.Principal{Name: "alice (42)"}},
		{"a path", map[string]any{"realm_access": map[string]any{"roles": []string{"platform"}}}, "realm_access.roles", access.Principal{Name: "alice (42)", Role: access.Admin}},
		{"a path to nowhere", map[string]any{"realm_access": "platform"}, "realm_access.roles", access.Principal{Name: "alice (42)"}},
		{"a name that is a URL", map[string]any{"https://example.com/roles": "platform"}, "https://example.com/roles", access.Principal{Name: "alice (42)", Role: access.Admin}},
		{"without a name, with an address", map[string]any{"preferred_username": nil, "email": "a@example.com"}, "", access.Principal{Name: "a@example.com (42)", Role: access.Operator}},
		{"with the subject alone", map[string]any{"preferred_username": nil}, "", access.Principal{Name: "42", Role: access.Operator}},
		{"among several audiences", map[string]any{"aud": []string{"other", "hyper2kvm"}}, "", access.Principal{Name: "alice (42)", Role: access.Operator}},
		{"expired less than a minute ago", map[string]any{"exp": now.Add(-59 * time.Second).Unix()}, "", access.Principal{Name: "alice (42)", Role: access.Operator}},
		{"valid in less than a minute", map[string]any{"nbf": now.Add(59 * time.Second).Unix()}, "", access.Principal{Name: "alice (42)", Role: access.Operator}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := p.door(func(o *access.OIDCOptions) { o.RoleClaim = c.claim })
			c.want.Via = access.ViaOIDC
			if got, denied := d.ask(remote, p.token(c.change)); denied != nil || got != c.want {
				t.Errorf("%+v, %v; want %+v", got, denied, c.want)
			}
		})
	}
}

// unsigned makes a token of parts, whatever they are.
func unsigned(header string, claims map[string]any, signature []byte) string {
	body, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	enc := base64.RawURLEncoding.EncodeToString
	return enc([]byte(header)) + "." + enc(body) + "." + enc(signature)
}

func TestATokenThatTheProviderDidNotSignForUsIsRefused(t *testing.T) {
	t.Parallel()
	p := startIDP(t)
	shared := []byte("a secret that the provider gives to everybody")
	p.be(func() { p.keys = append(p.keys, jose.JSONWebKey{Key: shared, KeyID: "shared"}) })
	der, err := x509.MarshalPKIXPublicKey(rsaKey().Public())
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	stranger := ecKey(t)
	embedded := func() string { // with the key to check it by in its own header
		s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: stranger}, &jose.SignerOptions{EmbedJWK: true})
		if err != nil {
			t.Fatal(err)
		}
		body, err := json.Marshal(p.claims(nil))
		if err != nil {
			t.Fatal(err)
		}
		signed, err := s.Sign(body)
		if err != nil {
			t.Fatal(err)
		}
		token, err := signed.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	good := strings.Split(p.token(nil), ".")
	forged := strings.Split(p.token(map[string]any{"groups": "platform"}), ".")
	for name, token := range map[string]string{
		"signed by a stranger, with the provider's key id": sign(t, jose.ES256, stranger, "rsa", p.claims(nil)),
		"signed by a stranger, without a key id":           sign(t, jose.ES256, stranger, "", p.claims(nil)),
		"signed by a key that it brings along":             embedded(),
		"alg none":                                         unsigned(`{"alg":"none","kid":"rsa"}`, p.claims(nil), nil),
		"alg None":                                         unsigned(`{"alg":"None"}`, p.claims(nil), nil),
		"no alg":                                           unsigned(`{"kid":"rsa"}`, p.claims(nil), nil),
		"HS256 with the public key, PEM":                   sign(t, jose.HS256, public, "rsa", p.claims(nil)),
		"HS256 with the public key, DER":                   sign(t, jose.HS256, der, "rsa", p.claims(nil)),
		"HS256 with a key that is public":                  sign(t, jose.HS256, shared, "shared", p.claims(nil)),
		"without its signature":                            good[0] + "." + good[1] + ".",
		"with the signature of another":                    forged[0] + "." + forged[1] + "." + good[2],
		"nonsense":                                         "a.b.c",
		"empty parts":                                      "..",
		"for another service":                              p.token(map[string]any{"aud": "grafana"}),
		"for no service":                                   p.token(map[string]any{"aud": nil}),
		"for services, ours not among them":                p.token(map[string]any{"aud": []string{"a", "hyper2kvm2"}}),
		"of another issuer":                                p.token(map[string]any{"iss": "https://idp.example.com"}),
		"of an issuer but for a slash":                     p.token(map[string]any{"iss": p.URL + "/"}),
		"of no issuer":                                     p.token(map[string]any{"iss": nil}),
		"expired":                                          p.token(map[string]any{"exp": now.Add(-time.Minute).Unix()}),
		"without an expiry":                                p.token(map[string]any{"exp": nil}),
		"with an expiry of zero":                           p.token(map[string]any{"exp": 0}),
		"not yet valid":                                    p.token(map[string]any{"nbf": now.Add(61 * time.Second).Unix()}),
		"not valid at any time":                            p.token(map[string]any{"nbf": "tomorrow"}),
		"issued in the future":                             p.token(map[string]any{"iat": now.Add(2 * time.Minute).Unix()}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := p.door()
			denied := d.denial(remote, token, access.Invalid)
			if strings.Contains(denied.Text, "aud") || strings.Contains(denied.Text, "oidc") || denied.Err == nil {
				t.Errorf("told %q, logged %v", denied.Text, denied.Err)
			}
			d.wantRole(remote, p.token(nil), access.Operator)
		})
	}
}

func TestTokensOfThisDaemonAreGoodBesideAProvider(t *testing.T) {
	t.Parallel()
	p := startIDP(t)
	d := p.door()
	d.wantRole(remote, d.token("ci", access.Viewer), access.Viewer)
	if n := p.fetches.Load(); n != 0 {
		t.Errorf("the provider was asked %d times", n)
	}
}

func TestUnknownKeysAreAskedForRarely(t *testing.T) {
	t.Parallel()
	p := startIDP(t)
	d := p.door()
	d.wantRole(remote, p.token(nil), access.Operator)
	next := ecKey(t)
	rotated := func() string { return sign(t, jose.ES256, next, "next", p.claims(nil)) }
	p.be(func() { p.keys = append(p.keys, jose.JSONWebKey{Key: next, KeyID: "next"}) })
	ask := func(i int, token string) (access.Principal, *access.Denied) {
		peer := remote // another one each time, so that guesses are not slowed down
		peer.Addr = peer.Addr.Next()
		for range i {
			peer.Addr = peer.Addr.Next()
		}
		return d.ask(peer, token)
	}
	for i := range 50 {
		if _, denied := ask(i, sign(t, jose.ES256, next, fmt.Sprint("made up ", i), p.claims(nil))); denied == nil || denied.Reason != access.Invalid {
			t.Fatal(denied)
		}
	}
	if n := p.fetches.Load(); n != 1 {
		t.Errorf("50 made-up keys made the daemon ask %d times, want 1", n)
	}
	d.now = d.now.Add(access.RefetchAfter)
	if _, denied := ask(99, rotated()); denied != nil {
		t.Errorf("a key that is new at the provider: %v", denied)
	}
	if n := p.fetches.Load(); n != 2 {
		t.Errorf("the provider was asked %d times, want 2", n)
	}
}

func TestAKeyThatTheProviderHasWithdrawnIsGoodNoLonger(t *testing.T) {
	t.Parallel()
	p := startIDP(t)
	d := p.door()
	d.wantRole(remote, p.token(nil), access.Operator)
	p.be(func() { p.keys = []jose.JSONWebKey{{Key: ecKey(t), KeyID: "next"}} })
	d.now = d.now.Add(16 * time.Minute)
	d.wantDenied(remote, p.token(nil), access.Invalid)
}

func TestAProviderThatIsAwayLetsNobodyIn(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]http.HandlerFunc{
		"an error":         func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) },
		"a cut connection": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"nonsense":         func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") },
		"another issuer":   func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"issuer":"https://example.com"}`) },
		"redirects in a circle": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/.well-known/openid-configuration", http.StatusFound)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startIDP(t)
			p.Config.ErrorLog = nil
			p.be(func() { p.answer = answer })
			d := p.door()
			denied := d.denial(remote, p.token(nil), access.Unavailable)
			if denied.RetryAfter <= 0 || denied.Err == nil {
				t.Errorf("%+v", denied)
			}
			p.be(func() { p.answer = nil })
			d.wantDenied(remote, p.token(nil), access.Unavailable) // it is not asked at once again
			d.now = d.now.Add(denied.RetryAfter)
			d.wantRole(remote, p.token(nil), access.Operator)
		})
	}
	t.Run("an endless answer", func(t *testing.T) {
		t.Parallel()
		p := startIDP(t)
		var served atomic.Int64
		p.be(func() { p.answer = endless(&served) })
		p.door().wantDenied(remote, p.token(nil), access.Unavailable)
		p.Close() // when the answer has ended
		if n := served.Load(); n > 16<<20 {
			t.Errorf("%d bytes were taken", n)
		}
	})
	t.Run("a redirect to where there is no TLS", func(t *testing.T) {
		t.Parallel()
		p := startIDP(t)
		plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, p.URL, p.URL+"/keys")
		}))
		defer plain.Close()
		p.be(func() { p.answer = http.RedirectHandler(plain.URL, http.StatusFound).ServeHTTP })
		p.door().wantDenied(remote, p.token(nil), access.Unavailable)
	})
	t.Run("nobody listens", func(t *testing.T) {
		t.Parallel()
		p := startIDP(t)
		d := p.door()
		p.Close()
		for range 20 { // which nobody is to blame for
			d.wantDenied(remote, p.token(nil), access.Unavailable)
		}
		d.wantDenied(loopback, "", access.Missing)
		d.wantRole(remote, d.token("ci", access.Admin), access.Admin)
	})
	t.Run("its certificate is not trusted", func(t *testing.T) {
		t.Parallel()
		p := startIDP(t)
		p.door(func(o *access.OIDCOptions) { o.Client = nil }).wantDenied(remote, p.token(nil), access.Unavailable)
	})
	t.Run("its keys are elsewhere, without TLS", func(t *testing.T) {
		t.Parallel()
		p := startIDP(t)
		p.be(func() {
			p.answer = func(w http.ResponseWriter, _ *http.Request) {
				fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":"http://idp.example.com/keys"}`, p.URL)
			}
		})
		p.door().wantDenied(remote, p.token(nil), access.Unavailable)
	})
}

// endless is an answer that never ends, and counts its bytes.
func endless(served *atomic.Int64) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"issuer":"`)
		for r.Context().Err() == nil {
			n, err := w.Write(make([]byte, 64<<10))
			if served.Add(int64(n)); err != nil {
				return
			}
		}
	}
}

func TestKnownKeysOutliveAnOutageOfTheProvider(t *testing.T) {
	t.Parallel()
	p := startIDP(t)
	d := p.door()
	long := p.token(map[string]any{"exp": now.Add(48 * time.Hour).Unix()})
	d.wantRole(remote, long, access.Operator)
	p.be(func() { p.answer = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) } })
	d.now = now.Add(23 * time.Hour)
	d.wantRole(remote, long, access.Operator)
	d.now = now.Add(24 * time.Hour)
	d.wantDenied(remote, long, access.Unavailable)
}

func TestAnIssuerIsReachedByTLSOrOnLoopback(t *testing.T) {
	t.Parallel()
	for issuer, good := range map[string]bool{
		"https://idp.example.com": true, "https://idp.example.com/realms/prod": true, "http://127.0.0.1:5556/dex": true, "http://[::1]:5556": true,
		"http://idp.example.com": false, "http://localhost:5556": false, "http://127.0.0.1.example.com": false, "idp.example.com": false, "": false,
		"https://": false, "ldap://127.0.0.1": false, "https://u:p@idp.example.com": false, "https://idp.example.com/?a=b": false,
		"https://idp.example.com/#a": false, "https:idp.example.com": false, "http://0.0.0.0": false,
	} {
		if err := access.CheckIssuer(issuer); (err == nil) != good {
			t.Errorf("%q: %v", issuer, err)
		}
	}
}
