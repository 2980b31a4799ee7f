package access

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"golang.org/x/sync/singleflight"

	"github.com/hyper2kvm/hyper2kvm/internal/panics"
)

// How an identity provider is asked for its keys.
const (
	refetchAfter = 10 * time.Second // at the earliest, whatever tokens name
	freshFor     = 15 * time.Minute // then they are asked for again, for those that were withdrawn
	staleAfter   = 24 * time.Hour   // and used no longer when that fails
	fetchTimeout = 10 * time.Second
	maxDocument  = 1 << 20 // bytes
)

// known is what an issuer has said of itself.
type known struct {
	keys []jose.JSONWebKey // that it signs with
	at   discovery
}

// discovery is what is used of an issuer's discovery document (OpenID Connect
// Discovery 1.0, section 3).
type discovery struct {
	Keys          string   `json:"jwks_uri"`
	Authorization string   `json:"authorization_endpoint"`
	Token         string   `json:"token_endpoint"`
	Methods       []string `json:"token_endpoint_auth_methods_supported"`
}

// issuerKeys are the keys that an issuer signs with, and where it is asked for tokens.
type issuerKeys struct {
	issuer string
	client *http.Client
	now    func() time.Time
	flight singleflight.Group

	mu      sync.Mutex
	known   known
	fetched time.Time // when it was
	tried   time.Time // when it was asked for last
	failure error     // of the last try
}

func newIssuerKeys(issuer string, client *http.Client, now func() time.Time) *issuerKeys {
	if client == nil {
		client = http.DefaultClient
	}
	c := *client
	c.Transport = bounded{c.Transport}
	c.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if len(via) > 3 || req.URL.Scheme != via[0].URL.Scheme {
			return errors.New("too many redirects, or one to another scheme")
		}
		return nil
	}
	return &issuerKeys{issuer: issuer, client: &c, now: now}
}

// get returns what is known of the issuer, after asking again when that is old or its
// keys are not enough. Who can do without the answer does not wait for one that another
// has asked for.
func (k *issuerKeys) get(ctx context.Context, enough func([]jose.JSONWebKey) bool) (known, error) {
	k.mu.Lock()
	now := k.now()
	usable := now.Sub(k.fetched) < staleAfter && enough(k.known.keys)
	due := now.Sub(k.fetched) >= freshFor && now.Sub(k.tried) >= refetchAfter
	k.mu.Unlock()
	if due || !usable {
		// Who asks while a fetch is under way waits for that one. It goes on when
		// who began it has gone.
		select {
		case <-k.flight.DoChan("", func() (any, error) { k.fetch(context.WithoutCancel(ctx)); return nil, nil }):
		case <-ctx.Done():
			return known{}, ctx.Err()
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.now().Sub(k.fetched) >= staleAfter {
		return known{}, cmp.Or(k.failure, errors.New("what is known of the identity provider is too old"))
	}
	return k.known, nil
}

// fetch asks the issuer, unless that was done a moment ago.
func (k *issuerKeys) fetch(ctx context.Context) {
	k.mu.Lock()
	early := k.now().Sub(k.tried) < refetchAfter
	if !early {
		k.tried = k.now()
	}
	k.mu.Unlock()
	if early {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	var said known
	err := panics.Catch(func() (err error) { said, err = k.download(ctx); return err })
	if caught := new(panics.Error); errors.As(err, &caught) {
		err = fmt.Errorf("what identity provider %s answers cannot be handled: %v at %s", k.issuer, caught.Value, caught.At)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tried = k.now() // it may have taken its time, which is not to be waited for by everybody in turn
	if k.failure = err; err == nil {
		k.known, k.fetched = said, k.now()
	}
}

// download reads the issuer's discovery document, and the keys that it names.
func (k *issuerKeys) download(ctx context.Context) (said known, err error) {
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, k.client), k.issuer)
	if err == nil {
		err = provider.Claims(&said.at)
	}
	if err != nil {
		return known{}, fmt.Errorf("identity provider %s: %w", k.issuer, err)
	}
	set, err := k.set(ctx, said.at.Keys)
	if err != nil {
		return known{}, fmt.Errorf("keys of identity provider %s: %w", k.issuer, err)
	}
	for _, key := range set.Keys {
		if key.Valid() && key.IsPublic() && (key.Use == "" || key.Use == "sig") {
			said.keys = append(said.keys, key)
		}
	}
	if len(said.keys) == 0 {
		return known{}, fmt.Errorf("keys of identity provider %s: there is none to check signatures with", k.issuer)
	}
	return said, nil
}

// set reads a JSON Web Key Set (RFC 7517).
func (k *issuerKeys) set(ctx context.Context, address string) (jose.JSONWebKeySet, error) {
	if !isSafe(address) {
		return jose.JSONWebKeySet{}, errors.New("jwks_uri is no https URL")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return jose.JSONWebKeySet{}, err
	}
	resp, err := k.client.Do(req)
	if err != nil {
		return jose.JSONWebKeySet{}, err
	}
	defer resp.Body.Close() // only read
	if resp.StatusCode != http.StatusOK {
		return jose.JSONWebKeySet{}, fmt.Errorf("HTTP %d", resp.StatusCode)
	}
	// One key of a kind that is not known here must not hide the others.
	var raw struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&raw); err != nil {
		return jose.JSONWebKeySet{}, fmt.Errorf("decode: %w", err)
	}
	var set jose.JSONWebKeySet
	for _, one := range raw.Keys {
		var key jose.JSONWebKey
		if key.UnmarshalJSON(one) == nil {
			set.Keys = append(set.Keys, key)
		}
	}
	return set, nil
}

// bounded is a transport whose answers end after maxDocument.
type bounded struct{ base http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	base := b.base
	if base == nil {
		base = http.DefaultTransport
	}
	resp, err := base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, maxDocument), resp.Body}
	return resp, nil
}
