package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/postgres"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/postgres/pgtest"
	"github.com/hyper2kvm/hyper2kvm/internal/volume/volumetest"
)

// eventually calls f until it succeeds; the test's own deadline bounds that.
func eventually(t *testing.T, f func() error) {
	t.Helper()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-t.Context().Done():
			t.Fatal(err)
		case <-again.C:
		}
	}
}

func TestAFailoverToAStandbyIsFollowed(t *testing.T) {
	t.Parallel()
	first, err := pgtest.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	const name = "followed"
	if err := first.Make(t.Context(), name, "postgres"); err != nil {
		t.Fatal(err)
	}
	second, err := first.Replica(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	s, err := postgres.Open(t.Context(), postgres.Options{URL: first.URL("postgres", name) + "," + second.Host()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	create(t, s, "a")
	running := claim(t, s, "owner")
	eventually(t, func() error { // the standby has it
		beside, err := postgres.Open(t.Context(), postgres.Options{URL: second.URL("postgres", name)})
		if err == nil {
			return errors.Join(errors.New("a standby was opened as if it could be written"), beside.Close())
		}
		if troubleOf(err) != jobs.TroubleReadOnly {
			return err
		}
		return nil
	})
	eventually(t, func() error {
		return second.Has(t.Context(), name, `SELECT 1 FROM jobs WHERE id = 'a' AND owner = 'owner'`)
	})
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Check(t.Context()); troubleOf(err) == "" {
		t.Errorf("while there is only a standby: %v", err)
	}
	second.Exec(t, "postgres", `SELECT pg_promote()`)
	eventually(t, func() error { _, err := s.Check(t.Context()); return err })
	if _, err := s.Heartbeat(t.Context(), running.Claim, jobs.Beat{Hold: time.Hour}); err != nil {
		t.Errorf("the claim did not survive: %v", err)
	}
}

func TestADatabaseWithoutSpaceIsToldOfAndHeals(t *testing.T) {
	t.Parallel()
	own, err := pgtest.Start(t.Context()) // what others write would not fit either
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	dir := volumetest.Tiny(t, 24<<20)
	for at := dir; at != os.TempDir() && at != "/"; at = filepath.Dir(at) { // the server is to get there
		if err := os.Chmod(at, 0o755); err != nil { //nolint:gosec // only on its way
			t.Fatal(err)
		}
	}
	space := filepath.Join(dir, "space")
	if err := errors.Join(os.Mkdir(space, 0o700), own.Own(space)); err != nil {
		t.Fatal(err)
	}
	own.Exec(t, "postgres", `CREATE TABLESPACE tiny LOCATION '`+space+`'`)
	own.Exec(t, "postgres", `CREATE DATABASE cramped TABLESPACE tiny`)
	s, err := postgres.Open(t.Context(), postgres.Options{URL: own.URL("postgres", "cramped")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	create(t, s, "first")
	filler := filepath.Join(dir, "filler")
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 8<<10))
	}
	_ = f.Close()
	var full error
	for n := 0; full == nil; n++ {
		batch := make([]jobs.NewJob, 100)
		for i := range batch {
			batch[i].Definition = def(fmt.Sprintf("%d-%d", n, i))
		}
		full = s.Create(t.Context(), batch)
	}
	if troubleOf(full) != jobs.TroubleFull || !strings.Contains(full.Error(), "no space left") {
		t.Errorf("Create = %v", full)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	create(t, s, "last")
	if got := get(t, s, "first").Definition.ID + get(t, s, "last").Definition.ID; got != "firstlast" {
		t.Errorf("there are %s", got)
	}
}

func TestAServerThatTakesNoMoreConnectionsIsToldOfAndHeals(t *testing.T) {
	t.Parallel()
	server.Exec(t, "postgres", `CREATE ROLE crowded LOGIN`)
	t.Cleanup(func() { server.Remove(t, `DROP ROLE crowded`) })
	name := server.Database(t, "crowded")
	s := open(t, postgres.Options{URL: server.URL("crowded", name)})
	create(t, s, "a")
	server.Exec(t, "postgres", `ALTER ROLE crowded CONNECTION LIMIT 0`)
	server.Exec(t, "postgres", `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'crowded'`)
	if _, err := s.Check(t.Context()); troubleOf(err) != jobs.TroubleBusy || !strings.Contains(err.Error(), "too many connections") {
		t.Errorf("Check = %v", err)
	}
	server.Exec(t, "postgres", `ALTER ROLE crowded CONNECTION LIMIT -1`)
	if _, err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if c := claim(t, s, "owner"); c.Claim.JobID != "a" {
		t.Errorf("claimed %+v", c.Claim)
	}
}

func TestAPasswordThatIsChangedWhileADaemonRunsIsReadAgain(t *testing.T) {
	t.Parallel()
	server.Exec(t, "postgres", `CREATE ROLE rotates LOGIN PASSWORD 'one'`)
	t.Cleanup(func() { server.Remove(t, `DROP ROLE rotates`) })
	name := server.Database(t, "rotates")
	var password atomic.Pointer[string]
	one, two := "one", "two"
	password.Store(&one)
	s := open(t, postgres.Options{URL: server.URL("rotates", name), Password: func(context.Context) (string, error) { return *password.Load(), nil }})
	create(t, s, "a")
	server.Exec(t, "postgres", `ALTER ROLE rotates PASSWORD 'two'`)
	if _, err := s.Check(t.Context()); err != nil {
		t.Errorf("connections that are there go on: %v", err)
	}
	server.Exec(t, "postgres", `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'rotates'`)
	if _, err := s.Check(t.Context()); troubleOf(err) != jobs.TroubleDenied || !strings.Contains(err.Error(), "refuses the password") {
		t.Errorf("Check = %v", err)
	}
	password.Store(&two)
	if _, err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if c := claim(t, s, "owner"); c.Claim.JobID != "a" {
		t.Errorf("claimed %+v", c.Claim)
	}
}
