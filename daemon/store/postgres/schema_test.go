package postgres_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/postgres"
)

// newest is the version of this program's schema.
func newest(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("migrations")
	if err != nil || len(all) == 0 {
		t.Fatalf("%d migrations, %v", len(all), err)
	}
	var version int
	if _, err := fmt.Sscanf(all[len(all)-1].Name(), "%d_", &version); err != nil {
		t.Fatal(err)
	}
	return version
}

func TestEveryMigrationSaysWhichProgramsCanUseTheSchema(t *testing.T) {
	t.Parallel()
	s := fresh(t)
	for version := 3; version <= newest(t); version++ {
		// Division by zero is the error of a check that fails.
		check := fmt.Sprintf(`SELECT 1 / (SELECT count(*) FROM compatibility WHERE version = %d AND needs BETWEEN 3 AND version)`, version)
		if err := s.Exec(t.Context(), check); err != nil {
			t.Errorf("migration %d adds no line to table compatibility: %v", version, err)
		}
	}
}

// later makes a database as a later version of this program leaves it, which can be
// used from version needs on.
func later(t *testing.T, needs int) (o postgres.Options, have int) {
	t.Helper()
	name := server.Database(t, "postgres")
	o = postgres.Options{URL: server.URL("postgres", name)}
	open(t, o)
	have = newest(t) + 3
	server.Exec(t, name, fmt.Sprintf(`
		ALTER TABLE jobs ADD COLUMN later text NOT NULL DEFAULT '';
		ALTER TABLE daemons ADD COLUMN later text;
		CREATE TABLE later (id text);
		INSERT INTO goose_db_version (version_id, is_applied) VALUES (%d, true);
		INSERT INTO compatibility (version, needs) VALUES (%d, %d)`, have, have, needs))
	return o, have
}

func TestASchemaOfALaterVersionThatOnlyAddsToItIsUsedAsItIs(t *testing.T) {
	t.Parallel()
	o, _ := later(t, newest(t))
	for _, o.Beside = range []bool{false, true} {
		s := open(t, o)
		if s.New() {
			t.Error("it counts as new")
		}
		id := fmt.Sprint("beside ", o.Beside)
		if err := s.Create(t.Context(), []jobs.NewJob{{Definition: def(id)}}); err != nil {
			t.Fatal(err)
		}
		c, err := s.Claim(t.Context(), jobs.ClaimRequest{Owner: "o", Hold: time.Hour})
		if err != nil || c.Claim.JobID != id {
			t.Errorf("%+v, %v", c.Claim, err)
		}
		if _, err := s.Enter(t.Context(), jobs.Member{ID: id, Owner: id}, time.Hour, true); err != nil {
			t.Error(err)
		}
	}
}

func TestASchemaOfALaterVersionThatTookSomethingAwayIsRefused(t *testing.T) {
	t.Parallel()
	known := newest(t)
	o, have := later(t, known+2)
	s, err := postgres.Open(t.Context(), o)
	if err == nil {
		_ = s.Close()
	}
	if !errors.Is(err, postgres.ErrNewerSchema) {
		t.Fatalf("Open = %v, want ErrNewerSchema", err)
	}
	for _, want := range []string{fmt.Sprint("version ", have), fmt.Sprint("know version ", known+2), fmt.Sprint("up to ", known), "run a newer one"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q lacks %q", err, want)
		}
	}
}
