package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/daemon/audit"
	"github.com/hyper2kvm/hyper2kvm/daemon/config"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/sqlite"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/sqlstore"
	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
	"github.com/hyper2kvm/hyper2kvm/internal/terminal"
	"github.com/hyper2kvm/hyper2kvm/progress/display"
)

// sqlitePrefix stands before the path of a SQLite file.
const sqlitePrefix = "sqlite:"

// storeCommand is for those who look after the store.
func storeCommand(p *terminal.Printer, getenv func(string) string) *cli.Command {
	return &cli.Command{
		Name: "store", Usage: "where jobs, tokens and the audit log are kept",
		Commands: []*cli.Command{{
			Name: "migrate", Usage: "move the file of one daemon into a PostgreSQL database that several share",
			Description: `Jobs with their events, tokens and the audit log are copied whole or not at all, and
counted on both sides; the audit log is verified. The daemon must be stopped, and the
database empty. The file stays as it is: name the database in the configuration (store:)
before the daemon is started again, so that no job runs from both.`,
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "from", Usage: "`sqlite:PATH` of the file; the daemon's when left out"},
				&cli.StringFlag{Name: "to", Usage: "`URL` as postgres://user@host/database; that of the configuration when left out"},
				&cli.StringFlag{Name: "password-file", Usage: "`FILE` with the password of the database; as configured when left out"},
			},
			Action: cliargs.NoArgs(func(ctx context.Context, cmd *cli.Command) error { return migrateStore(ctx, cmd, p, getenv) }),
		}},
	}
}

// migration is what to move, and where to.
type migration struct {
	settings
	from string // path
}

func migrationFrom(cmd *cli.Command, getenv func(string) string) (migration, error) {
	s, err := settingsFrom(cmd, getenv)
	if err != nil {
		return migration{}, err
	}
	m := migration{settings: s, from: s.db}
	if from := cmd.String("from"); from != "" {
		path, ok := strings.CutPrefix(from, sqlitePrefix)
		if !ok || path == "" {
			return m, errors.New("-from: must be sqlite:PATH: only a file can be moved, and only into PostgreSQL")
		}
		m.from = path
	}
	if to := cmd.String("to"); to != "" {
		if err := config.CheckStoreURL(to); err != nil {
			return m, fmt.Errorf("-to: %w", err)
		}
		m.config.Store.URL = to
	}
	if file := cmd.String("password-file"); file != "" {
		path, err := filepath.Abs(file)
		if err != nil {
			return m, err
		}
		m.config.Store = config.Store{URL: m.config.Store.URL, Connections: m.config.Store.Connections, PasswordFile: path}
	}
	if m.config.Store.URL == "" {
		return m, errors.New("-to: say which database, as postgres://user@host/database?sslmode=verify-full")
	}
	return m, nil
}

func migrateStore(ctx context.Context, cmd *cli.Command, p *terminal.Printer, getenv func(string) string) error {
	m, err := migrationFrom(cmd, getenv)
	if err != nil {
		return cliargs.UsageError{Err: err}
	}
	if info, err := os.Stat(m.from); err != nil || info.Size() == 0 {
		return errors.Join(fmt.Errorf("there is nothing to move in %s; -from or -state-dir names another file", m.from), err)
	}
	return asOwner(filepath.Dir(m.from), func() error { return m.run(byCommand(ctx), p) })
}

// run moves the store.
func (m migration) run(ctx context.Context, p *terminal.Printer) (err error) {
	from, err := sqlite.Open(ctx, m.from)
	if errors.Is(err, sqlite.ErrLocked) {
		return fmt.Errorf("a store in use is not moved: stop the daemon first: %w", err)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	// The log in the file with the head beside it, which knows of entries that are missing.
	before, broken := audit.New(from.Audit(), filepath.Join(filepath.Dir(m.from), headFile), nil).Verify(ctx)
	if !errors.As(broken, new(*audit.BrokenError)) && broken != nil {
		return broken
	}
	to, err := openPostgres(ctx, m.config.Store, true, newSecrets(m.config, m.getenv, nil), nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	moved, err := to.Import(ctx, from, func(s sqlstore.Store, moved sqlstore.Moved) error {
		l := audit.New(s.Audit(), "", nil)
		after, err := l.Verify(ctx)
		if broken == nil && (err != nil || after.Entries != before.Entries || after.Hash != before.Hash) {
			return errors.Join(errors.New("the audit log has not arrived as it was"), err)
		}
		_, err = l.Begin(ctx, audit.Entry{Action: audit.MoveStore, Target: to.Name(), Value: fmt.Sprintf("%s, %d jobs", m.from, moved.Jobs.Total())})
		return err
	})
	if notEmpty := new(sqlstore.NotEmptyError); errors.As(err, &notEmpty) {
		return fmt.Errorf("the database %s is not moved into: %w; name an empty one, nothing is mixed or replaced", to.Name(), err)
	}
	if err != nil {
		return fmt.Errorf("nothing was moved into %s: %w", to.Name(), err)
	}
	if broken != nil {
		p.Warning("The audit log was broken before, and was moved as it is: %s", display.SafeText(broken.Error()))
	}
	p.Success("%s: %d jobs (%s) with %d events, %d tokens and %d audit entries are in %s", m.from,
		moved.Jobs.Total(), countsText(moved.Jobs), moved.Events, moved.Tokens, moved.Entries, to.Name())
	p.Info("The file is as it was. Before the daemon is started again, set store: in its configuration, so that it does not run these jobs from the file, too")
	p.Info("Every daemon on the database needs the same secret.key: passwords in jobs are encrypted with it")
	return nil
}
