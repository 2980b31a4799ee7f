package access

import (
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2"

	"github.com/hyper2kvm/hyper2kvm/internal/safetext"
)

// Bounds of sign-ins at the identity provider.
const (
	// LoginTime is how long a browser may take there.
	LoginTime    = 10 * time.Minute
	maxUsed      = 4096 // sign-ins that are over, remembered so that none counts twice
	maxComplaint = 300  // bytes of what the provider says when it refuses
	attemptName  = 8    // letters of a state that tell attempts of one browser apart
)

// LoginOptions make the daemon a client of the identity provider at which people sign in
// with a browser: by authorization code with PKCE (OpenID Connect Core 1.0, section 3.1;
// RFC 7636).
type LoginOptions struct {
	ClientID string // must be among the aud of ID tokens
	// Secret returns the client's secret; nil is a public client, which has none.
	Secret func(context.Context) (string, error)
	// Refused is told that the provider does not accept the secret; may be nil.
	Refused func()
	// Scopes are asked for beside openid. With offline_access most providers let a
	// session be renewed.
	Scopes []string
}

// client is the daemon as a client of the identity provider. What a browser has to bring
// back is sealed into a cookie of it, so that those who begin to sign in take no memory.
type client struct {
	provider *OIDC
	o        LoginOptions
	http     *http.Client // follows no redirect with a secret
	seal     cipher.AEAD

	mu   sync.Mutex
	used *recent[string, struct{}] // states of sign-ins that are over
}

func newClient(p *OIDC, o LoginOptions) *client {
	var key [32]byte
	_, _ = rand.Read(key[:]) // never fails
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // the key has the right length
	}
	seal, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // AES has the right block size
	}
	c := &client{provider: p, o: o, seal: seal, used: newRecent[string, struct{}](maxUsed)}
	once := *p.keys.client
	once.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.http = &once
	return c
}

// Attempt is a sign-in at the identity provider that a browser has begun.
type Attempt struct {
	URL    string // where the browser goes
	Name   string // tells it from other attempts of the browser
	Sealed string // what the browser has to bring back, in a cookie of its own; only this process can read it
}

// AttemptName is the [Attempt.Name] that an answer of the provider belongs to.
func AttemptName(answer url.Values) string {
	state := one(answer, "state")
	return state[:min(len(state), attemptName)]
}

// attempt is what is sealed of one.
type attempt struct {
	State, Nonce, Verifier string
	Callback, To           string
	Until                  time.Time
}

// begin returns an attempt that ends at callback, a URL of ours, and then leads to to.
// The error is a *[Denied].
func (c *client) begin(ctx context.Context, callback, to string) (Attempt, error) {
	config, err := c.config(ctx, callback)
	if err != nil {
		return Attempt{}, err
	}
	a := attempt{
		State: randomText(), Nonce: randomText(), Verifier: oauth2.GenerateVerifier(),
		Callback: callback, To: to, Until: c.provider.now().Add(LoginTime),
	}
	text, err := json.Marshal(a)
	if err != nil {
		return Attempt{}, err
	}
	return Attempt{
		URL:    config.AuthCodeURL(a.State, oidc.Nonce(a.Nonce), oauth2.S256ChallengeOption(a.Verifier)),
		Name:   a.State[:attemptName],
		Sealed: base64.RawURLEncoding.EncodeToString(c.seal.Seal(nil, nil, text, nil)),
	}, nil
}

// config is what the provider is asked with.
func (c *client) config(ctx context.Context, callback string) (*oauth2.Config, error) {
	issuer, err := c.provider.keys.get(ctx, func([]jose.JSONWebKey) bool { return true })
	if err == nil && (!isSafe(issuer.at.Authorization) || !isSafe(issuer.at.Token)) {
		err = errors.New("authorization_endpoint or token_endpoint of the identity provider is no https URL")
	}
	if err != nil {
		return nil, away(err)
	}
	config := &oauth2.Config{
		ClientID: c.o.ClientID, RedirectURL: callback, Scopes: []string{oidc.ScopeOpenID},
		Endpoint: oauth2.Endpoint{AuthURL: issuer.at.Authorization, TokenURL: issuer.at.Token, AuthStyle: oauth2.AuthStyleInParams},
	}
	for _, scope := range c.o.Scopes {
		if scope != oidc.ScopeOpenID {
			config.Scopes = append(config.Scopes, scope)
		}
	}
	if m := issuer.at.Methods; c.o.Secret != nil && (len(m) == 0 || slices.Contains(m, "client_secret_basic")) {
		config.Endpoint.AuthStyle = oauth2.AuthStyleInHeader
	}
	return config, nil
}

// away is the error when the provider cannot be asked.
func away(err error) *Denied {
	return &Denied{
		Reason: Unavailable, RetryAfter: refetchAfter, Err: err,
		Text: "the identity provider cannot be reached now, or does not answer as it should; the daemon's log says why",
	}
}

// notBegun is the error when the browser does not bring back what it was given.
func notBegun(why string) *Denied {
	return &Denied{
		Reason: Invalid, Err: errors.New(why),
		Text: fmt.Sprintf("this sign-in was not begun by this browser here, is over, or took longer than %d minutes: begin again", LoginTime/time.Minute),
	}
}

// open returns the attempt that an answer of the provider belongs to, with the code in
// it. Each attempt is opened once. The error is a *[Denied].
func (c *client) open(sealed string, answer url.Values) (a attempt, code string, err error) {
	box, err := base64.RawURLEncoding.DecodeString(sealed)
	if err != nil || sealed == "" {
		return a, "", notBegun("the browser has no cookie of this sign-in")
	}
	text, err := c.seal.Open(nil, nil, box, nil)
	if err == nil {
		err = json.Unmarshal(text, &a)
	}
	switch {
	case err != nil:
		return a, "", notBegun("the cookie of this sign-in is not of this process")
	case subtle.ConstantTimeCompare([]byte(one(answer, "state")), []byte(a.State)) == 0:
		return a, "", notBegun("the state is that of another sign-in")
	case !c.provider.now().Before(a.Until):
		return a, "", notBegun("it took too long")
	case !c.take(a.State):
		return a, "", notBegun("the answer came once already")
	case answer.Has("iss") && one(answer, "iss") != c.provider.o.Issuer: // RFC 9207
		return a, "", notBegun("the answer is of another issuer")
	case answer.Has("error"):
		return a, "", refusal(answer)
	}
	if code = one(answer, "code"); code == "" {
		return a, "", notBegun("the answer has no code in it")
	}
	return a, code, nil
}

// one is a value of a query that is there once, or "".
func one(query url.Values, name string) string {
	if len(query[name]) != 1 {
		return ""
	}
	return query[name][0]
}

// take notes that the attempt with that state is over, and reports whether it was not
// before.
func (c *client) take(state string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, over := c.used.get(state); over {
		return false
	}
	c.used.put(state, struct{}{})
	return true
}

// refusal is the error for what the provider says in place of a code (OpenID Connect
// Core 1.0, section 3.1.2.6).
func refusal(answer url.Values) *Denied {
	d := &Denied{Reason: Invalid, Text: "the identity provider has not signed you in: " + complaint(answer.Get("error"), answer.Get("error_description"))}
	switch answer.Get("error") {
	case "server_error", "temporarily_unavailable":
		d.Reason = Unavailable
	}
	return d
}

// complaint is a code of an error and what is said of it, for people and logs, without
// secrets that it may repeat.
func complaint(code, description string, secrets ...string) string {
	text := code
	if description != "" {
		text += ": " + description
	}
	for _, s := range secrets {
		if s != "" {
			text = strings.ReplaceAll(text, s, "(hidden)")
		}
	}
	return safetext.Bounded(text, maxComplaint)
}

// redeem gets an ID token for the code of an attempt, and returns what it says. The error
// is a *[Denied].
func (c *client) redeem(ctx context.Context, a attempt, code string) (*grant, error) {
	g := &grant{client: c, turn: make(chan struct{}, 1)}
	said, err := c.ask(ctx, a.Callback, []string{code, a.Verifier}, func(ctx context.Context, config *oauth2.Config) (*oauth2.Token, error) {
		return config.Exchange(ctx, code, oauth2.VerifierOption(a.Verifier))
	})
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare([]byte(said.token.Nonce), []byte(a.Nonce)) == 0 {
		return nil, notGood(errors.New("the nonce of the ID token is that of another sign-in"))
	}
	g.take(said)
	return g, nil
}

// notGood is the error for an ID token that is not one for us.
func notGood(err error) *Denied {
	return &Denied{Reason: Invalid, Text: "the answer of the identity provider is not valid here; the daemon's log says why", Err: err}
}

// answered is an answer of the provider that was found good.
type answered struct {
	token   *oidc.IDToken
	claims  claims
	refresh string // token for the next one, or ""
}

// ask has the provider asked for an ID token, and verifies that. secrets are what it is
// asked with. The error is a *[Denied].
func (c *client) ask(ctx context.Context, callback string, secrets []string, get func(context.Context, *oauth2.Config) (*oauth2.Token, error)) (answered, error) {
	// A browser that goes away meanwhile does not make a token be lost that is good once.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*fetchTimeout)
	defer cancel()
	config, err := c.config(ctx, callback)
	if err != nil {
		return answered{}, err
	}
	if c.o.Secret != nil {
		if config.ClientSecret, err = c.o.Secret(ctx); err != nil {
			return answered{}, &Denied{
				Reason: Unavailable, Err: fmt.Errorf("client secret: %w", err),
				Text: "the daemon cannot read its client secret for the identity provider; its log says why",
			}
		}
	}
	t, err := get(oidc.ClientContext(ctx, c.http), config)
	if err != nil {
		return answered{}, c.failed(err, append(secrets, config.ClientSecret))
	}
	raw, _ := t.Extra("id_token").(string)
	if raw == "" {
		return answered{}, notGood(errors.New("the answer has no ID token in it"))
	}
	said := answered{refresh: t.RefreshToken}
	said.token, said.claims, err = c.provider.verify(ctx, raw, c.o.ClientID)
	if denied := new(Denied); err != nil && !errors.As(err, &denied) {
		err = notGood(err)
	}
	if err == nil && len(said.token.Audience) > 1 && cmp.Or(said.claims.text("azp"), c.o.ClientID) != c.o.ClientID {
		err = notGood(errors.New("the ID token was made for another client (azp)"))
	}
	return said, err
}

// failed is the error for one of the token endpoint. It holds none of the secrets, and
// nothing of an answer but its error and description (RFC 6749, section 5.2).
func (c *client) failed(err error, secrets []string) *Denied {
	said := new(oauth2.RetrieveError)
	if !errors.As(err, &said) {
		if unreached := new(url.Error); !errors.As(err, &unreached) {
			err = errors.New("the token endpoint of the identity provider answers with what is no token, or not to the end")
		}
		return away(err)
	}
	status := http.StatusBadGateway
	if said.Response != nil {
		status = said.Response.StatusCode
	}
	err = fmt.Errorf("the token endpoint of the identity provider answers HTTP %d, %s", status,
		cmp.Or(complaint(said.ErrorCode, said.ErrorDescription, secrets...), "without an error that is known"))
	switch {
	case said.ErrorCode == "invalid_client", said.ErrorCode == "unauthorized_client", said.ErrorCode == "" && status == http.StatusUnauthorized:
		if c.o.Refused != nil {
			c.o.Refused()
		}
		return &Denied{
			Reason: Unavailable, Err: err,
			Text: "the identity provider does not accept this daemon as its client: access.oidc.sign_in has a wrong client id or secret",
		}
	case said.ErrorCode == "invalid_grant",
		said.ErrorCode != "" && status >= 400 && status < 500 && status != http.StatusTooManyRequests:
		return notGood(err)
	}
	return away(err) // or whatever stands before it
}
