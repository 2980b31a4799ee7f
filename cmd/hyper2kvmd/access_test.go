package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/daemon/config"
)

func TestTheClientSecretIsReadWhenItIsNeededAndMissedAtTheStart(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "secret")
	c := config.OIDC{Audience: "hyper2kvm", SignIn: &config.SignIn{ClientSecretFile: file}}
	var said bytes.Buffer
	log := slog.New(slog.NewTextHandler(&said, nil))
	o := newLogin(t.Context(), c, newSecrets(config.Config{}, os.Getenv, log), log)
	if o.ClientID != "hyper2kvm" || !slices.Equal(o.Scopes, config.DefaultScopes()) {
		t.Errorf("%+v", o)
	}
	if !strings.Contains(said.String(), "nobody can sign in") || !strings.Contains(said.String(), file) {
		t.Errorf("the log says %q", said.String())
	}
	for _, secret := range []string{"first", "rotated"} {
		if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := o.Secret(t.Context()); err != nil || got != secret {
			t.Errorf("%q, %v; want %q", got, err, secret)
		}
	}
	if o := newLogin(t.Context(), config.OIDC{SignIn: &config.SignIn{ClientID: "a", Scopes: []string{"groups"}}}, nil, log); o.Secret != nil || o.ClientID != "a" || !slices.Equal(o.Scopes, []string{"groups"}) {
		t.Errorf("%+v", o)
	}
	if newLogin(t.Context(), config.OIDC{}, nil, log) != nil {
		t.Error("browsers sign in though nothing says so")
	}
}
