// Package pgtest starts PostgreSQL servers for tests: Debian's program, as an
// unprivileged user, on a unix socket in a directory of its own, without any care for
// what a loss of power would do.
//
// A server ends with its test program, also when that panics or is killed: a shell
// between the two sees the end of a pipe.
package pgtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver
)

// Password is that of the user named password, who needs one.
const Password = "correct horse"

// Server is a server. Its user is postgres, who needs no password, and may do
// everything.
type Server struct {
	dir    string // has the socket and the data
	who    *syscall.Credential
	binary string
	keeper *exec.Cmd
	pipe   io.WriteCloser // its end ends the server
	n      atomic.Int64
}

// Main runs the tests of a package with a server, and returns the exit code.
func Main(m interface{ Run() int }, at **Server) int {
	s, err := Start(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, "PostgreSQL does not start; scripts/setup.sh test installs it:", err)
		return 1
	}
	*at = s
	code := m.Run()
	if err := s.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "end of PostgreSQL:", err)
		return 1
	}
	return code
}

// Start makes a cluster and starts its server.
func Start(ctx context.Context) (s *Server, err error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if len(found) == 0 {
		return nil, errors.New("there is no /usr/lib/postgresql/*/bin/postgres")
	}
	s = &Server{binary: found[len(found)-1]}
	if err := s.home(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(s.dir))
		}
	}()
	initdb := s.command(ctx, filepath.Join(filepath.Dir(s.binary), "initdb"), "--pgdata="+s.data(), "--username=postgres",
		"--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions")
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	hba := "local all password scram-sha-256\nlocal all rotates scram-sha-256\nlocal all nobody reject\nlocal all all trust\nlocal replication all trust\n"
	if err := os.WriteFile(filepath.Join(s.data(), "pg_hba.conf"), []byte(hba), 0o600); err != nil {
		return nil, err
	}
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	_, err = s.exec(ctx, "postgres", `CREATE ROLE password LOGIN PASSWORD '`+Password+`'; CREATE ROLE nobody LOGIN; CREATE ROLE poor LOGIN`)
	return s, err
}

// Replica makes a standby that follows the server, and starts it.
func (s *Server) Replica(ctx context.Context) (r *Server, err error) {
	r = &Server{binary: s.binary}
	if err := r.home(); err != nil {
		return nil, err
	}
	backup := r.command(ctx, filepath.Join(filepath.Dir(s.binary), "pg_basebackup"), "--pgdata="+r.data(), "--host="+s.dir, "--username=postgres",
		"--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync")
	if out, err := backup.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("pg_basebackup: %w\n%s", err, out), os.RemoveAll(r.dir))
	}
	if err := r.start(ctx); err != nil {
		return nil, errors.Join(err, os.RemoveAll(r.dir))
	}
	return r, nil
}

// home makes the directory of a server, for the user that it runs as.
func (s *Server) home() (err error) {
	if s.dir, err = os.MkdirTemp("", "pg"); err != nil || os.Geteuid() != 0 {
		return err
	}
	if s.who, err = unprivileged(); err != nil { // as root the server does not run
		return err
	}
	return s.Own(s.dir)
}

// Own gives a directory to the user that the server runs as.
func (s *Server) Own(dir string) error {
	if s.who == nil {
		return nil
	}
	return os.Chown(dir, int(s.who.Uid), int(s.who.Gid))
}

// unprivileged is a user that servers may run as.
func unprivileged() (*syscall.Credential, error) {
	u, err := user.Lookup("postgres")
	if err != nil {
		u, err = user.Lookup("nobody")
	}
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, err
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// command is a program that runs as the server's user.
func (s *Server) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: s.who}
	return cmd
}

// start runs the server, and waits until it answers.
func (s *Server) start(ctx context.Context) error {
	const keep = `"$@" >>log 2>&1 & server=$!; end=; read -r end; kill -INT $server 2>/dev/null; wait $server
		[ "$end" = keep ] || { cd /; rm -rf "$dir"; }`
	s.keeper = s.command(context.WithoutCancel(ctx), "/bin/sh", "-c", keep, "sh", s.binary, "-D", s.data(),
		"-c", "listen_addresses=", "-c", "unix_socket_directories="+s.dir, "-c", "max_connections=300",
		"-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off",
		"-c", "shared_buffers=16MB", "-c", "max_wal_size=64MB", "-c", "autovacuum_naptime=1min", "-c", "log_min_messages=warning")
	s.keeper.Env = append(s.keeper.Env, "dir="+s.dir)
	var err error
	if s.pipe, err = s.keeper.StdinPipe(); err != nil {
		return err
	}
	if err := s.keeper.Start(); err != nil {
		return err
	}
	deadline := time.Now().Add(time.Minute)
	for {
		_, err := s.exec(ctx, "postgres", `SELECT 1`)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			return fmt.Errorf("%w\n%s", errors.Join(err, s.Stop()), log)
		}
		<-time.After(20 * time.Millisecond) // it has no other way to tell
	}
}

// Stop ends the server; connections are cut off. [Server.Restart] starts it again.
func (s *Server) Stop() error {
	_, err := io.WriteString(s.pipe, "keep\n")
	return errors.Join(err, s.end())
}

func (s *Server) end() error {
	err := errors.Join(s.pipe.Close(), s.keeper.Wait())
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return nil // how a server ended that was told to end does not matter
	}
	return err
}

// Restart starts a server that was stopped.
func (s *Server) Restart(ctx context.Context) error { return s.start(ctx) }

// Standby has the server be a standby, or not, when it is started again.
func (s *Server) Standby(is bool) error {
	signal := filepath.Join(s.data(), "standby.signal")
	if !is {
		return os.Remove(signal)
	}
	return os.WriteFile(signal, nil, 0o644) //nolint:gosec // the server's user reads it
}

// Close ends the server and removes what it had.
func (s *Server) Close() error { return errors.Join(s.end(), os.RemoveAll(s.dir)) }

// URL is that of a database, for a user.
func (s *Server) URL(user, database string) string {
	return fmt.Sprintf("postgres://%s@/%s?host=%s", user, database, s.dir)
}

// Host is where its socket is.
func (s *Server) Host() string { return s.dir }

// Exec runs statements in a database as postgres.
func (s *Server) exec(ctx context.Context, database, statements string) (sql.Result, error) {
	db, err := sql.Open("pgx", s.URL("postgres", database)+"&default_query_exec_mode=simple_protocol")
	if err != nil {
		return nil, err
	}
	defer db.Close()
	return db.ExecContext(ctx, statements)
}

// Exec runs statements in a database as postgres.
func (s *Server) Exec(t testing.TB, database, statements string) {
	t.Helper()
	if _, err := s.exec(t.Context(), database, statements); err != nil {
		t.Fatal(err)
	}
}

// Database makes an empty database with that owner, and drops it when the test ends.
func (s *Server) Database(t testing.TB, owner string) (name string) {
	t.Helper()
	name = "test" + strconv.FormatInt(s.n.Add(1), 10)
	if err := s.Make(t.Context(), name, owner); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Drop(t, name) })
	return name
}

// Make makes an empty database with that owner.
func (s *Server) Make(ctx context.Context, name, owner string) error {
	_, err := s.exec(ctx, "postgres", `CREATE DATABASE `+name+` OWNER `+owner)
	return err
}

// Drop removes a database, also at the end of a test.
func (s *Server) Drop(t testing.TB, name string) {
	t.Helper()
	if _, err := s.exec(context.Background(), "postgres", `DROP DATABASE `+name+` WITH (FORCE)`); err != nil {
		t.Error(err)
	}
}

// Remove runs a statement that removes something, also at the end of a test.
func (s *Server) Remove(t testing.TB, statement string) {
	t.Helper()
	if _, err := s.exec(context.Background(), "postgres", statement); err != nil {
		t.Error(err)
	}
}

// Has returns an error unless a query finds something.
func (s *Server) Has(ctx context.Context, database, query string) error {
	db, err := sql.Open("pgx", s.URL("postgres", database))
	if err != nil {
		return err
	}
	defer db.Close()
	var one int
	return db.QueryRowContext(ctx, query).Scan(&one)
}
