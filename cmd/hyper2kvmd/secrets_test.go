package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/config"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

func TestACommandIsAskedAnewForAPasswordThatTheVCenterRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	vault, command := filepath.Join(dir, "vault"), filepath.Join(dir, "get")
	write := func(path, text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	write(vault, "old", 0o600)
	write(command, "#!/bin/sh\ncat "+vault+"\n", 0o700)
	synctest.Test(t, func(t *testing.T) {
		c := config.Config{VCenters: map[string]config.VCenter{"lab": {
			URL: "https://vc.example.com/sdk", Username: "svc", PasswordCommand: []string{command}, PasswordTTL: config.Duration(24 * time.Hour),
		}}}
		getenv := func(string) string { return "" }
		v := vcenters{config: c, getenv: getenv, logins: newLogins(), secrets: newSecrets(c, getenv, nil), log: slog.New(slog.DiscardHandler)}
		login := func(accepted string) (string, error) {
			t.Helper()
			cfg, err := v.named("")
			if err != nil {
				t.Fatal(err)
			}
			return cfg.Password, cfg.Gate(t.Context(), func(context.Context) error {
				if cfg.Password != accepted {
					return &vsphere.Error{Op: "log in", Kind: vsphere.ErrLogin, Err: errors.New("incorrect password")}
				}
				return nil
			})
		}
		if got, err := login("old"); got != "old" || err != nil {
			t.Fatalf("%q, %v", got, err)
		}
		write(vault, "new", 0o600)
		time.Sleep(time.Hour)
		if got, err := login("new"); got != "old" || !errors.Is(err, vsphere.ErrLogin) {
			t.Errorf("an answer that is still good: %q, %v", got, err)
		}
		if got, err := login("new"); got != "new" || err != nil {
			t.Errorf("after the refusal: %q, %v", got, err)
		}
		time.Sleep(23 * time.Hour)
		if got, err := login("new"); got != "new" || err != nil {
			t.Errorf("a day later: %q, %v", got, err)
		}
	})
}
