package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/audit"
	"github.com/hyper2kvm/hyper2kvm/daemon/config"
	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/limits"
	"github.com/hyper2kvm/hyper2kvm/daemon/rates"
	"github.com/hyper2kvm/hyper2kvm/daemon/secret"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/postgres"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/sealer"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/sqlite"
	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
)

// store is where the daemon keeps what it must not forget.
type store interface {
	jobs.Store
	jobs.Secrets
	jobs.Pruner
	limits.Store
	limits.Refusals
	jobs.Outages
	jobs.Daemons
	besideStore

	// Sealed returns how many jobs hold a sealed password that a run may need, and one
	// of those.
	Sealed(ctx context.Context) (n int, one []byte, err error)
	// Rates returns where it is kept how many bytes came over time.
	Rates() rates.Store
	// New reports whether there was nothing when it was opened.
	New() bool
}

// besideStore is what commands beside a daemon use of its store.
type besideStore interface {
	Tokens() access.Tokens
	Audit() audit.Store
	Members() jobs.Daemons
	Close() error
}

// shared reports whether other daemons may use the same store.
func (s settings) shared() bool { return s.config.Store.URL != "" }

// heartbeats is how many a claim on a job in a shared store outlives.
const heartbeats = 6

// claims returns how long a claim on a job holds without a heartbeat, and what is
// between two of them; zeros are the defaults of package jobs.
func (s settings) claims() (hold, heartbeat time.Duration) {
	if !s.shared() {
		return 0, 0 // nobody else has the jobs
	}
	hold = time.Duration(s.config.Store.TakeoverAfter)
	return hold, hold / heartbeats
}

// openStore opens the store, and names it for people. One that no start can mend is a
// matter of configuration: systemd is not to try again.
func (s settings) openStore(ctx context.Context, secrets *secret.Reader, log *slog.Logger) (st store, name string, err error) {
	if !s.shared() {
		st, err := sqlite.Open(ctx, s.db)
		if errors.Is(err, sqlite.ErrCorrupt) || errors.Is(err, sqlite.ErrMissing) || errors.Is(err, sqlite.ErrNewerSchema) {
			err = cliargs.UsageError{Err: err}
		}
		if err != nil {
			return nil, "", err
		}
		return st, s.db, nil
	}
	p, err := openPostgres(ctx, s.config.Store, false, secrets, log)
	if err != nil {
		return nil, "", err
	}
	if p.Exposed() {
		log.Warn("what is said to the database, passwords of jobs in their encrypted form among it, can be read and changed on the way: "+
			"add sslmode=verify-full to the URL of the store", "database", p.Name())
	}
	return p, p.Name(), nil
}

// openPostgres opens a PostgreSQL database. beside is for a command beside daemons.
func openPostgres(ctx context.Context, c config.Store, beside bool, secrets *secret.Reader, log *slog.Logger) (*postgres.Store, error) {
	o := postgres.Options{URL: c.URL, Connections: int(c.Connections), Beside: beside, Logger: log}
	if source := c.PasswordSource(); source.Set() > 0 {
		o.Password = func(ctx context.Context) (string, error) { return secrets.Read(ctx, source) }
		o.Refused = func() { secrets.Refused(source) }
	}
	p, err := postgres.Open(ctx, o)
	if errors.Is(err, postgres.ErrURL) || errors.Is(err, postgres.ErrUnfit) || errors.Is(err, postgres.ErrNewerSchema) {
		err = cliargs.UsageError{Err: err}
	}
	return p, err
}

// openBeside opens the store beside daemons that use it.
func (s settings) openBeside(ctx context.Context) (besideStore, error) {
	if !s.shared() {
		return sqlite.OpenBeside(ctx, s.db)
	}
	return openPostgres(ctx, s.config.Store, true, newSecrets(s.config, s.getenv, nil), nil)
}

// auditLog is the audit log in a store.
func (s settings) auditLog(st besideStore, log *slog.Logger) *audit.Log {
	if s.shared() {
		return audit.NewShared(st.Audit(), s.auditHead(), log)
	}
	return audit.New(st.Audit(), s.auditHead(), log)
}

// tellOfKey says that a key was made, and warns when passwords of jobs were sealed with
// another one than the daemon has.
func tellOfKey(ctx context.Context, made bool, keys *sealer.Keyring, st store, log *slog.Logger) error {
	n, one, err := st.Sealed(ctx)
	if err != nil {
		return err
	}
	if n > 0 {
		if _, err := keys.Open(one); err != nil {
			log.Warn("the passwords in jobs were encrypted with another key than this daemon has, and jobs with one will fail here: "+
				"give it the secret.key that the daemons on the store had, or submit these jobs again", "jobs", n)
			return nil
		}
	}
	if made {
		log.Info("a key was made that encrypts the passwords in jobs; keep it with the database, and give it to every daemon on it")
	}
	return nil
}
