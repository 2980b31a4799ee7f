package access

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/oauth2"
)

// grant is what the identity provider has said of somebody who has signed in there, for
// as long as its ID token is valid. Then it is asked for another, when it has given a
// refresh token (OpenID Connect Core 1.0, section 12), so that who was removed there, or
// has another role, is so here as well. Without one the grant ends.
type grant struct {
	client *client

	turn    chan struct{} // holds a token while somebody uses what follows
	subject string
	who     Principal
	missing bool // the claim of roles is not in the token
	until   time.Time
	refresh string
	trouble *Denied // why the provider could not be asked
	again   time.Time
}

// take takes what the provider has said.
func (g *grant) take(said answered) {
	g.subject, g.until = said.token.Subject, said.token.Expiry
	g.who = g.client.provider.principal(g.subject, said.claims)
	g.missing = said.claims.find(g.client.provider.o.RoleClaim) == nil
	g.refresh, g.trouble = said.refresh, nil
}

// identify returns who it is of. The error is a *[Denied].
func (g *grant) identify(ctx context.Context) (Principal, error) {
	select {
	case g.turn <- struct{}{}:
		defer func() { <-g.turn }()
	case <-ctx.Done():
		return Principal{}, away(ctx.Err())
	}
	now := g.client.provider.now()
	switch {
	case now.Before(g.until):
		return g.who, nil
	case g.refresh == "":
		return Principal{}, &Denied{Reason: Invalid, Text: "the identity provider vouched for you until " + g.until.UTC().Format(time.RFC3339) + ": sign in again"}
	case g.trouble != nil && now.Before(g.again):
		return Principal{}, g.trouble
	}
	said, err := g.client.ask(ctx, "", []string{g.refresh}, func(ctx context.Context, config *oauth2.Config) (*oauth2.Token, error) {
		return config.TokenSource(ctx, &oauth2.Token{RefreshToken: g.refresh}).Token()
	})
	if err == nil && said.token.Subject != g.subject {
		err = notGood(fmt.Errorf("the new ID token is of %q", said.token.Subject))
	}
	if denied := new(Denied); errors.As(err, &denied) {
		g.trouble, g.again = denied, g.client.provider.now().Add(refetchAfter) // those who have waited for this do not wait again
		return Principal{}, err
	}
	g.take(said)
	return g.who, nil
}
