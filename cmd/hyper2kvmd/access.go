package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/audit"
	"github.com/hyper2kvm/hyper2kvm/daemon/config"
	"github.com/hyper2kvm/hyper2kvm/daemon/secret"
	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
	"github.com/hyper2kvm/hyper2kvm/internal/version"
)

// newAccess returns what finds out who asks, and warns when nothing does.
func newAccess(ctx context.Context, s settings, tokens access.TokenReader, secrets *secret.Reader, log *slog.Logger) (*access.Authenticator, error) {
	c := s.config.Access
	o := access.Options{Tokens: tokens, Certificates: s.config.Listen.Roles(), Required: c.Required, Logger: log}
	if uid := os.Getuid(); uid > 0 {
		o.Owner = uint32(uid) //nolint:gosec // user ids are of 32 bits
	}
	var err error
	if o.SocketGroups, err = config.Roles(c.SocketGroups); err != nil {
		return nil, cliargs.UsageError{Err: fmt.Errorf("access.socket_groups: %w", err)}
	}
	if c.OIDC.Issuer != "" {
		if o.OIDC, err = newOIDC(ctx, c.OIDC, secrets, log); err != nil {
			return nil, cliargs.UsageError{Err: fmt.Errorf("access.oidc: %w", err)}
		}
	}
	a := access.New(o)
	configured, err := a.Configured(ctx)
	if err != nil {
		return nil, err
	}
	if !configured {
		log.Warn("whoever is on this machine may use the daemon as its administrator; make a token with hyper2kvmd token create to change that")
	}
	return a, nil
}

// newOIDC returns what takes tokens of the configured identity provider, and has browsers
// sign in there.
func newOIDC(ctx context.Context, c config.OIDC, secrets *secret.Reader, log *slog.Logger) (*access.OIDC, error) {
	roles, err := config.Roles(c.Roles)
	if err != nil {
		return nil, fmt.Errorf("roles: %w", err)
	}
	cas, err := c.CAs()
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: cas, MinVersion: tls.VersionTLS12}
	return access.NewOIDC(access.OIDCOptions{
		Issuer: c.Issuer, Audience: c.Audience, RoleClaim: c.RoleClaim, Roles: roles,
		Client: &http.Client{Transport: transport}, Login: newLogin(ctx, c, secrets, log),
	}), nil
}

// newLogin returns the daemon as a client of the identity provider; nil when it is none.
// A secret that cannot be read is read again when somebody signs in.
func newLogin(ctx context.Context, c config.OIDC, secrets *secret.Reader, log *slog.Logger) *access.LoginOptions {
	s := c.SignIn
	if s == nil {
		return nil
	}
	o := &access.LoginOptions{ClientID: cmp.Or(s.ClientID, c.Audience), Scopes: s.Scopes}
	if o.Scopes == nil {
		o.Scopes = config.DefaultScopes()
	}
	source := s.SecretSource()
	if source.Set() == 0 {
		return o
	}
	o.Secret = func(ctx context.Context) (string, error) { return secrets.Read(ctx, source) }
	o.Refused = func() { secrets.Refused(source) }
	if len(source.Command) == 0 {
		if _, err := o.Secret(ctx); err != nil {
			log.Warn("nobody can sign in at the identity provider until this is mended", "client_secret", err)
		}
	}
	return o
}

// auditTimeout bounds how long the end of the daemon may take to be written to
// the audit log.
const auditTimeout = 5 * time.Second

// auditStart writes into the audit log that the daemon has started. ended writes
// how it ended.
func auditStart(ctx context.Context, l *audit.Log, log *slog.Logger) (ended func(error), err error) {
	e := audit.Entry{Action: audit.DaemonStart, From: fmt.Sprintf("uid %d, pid %d", os.Getuid(), os.Getpid()), Value: version.String()}
	if _, err := l.Begin(asDaemon(ctx), e); err != nil {
		return nil, err
	}
	return func(end error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditTimeout)
		defer cancel()
		e.Action, e.Error = audit.DaemonStop, textOf(end)
		if _, err := l.Begin(asDaemon(ctx), e); err != nil {
			log.Error("the end of the daemon could not be written to the audit log", "error", err)
		}
	}, nil
}
