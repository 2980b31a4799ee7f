// Package postgres is a [jobs.Store] in a PostgreSQL database, which several daemons
// may share.
//
// Nothing locks a daemon out. A claim is on a row of the database and holds for as
// long as its owner renews it, by the server's clock: daemons need not agree on the
// time. Who claims passes over rows that another one is just claiming (FOR UPDATE
// SKIP LOCKED), and every write of a run names the epoch of its claim, so that a
// daemon that was given up changes nothing any more.
//
// A daemon hears of what others do by LISTEN, on a connection of its own (Listen):
// new jobs, cancels, changed limits, progress of a job that is watched. That is a
// matter of speed only. Each daemon also looks by itself now and then.
//
// A transaction that the server ends because of others (deadlock, serialization), or
// whose connection breaks before its commit, is done again. When the connection
// breaks in the midst of the commit, the server is asked what became of it. What
// cannot be mended so is a *[jobs.StoreError].
//
// Daemons of neighbouring versions share a database: a release only adds to the schema
// what the one before need not know, and says so there (table compatibility); what is
// not used any more goes a release later.
//
// # Not promised
//
// Claims and delays follow the server's clock also when somebody sets it. Set back by
// an hour, it lets the claims of a daemon that has died hold an hour longer, or until
// a daemon starts; set ahead, it ends all claims, and jobs begin again from their
// ledgers. With asynchronous replication, a failover may forget the last changes.
package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/sqlstore"
)

//go:embed migrations/*.sql
var migrations embed.FS

// How many connections a store has at most, beside the one that listens.
const (
	DefaultConnections = 8
	MinConnections     = 3
)

// connectTimeout bounds how long a connection may take to be made, unless the URL
// says so (connect_timeout).
const connectTimeout = 5 * time.Second

// Options say which database it is, and how it is reached.
type Options struct {
	// URL is postgres://user@host:port/database?sslmode=verify-full, as libpq takes
	// it, without a password. A unix socket is ?host=/run/postgresql.
	URL string
	// Password is asked before each connection is made, so that a new one is picked
	// up; nil is for servers that want none.
	Password func(ctx context.Context) (string, error)
	// Refused is told when the server does not accept the password; nil is nobody.
	Refused func()
	// Connections is how many there are at most, from [MinConnections] on; 0 is
	// [DefaultConnections].
	Connections int
	// Beside is for commands beside daemons: an older schema is not brought up to
	// date.
	Beside bool

	Logger *slog.Logger // nil discards

	// shift is how far the clocks are off the server's, for tests.
	shift func() (now, steady time.Duration)
}

// Store keeps jobs in a PostgreSQL database. See [Open].
type Store struct {
	sqlstore.Store // the statements
	*database
	isNew bool
}

var (
	_ jobs.Store   = (*Store)(nil)
	_ jobs.Pruner  = (*Store)(nil)
	_ jobs.Secrets = (*Store)(nil)
	_ jobs.Notices = (*Store)(nil)
	_ jobs.Daemons = (*Store)(nil)
)

// database is the [sqlstore.Backend].
type database struct {
	o      Options
	id     string // names this store in its notices
	name   string // of the database, for people
	config *pgx.ConnConfig
	pool   *sql.DB
	log    *slog.Logger
	clock  atomic.Pointer[reading]
}

// Open connects to the database, and brings its schema up to date, one daemon at a
// time. Errors that trying again does not mend are [ErrURL], [ErrUnfit] and
// [ErrNewerSchema]; others are a *[jobs.StoreError].
func Open(ctx context.Context, o Options) (*Store, error) {
	d, err := newDatabase(o)
	if err != nil {
		return nil, err
	}
	s := &Store{Store: sqlstore.New(d), database: d}
	if err := s.prepare(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func newDatabase(o Options) (*database, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return nil, fmt.Errorf("%w: want postgres://user@host/database?sslmode=verify-full", ErrURL)
	}
	if _, set := u.User.Password(); set || u.Query().Has("password") {
		return nil, fmt.Errorf("%w: it must not hold a password", ErrURL)
	}
	config, err := pgx.ParseConfig(o.URL)
	if err != nil {
		// What the library says may quote the URL, which has no password.
		return nil, fmt.Errorf("%w: %w", ErrURL, err)
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	if strings.Contains(u.Host+u.Query().Get("host"), ",") && config.ValidateConnect == nil {
		config.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	for name, value := range map[string]string{
		"application_name":                    "hyper2kvmd",
		"lock_timeout":                        "10s",
		"idle_in_transaction_session_timeout": "60s", // of a daemon that was cut off with locks
	} {
		if _, set := config.RuntimeParams[name]; !set {
			config.RuntimeParams[name] = value
		}
	}
	d := &database{o: o, id: uuid.NewString(), config: config, log: o.Logger}
	d.name = fmt.Sprintf("%s@%s/%s", config.User, place(config), config.Database)
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	if d.o.Connections == 0 {
		d.o.Connections = DefaultConnections
	}
	d.o.Connections = max(d.o.Connections, MinConnections)
	d.pool = stdlib.OpenDB(*config, stdlib.OptionBeforeConnect(d.login),
		// A connection that has died is noticed by its next statement, which is then
		// done again.
		stdlib.OptionShouldPing(func(context.Context, stdlib.ShouldPingParams) bool { return false }))
	d.pool.SetMaxOpenConns(d.o.Connections)
	d.pool.SetMaxIdleConns(d.o.Connections)
	d.pool.SetConnMaxIdleTime(5 * time.Minute)
	d.pool.SetConnMaxLifetime(time.Hour)
	return d, nil
}

// place is where the server is, for people.
func place(c *pgx.ConnConfig) string {
	if strings.HasPrefix(c.Host, "/") {
		return c.Host
	}
	return fmt.Sprintf("%s:%d", c.Host, c.Port)
}

// login gives a connection that is about to be made its password.
func (d *database) login(ctx context.Context, c *pgx.ConnConfig) error {
	if d.o.Password == nil {
		return nil
	}
	password, err := d.o.Password(ctx)
	if err != nil {
		return &passwordError{err}
	}
	c.Password = password
	return nil
}

// Exposed reports whether what is said to the server can be read or changed on the
// way: the connection is not by a unix socket or loopback, and the URL does not ask
// for the server's certificate to be verified.
func (s *Store) Exposed() bool {
	local := strings.HasPrefix(s.config.Host, "/") || s.config.Host == "localhost" || strings.HasPrefix(s.config.Host, "127.") || s.config.Host == "::1"
	verified := s.config.TLSConfig != nil && (!s.config.TLSConfig.InsecureSkipVerify || s.config.TLSConfig.VerifyPeerCertificate != nil)
	return !local && !verified
}

// migrationLock is the advisory lock of those who bring the schema up to date.
const migrationLock = 0x6879706572326b76

// prepare looks whether the database is fit, and brings its schema up to date.
func (s *Store) prepare(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, prepareTimeout, errSlow)
	defer cancel()
	if err := s.fit(ctx); err != nil {
		return s.explain(ctx, err)
	}
	c, err := s.pool.Conn(ctx)
	if err != nil {
		return s.explain(ctx, err)
	}
	defer c.Close() // gives it back
	if _, err := c.ExecContext(ctx, `SET lock_timeout = 0`); err != nil {
		return s.explain(ctx, err)
	}
	if _, err := c.ExecContext(ctx, `SELECT pg_advisory_lock($1)`, int64(migrationLock)); err != nil {
		return s.explain(ctx, err)
	}
	defer func() {
		// A connection that does not give the lock back is not used again.
		if _, end := c.ExecContext(ctx, `SELECT pg_advisory_unlock($1)`, int64(migrationLock)); end != nil {
			_ = c.Raw(func(any) error { return driver.ErrBadConn })
		}
		_, end := c.ExecContext(ctx, `RESET lock_timeout`)
		err = errors.Join(err, s.explain(ctx, end))
	}()
	if err := s.migrate(ctx); err != nil {
		return s.explain(ctx, err)
	}
	// A server whose clock was set back would make these wait too long.
	return s.Write(ctx, func(tx sqlstore.Tx) error {
		_, err := tx.Exec(ctx, `
			UPDATE jobs SET claimable_at = ? + delay WHERE claimable_at IS NOT NULL AND claimable_at > ? + delay`,
			tx.Steady.UnixMilli(), tx.Steady.UnixMilli())
		return err
	})
}

// fit looks whether the server can do what is asked of it.
func (s *Store) fit(ctx context.Context) error {
	var version int
	var encoding, limit string
	err := s.pool.QueryRowContext(ctx, `SELECT current_setting('server_version_num')::int, current_setting('server_encoding'),
		CASE WHEN pg_is_in_recovery() THEN 'standby' ELSE current_setting('default_transaction_read_only') END`).Scan(&version, &encoding, &limit)
	switch {
	case err != nil:
		return err
	case version < 130000:
		return fmt.Errorf("%w: the server of %s is PostgreSQL %d: 13 or later is needed", ErrUnfit, s.name, version/10000)
	case encoding != "UTF8":
		return fmt.Errorf("%w: %s has the encoding %s; make one with UTF8", ErrUnfit, s.name, encoding)
	case limit == "standby":
		return s.readOnly(errStandby)
	case limit == "on":
		return s.readOnly(errReadOnlyDatabase)
	}
	return nil
}

// migrate brings the schema up to date.
func (s *Store) migrate(ctx context.Context) error {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectPostgres, s.pool, dir,
		goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return err
	}
	have, want, err := p.GetVersions(ctx)
	switch {
	case err != nil:
		return err
	case have > want:
		return s.newer(ctx, have, want)
	case have == want:
		return nil
	case have > 0 && s.o.Beside:
		return fmt.Errorf("%w: the schema of %s has version %d, this program's is %d; start a daemon of this version first", ErrOlderSchema, s.name, have, want)
	}
	s.isNew = have == 0
	_, err = p.Up(ctx)
	return err
}

// newer looks whether a program that knows the schema up to version want can use one of
// version have, as its migrations say.
func (s *Store) newer(ctx context.Context, have, want int64) error {
	var needs int64
	err := s.pool.QueryRowContext(ctx, `SELECT needs FROM compatibility WHERE version = $1`, have).Scan(&needs)
	switch {
	case errors.Is(err, sql.ErrNoRows) || code(err) == "42P01":
		return fmt.Errorf("%w: the schema of %s has version %d, this program knows up to %d; run the newer one", ErrNewerSchema, s.name, have, want)
	case err != nil:
		return err
	case needs > want:
		return fmt.Errorf("%w: the schema of %s has version %d, which programs can use that know version %d; this one knows up to %d; run a newer one",
			ErrNewerSchema, s.name, have, needs, want)
	}
	s.log.Warn("a newer version of this program has made the tables, which this one can use; bring it up to date, too",
		"database", s.name, "schema", have, "known", want)
	return nil
}

// New reports whether the tables were made when the store was opened.
func (s *Store) New() bool { return s.isNew }

// Name says which database it is, as user@host:port/database.
func (s *Store) Name() string { return s.name }

// Close closes the connections. Claims are left as they are.
func (s *Store) Close() error { return s.pool.Close() }

// Check implements [jobs.Reader]. It writes, as nothing else proves that it can be
// done: the numbers of jobs are put together, a row for each status.
func (s *Store) Check(ctx context.Context) ([]string, error) {
	return nil, s.Write(ctx, func(tx sqlstore.Tx) error {
		_, err := tx.Exec(ctx, `
			WITH gone AS (DELETE FROM counts RETURNING status, n)
			INSERT INTO counts (status, n) SELECT status, sum(n) FROM gone GROUP BY status`)
		return err
	})
}

// Compact implements [jobs.Pruner]: the server looks after that itself.
func (s *Store) Compact(context.Context) (more bool, err error) { return false, nil }
