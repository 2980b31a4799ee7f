package access

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
)

// maxSkew is how far the clocks of the daemon and of an identity provider may be
// apart.
const maxSkew = time.Minute

// signing are the algorithms that a token may be signed with: none of those whose
// key both sides know, and not "none".
var signing = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512,
	jose.PS256, jose.PS384, jose.PS512,
	jose.ES256, jose.ES384, jose.ES512,
	jose.EdDSA,
}

// OIDCOptions say whose tokens are taken, and for what.
type OIDCOptions struct {
	Issuer    string // URL, as it is in the tokens' iss
	Audience  string // must be among the tokens' aud
	RoleClaim string // name of the claim that Roles are for; "" means groups

	// Roles gives roles to values of the claim, which is a text or a list of
	// texts; of several, the highest counts.
	Roles map[string]Role

	Login *LoginOptions // nil: nobody signs in there with a browser

	Client *http.Client     // nil is one with the system's CAs
	Now    func() time.Time // nil is time.Now
}

// OIDC takes bearer tokens that an identity provider has signed (OpenID Connect
// Core 1.0, section 2), and lets browsers sign in there (see [LoginOptions]). The
// provider is asked for its keys when they are needed first, and again when they are
// old or a token names another one, but never more often than every refetchAfter. As
// long as it cannot be reached, and its keys are not known, nobody is let in by a token
// of it.
type OIDC struct {
	o        OIDCOptions
	now      func() time.Time
	keys     *issuerKeys
	verifier oidc.Config
	client   *client // nil without [OIDCOptions.Login]
}

// NewOIDC returns an OIDC. Nothing is asked of the provider yet.
func NewOIDC(o OIDCOptions) *OIDC {
	o.RoleClaim = cmp.Or(o.RoleClaim, "groups")
	if o.Now == nil {
		o.Now = time.Now
	}
	p := &OIDC{o: o, now: o.Now, keys: newIssuerKeys(o.Issuer, o.Client, o.Now)}
	p.verifier = oidc.Config{SkipExpiryCheck: true} // times are checked here, with maxSkew
	for _, alg := range signing {
		p.verifier.SupportedSigningAlgs = append(p.verifier.SupportedSigningAlgs, string(alg))
	}
	if o.Login != nil {
		p.client = newClient(p, *o.Login)
	}
	return p
}

// identify returns who a token is of. The error is a *[Denied].
func (p *OIDC) identify(ctx context.Context, token string) (Principal, error) {
	t, c, err := p.verify(ctx, token, p.o.Audience)
	if denied := new(Denied); errors.As(err, &denied) {
		return Principal{}, err
	}
	if err != nil {
		return Principal{}, &Denied{Reason: Invalid, Text: "the token of the identity provider is not valid here", Err: err}
	}
	return p.principal(t.Subject, c), nil
}

// verify returns what a token for an audience says, or why it is not good: a *[Denied]
// when it cannot be judged now.
func (p *OIDC) verify(ctx context.Context, token, audience string) (*oidc.IDToken, claims, error) {
	set, config := &keySet{keys: p.keys}, p.verifier
	config.ClientID = audience
	t, err := oidc.NewVerifier(p.o.Issuer, set, &config).Verify(ctx, token)
	if away := set.away; away != nil {
		return nil, nil, &Denied{
			Reason: Unavailable, RetryAfter: refetchAfter, Err: away,
			Text: "the identity provider cannot be asked for its keys now, so that no token of it can be judged",
		}
	}
	var c claims
	if err == nil {
		err = t.Claims(&c)
	}
	if err == nil {
		err = p.checkTimes(t, c)
	}
	return t, c, err
}

// principal is who the claims are about, with the role that they give.
func (p *OIDC) principal(subject string, c claims) Principal {
	who := Principal{Name: c.name(subject), Via: ViaOIDC}
	for _, value := range c.values(p.o.RoleClaim) {
		who.Role = max(who.Role, p.o.Roles[value])
	}
	return who
}

// checkTimes looks at exp, nbf and iat.
func (p *OIDC) checkTimes(t *oidc.IDToken, c claims) error {
	now := p.now()
	early := now.Add(maxSkew)
	switch {
	case t.Expiry.Unix() <= 0:
		return errors.New("the token has no exp")
	case !now.Add(-maxSkew).Before(t.Expiry):
		return fmt.Errorf("the token expired at %s", t.Expiry.UTC().Format(time.RFC3339))
	case t.IssuedAt.After(early):
		return fmt.Errorf("the token was issued in the future, at %s", t.IssuedAt.UTC().Format(time.RFC3339))
	}
	var notBefore float64
	if raw, ok := c["nbf"]; ok {
		if err := json.Unmarshal(raw, &notBefore); err != nil {
			return errors.New("nbf is no time")
		}
		if notBefore > float64(early.Unix()) {
			return errors.New("the token is not valid yet")
		}
	}
	return nil
}

// claims are what a token says, each as it was written.
type claims map[string]json.RawMessage

// text returns the claim of that name when it is a text.
func (c claims) text(name string) string {
	var s string
	if json.Unmarshal(c[name], &s) != nil {
		return ""
	}
	return s
}

// name is how the log calls the holder. The subject is what the provider
// guarantees, the other is what people know, and may often be chosen by them.
func (c claims) name(subject string) string {
	known := cmp.Or(c.text("preferred_username"), c.text("email"))
	if known == "" || known == subject {
		return subject
	}
	return known + " (" + subject + ")"
}

// find returns a claim, nil when it is not there. A name with dots that is no claim
// itself is a path into objects: realm_access.roles.
func (c claims) find(name string) json.RawMessage {
	raw, ok := c[name]
	for !ok {
		outer, rest, nested := strings.Cut(name, ".")
		if !nested {
			return nil
		}
		var inner claims
		if json.Unmarshal(c[outer], &inner) != nil {
			return nil
		}
		c, name = inner, rest
		raw, ok = c[name]
	}
	return raw
}

// values returns the texts of what find finds, which is one text or a list.
func (c claims) values(name string) []string {
	raw := c.find(name)
	if raw == nil {
		return nil
	}
	var list []any
	if json.Unmarshal(raw, &list) != nil {
		var one any
		_ = json.Unmarshal(raw, &one) // it was decoded before
		list = []any{one}
	}
	var texts []string
	for _, v := range list {
		if s, ok := v.(string); ok {
			texts = append(texts, s)
		}
	}
	return texts
}

// keySet is the provider's keys for one token.
type keySet struct {
	keys *issuerKeys
	away error // why there were no keys to judge the token with
}

// VerifySignature implements [oidc.KeySet].
func (s *keySet) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	signed, err := jose.ParseSigned(token, signing)
	if err != nil {
		return nil, err
	}
	if len(signed.Signatures) != 1 {
		return nil, errors.New("want one signature")
	}
	id := signed.Signatures[0].Header.KeyID
	issuer, err := s.keys.get(ctx, func(known []jose.JSONWebKey) bool {
		return id == "" || slices.ContainsFunc(known, func(k jose.JSONWebKey) bool { return k.KeyID == id })
	})
	if err != nil {
		s.away = err
		return nil, err
	}
	for _, k := range issuer.keys {
		if id != "" && k.KeyID != id {
			continue
		}
		if payload, err := signed.Verify(&k); err == nil {
			return payload, nil
		}
	}
	return nil, errors.New("no key of the provider has signed the token")
}
