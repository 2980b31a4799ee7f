package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/audit"
	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
	"github.com/hyper2kvm/hyper2kvm/internal/terminal"
	"github.com/hyper2kvm/hyper2kvm/progress/display"
)

// defaultExpiry is how long a token is good when nothing is said.
const defaultExpiry = "90d"

// tokenCommand manages API tokens in the database, beside a daemon or without one.
func tokenCommand(p *terminal.Printer, getenv func(string) string) *cli.Command {
	create := &cli.Command{
		Name: "create", Usage: "make a token and print it, once",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "name", Usage: "whose it is: `NAME` in logs and in the audit log", Required: true},
			&cli.StringFlag{Name: "role", Usage: "`ROLE`: viewer (reads), operator (submits, cancels, retries) or admin", Required: true},
			&cli.StringFlag{Name: "expires", Value: defaultExpiry, Usage: "after `TIME`, as 90d, 12h, 2027-01-31 (UTC) or never"},
			&cli.StringFlag{Name: "o", Usage: "write it to `FILE`, which must not exist, instead of the output"},
		},
		Action: cliargs.NoArgs(func(ctx context.Context, cmd *cli.Command) error { return createToken(ctx, cmd, p, getenv) }),
	}
	list := &cli.Command{
		Name: "list", Usage: "list the tokens",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "all", Usage: "also those that are revoked"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON"},
		},
		Action: cliargs.NoArgs(func(ctx context.Context, cmd *cli.Command) error { return listTokens(ctx, cmd, p, getenv) }),
	}
	revoke := &cli.Command{
		Name: "revoke", Usage: "end a token at once", ArgsUsage: "NAME",
		Action: func(ctx context.Context, cmd *cli.Command) error { return revokeToken(ctx, cmd, p, getenv) },
	}
	return &cli.Command{
		Name: "token", Usage: "create, list and revoke API tokens",
		Description: `The tokens are in the daemon's database. A daemon that runs sees a new or a revoked
one at once. As soon as there is a token, nobody is let in without proof, also on
localhost; root and the daemon's own user are, on the unix socket.`,
		Commands: []*cli.Command{create, list, revoke},
	}
}

// besides is what the commands that work beside a daemon need.
type besides struct {
	store besideStore
	log   *audit.Log
}

// beside runs f with the daemon's database, as the user that the database belongs
// to, so that a command of root leaves no file that the daemon cannot open.
func beside(ctx context.Context, cmd *cli.Command, getenv func(string) string, f func(context.Context, besides) error) error {
	s, err := settingsFrom(cmd, getenv)
	if err != nil {
		return cliargs.UsageError{Err: err}
	}
	return asOwner(filepath.Dir(s.db), func() error {
		b, err := s.beside(ctx)
		if err != nil {
			return err
		}
		return errors.Join(f(byCommand(ctx), b), b.store.Close())
	})
}

// beside opens the daemon's database, and makes it when there is none.
func (s settings) beside(ctx context.Context) (besides, error) {
	if err := s.makeStateDir(); err != nil {
		return besides{}, err
	}
	store, err := s.openBeside(ctx)
	if err != nil {
		return besides{}, err
	}
	return besides{store, s.auditLog(store, nil)}, nil
}

// audited does something that is not the database's between two entries of the
// audit log.
func (s settings) audited(ctx context.Context, e audit.Entry, do func() error) error {
	ctx, state := byCommand(ctx), filepath.Dir(s.db)
	var b besides
	var change *audit.Change
	err := asOwner(state, func() (err error) {
		if b, err = s.beside(ctx); err != nil {
			return err
		}
		if change, err = b.log.Begin(ctx, e); err != nil {
			err = errors.Join(err, b.store.Close())
		}
		return err
	})
	if err != nil {
		return err
	}
	err = do()
	return errors.Join(err, asOwner(state, func() error {
		return errors.Join(change.End(ctx, audit.Entry{Error: textOf(err)}), b.store.Close())
	}))
}

// auditHead is the file that says how the audit log ends.
func (s settings) auditHead() string { return filepath.Join(filepath.Dir(s.db), headFile) }

const headFile = "audit.head"

// byCommand is ctx for what a command does: whoever can write the daemon's files.
func byCommand(ctx context.Context) context.Context {
	name := "uid " + strconv.Itoa(os.Getuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	return access.WithPrincipal(ctx, access.Principal{Name: name, Role: access.Admin, Via: access.ViaCommand})
}

func createToken(ctx context.Context, cmd *cli.Command, p *terminal.Printer, getenv func(string) string) (err error) {
	role, err := access.ParseRole(cmd.String("role"))
	if err != nil {
		return cliargs.Usage("-role: %w", err)
	}
	now := time.Now()
	expires, err := parseExpiry(cmd.String("expires"), now)
	if err != nil {
		return cliargs.Usage("-expires: %w", err)
	}
	token, secret, err := access.NewToken(cmd.String("name"), role, now, expires)
	if err != nil {
		return cliargs.Usage("-%w", err)
	}
	out, done, err := secretOutput(cmd.String("o"), p.Out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done(err == nil)) }()
	err = beside(ctx, cmd, getenv, func(ctx context.Context, b besides) error {
		change, err := b.log.Begin(ctx, audit.Entry{Action: audit.CreateToken, Target: token.Name, Value: token.Role.String() + ", expires " + expiryText(token)})
		if err != nil {
			return err
		}
		err = b.store.Tokens().Create(ctx, token)
		return errors.Join(err, change.End(ctx, audit.Entry{Error: textOf(err)}))
	})
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(out, secret); err != nil {
		return fmt.Errorf("the token was made but could not be written; revoke it with hyper2kvmd token revoke %s: %w", token.Name, err)
	}
	fmt.Fprintf(p.Err, "token %s, %s, expires %s; it is shown only now\n", display.SafeText(token.Name), token.Role, expiryText(token))
	return nil
}

// secretOutput returns where a secret goes: stdout, or a new file for its owner
// alone. done closes it, and removes it unless it was used.
func secretOutput(path string, stdout io.Writer) (w io.Writer, done func(used bool) error, err error) {
	if path == "" {
		return stdout, func(bool) error { return nil }, nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("-o: %w", err)
	}
	return f, func(used bool) error {
		err := f.Close()
		if !used {
			err = errors.Join(err, os.Remove(path))
		}
		return err
	}, nil
}

func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// parseExpiry reads when a token expires; the zero time is never.
func parseExpiry(s string, now time.Time) (time.Time, error) {
	if s == "never" {
		return time.Time{}, nil
	}
	if day, err := time.Parse(time.DateOnly, s); err == nil {
		return day, nil
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n > 0 && n <= 36500 {
			return now.AddDate(0, 0, n), nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil && d > 0 {
		return now.Add(d), nil
	}
	return time.Time{}, errors.New("must be 1 to 36500 days as 90d, hours as 12h, a date as 2027-01-31, or never")
}

func expiryText(t access.Token) string {
	if t.Expires.IsZero() {
		return "never"
	}
	return t.Expires.UTC().Format(time.RFC3339)
}

// shownToken is a token as -json prints it.
type shownToken struct {
	Name     string      `json:"name"`
	Role     access.Role `json:"role"`
	State    string      `json:"state"` // valid, expired or revoked
	ID       string      `json:"id"`    // the public part: what stands behind h2k_
	Created  time.Time   `json:"created"`
	Expires  *time.Time  `json:"expires"`   // null for never
	Revoked  *time.Time  `json:"revoked"`   // null when it is not
	LastUsed *time.Time  `json:"last_used"` // null before its first use
}

func shownTokenOf(t access.Token, now time.Time) shownToken {
	s := shownToken{Name: t.Name, Role: t.Role, State: "valid", ID: t.ID, Created: t.Created}
	for _, m := range []struct {
		from time.Time
		to   **time.Time
	}{{t.Expires, &s.Expires}, {t.Revoked, &s.Revoked}, {t.LastUsed, &s.LastUsed}} {
		if !m.from.IsZero() {
			*m.to = &m.from
		}
	}
	switch {
	case s.Revoked != nil:
		s.State = "revoked"
	case s.Expires != nil && !now.Before(*s.Expires):
		s.State = "expired"
	}
	return s
}

func listTokens(ctx context.Context, cmd *cli.Command, p *terminal.Printer, getenv func(string) string) error {
	var all []access.Token
	err := beside(ctx, cmd, getenv, func(ctx context.Context, b besides) (err error) {
		all, err = b.store.Tokens().List(ctx)
		return err
	})
	if err != nil {
		return err
	}
	now := time.Now()
	shown := []shownToken{}
	rows := [][]string{{"Name", "Role", "State", "ID", "Created", "Expires", "Last used"}}
	for _, t := range all {
		s := shownTokenOf(t, now)
		if s.Revoked != nil && !cmd.Bool("all") {
			continue
		}
		shown = append(shown, s)
		rows = append(rows, []string{display.SafeText(s.Name), s.Role.String(), s.State, s.ID,
			s.Created.Format(time.DateOnly), expiryText(t), momentText(s.LastUsed)})
	}
	if cmd.Bool("json") {
		return p.PrintJSON(shown)
	}
	if len(shown) == 0 {
		p.Info("there is no token: whoever is on this machine may do everything; make one with hyper2kvmd token create")
		return nil
	}
	return p.Table(rows, true)
}

func momentText(t *time.Time) string {
	if t == nil {
		return "never"
	}
	return t.Format(time.RFC3339)
}

func revokeToken(ctx context.Context, cmd *cli.Command, p *terminal.Printer, getenv func(string) string) error {
	name := cmd.Args().First()
	if cmd.Args().Len() != 1 {
		return cliargs.Usage("give the name of one token; see hyper2kvmd token list")
	}
	err := beside(ctx, cmd, getenv, func(ctx context.Context, b besides) error {
		change, err := b.log.Begin(ctx, audit.Entry{Action: audit.RevokeToken, Target: name})
		if err != nil {
			return err
		}
		err = b.store.Tokens().Revoke(ctx, name, time.Now())
		return errors.Join(err, change.End(ctx, audit.Entry{Error: textOf(err)}))
	})
	if err != nil {
		return fmt.Errorf("token %q: %w", name, err)
	}
	p.Success("Revoked token %s", display.SafeText(name))
	return nil
}
