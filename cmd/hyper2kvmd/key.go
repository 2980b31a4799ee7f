package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/daemon/audit"
	"github.com/hyper2kvm/hyper2kvm/daemon/config"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/sealer"
	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
	"github.com/hyper2kvm/hyper2kvm/internal/terminal"
)

// keyPath is the key file of the configuration, or with own the one in the state
// directory that the daemon makes for itself.
func (s settings) keyPath() (path string, own bool, err error) {
	d := s.config.Daemon
	path, err = config.SecretPath(d.SecretKeyFile, d.SecretKeyCredential, s.getenv("CREDENTIALS_DIRECTORY"))
	if err != nil {
		return "", false, fmt.Errorf("daemon.secret_key_credential: %w", err)
	}
	if path == "" {
		return filepath.Join(filepath.Dir(s.db), "secret.key"), true, nil
	}
	return path, false, nil
}

// keyring returns what encrypts the passwords of jobs: with the configured key,
// or with one in the state directory that is made when there is none; made
// tells.
func (s settings) keyring(log *slog.Logger) (k *sealer.Keyring, made bool, err error) {
	path, own, err := s.keyPath()
	if err == nil && own {
		_, made, err = sealer.LoadOrMake(path)
	}
	if err == nil {
		k, err = sealer.OpenKeyring(path, log)
	}
	if err != nil {
		return nil, false, fmt.Errorf("secret key: %w", err)
	}
	return k, made, nil
}

// keyCommand is for those who look after the key.
func keyCommand(p *terminal.Printer, getenv func(string) string) *cli.Command {
	file := &cli.StringFlag{Name: "file", Usage: "key `FILE` in place of the configured one: for a systemd credential, the file that it is loaded from"}
	return &cli.Command{
		Name: "key", Usage: "the key that encrypts the passwords in jobs",
		Commands: []*cli.Command{
			{
				Name: "rotate", Usage: "replace the key by a new one",
				Description: `The daemon seals every password with the new key: at once when it runs, at its next
start when it does not. Until then the old key is kept beside it, in FILE.old, and the daemon
removes that. A crash at any moment loses nothing. The file keeps its owner and mode.`,
				Flags:  []cli.Flag{file},
				Action: cliargs.NoArgs(func(ctx context.Context, cmd *cli.Command) error { return rotateKey(ctx, p, cmd, getenv) }),
			},
			{
				Name: "list", Usage: "show the public halves of the key, and of old ones that are still needed",
				Flags:  []cli.Flag{file},
				Action: cliargs.NoArgs(func(_ context.Context, cmd *cli.Command) error { return listKeys(p, cmd, getenv) }),
			},
		},
	}
}

// keyFile is the file that a subcommand is about.
func keyFile(cmd *cli.Command, getenv func(string) string) (string, error) {
	if path := cmd.String("file"); path != "" {
		return path, nil
	}
	s, err := settingsFrom(cmd, getenv)
	if err != nil {
		return "", cliargs.UsageError{Err: err}
	}
	if c := s.config.Daemon.SecretKeyCredential; c != "" && s.config.Daemon.SecretKeyFile == "" {
		return "", cliargs.Usage("the key is the systemd credential %s: name the file that it is loaded from with -file, load FILE.old as %s.old beside it, "+
			"and restart the daemon", c, c)
	}
	path, _, err := s.keyPath()
	return path, err
}

func rotateKey(ctx context.Context, p *terminal.Printer, cmd *cli.Command, getenv func(string) string) error {
	path, err := keyFile(cmd, getenv)
	if err != nil {
		return err
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no key at %s yet: the daemon makes one at its first start; is -state-dir or -config that of the daemon?", path)
	}
	s, err := settingsFrom(cmd, getenv)
	if err != nil {
		return cliargs.UsageError{Err: err}
	}
	var keys *sealer.Sealer
	err = s.audited(ctx, audit.Entry{Action: audit.RotateKey, Target: path}, func() error {
		return asOwner(filepath.Dir(path), func() (err error) { // so that the daemon can read and remove what is made there
			keys, err = sealer.Rotate(path)
			return err
		})
	})
	if err != nil {
		return err
	}
	p.Success("The key in %s is a new one: %s", path, keys.Recipients()[0])
	p.Info("The daemon seals all passwords with it within seconds, or at its next start, and then removes %s.old", path)
	return nil
}

func listKeys(p *terminal.Printer, cmd *cli.Command, getenv func(string) string) error {
	path, err := keyFile(cmd, getenv)
	if err != nil {
		return err
	}
	keys, err := sealer.LoadAll(path)
	if err != nil {
		return err
	}
	for i, recipient := range keys.Recipients() {
		use := "old: opens what is not sealed anew yet"
		if i == 0 {
			use = "present: seals and opens"
		}
		if _, err := fmt.Fprintf(p.Out, "%s  %s\n", recipient, use); err != nil {
			return err
		}
	}
	return nil
}
