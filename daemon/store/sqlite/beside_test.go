package sqlite_test

import (
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/sqlite"
)

// beside opens a state file beside its daemon and closes it when the test ends.
func beside(t *testing.T, path string) *sqlite.Beside {
	t.Helper()
	b, err := sqlite.OpenBeside(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func newToken(t *testing.T, name string) access.Token {
	t.Helper()
	token, _, err := access.NewToken(name, access.Viewer, time.Now(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestTokensAreMadeBesideADaemonWhichSeesThemAtOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	daemon := open(t, path)
	b := beside(t, path)
	token := newToken(t, "ci")
	if err := b.Tokens().Create(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	if got, err := daemon.Tokens().ByID(t.Context(), token.ID); err != nil || got.Name != "ci" {
		t.Errorf("%+v, %v", got, err)
	}
	if err := b.Tokens().Revoke(t.Context(), "ci", time.Now()); err != nil {
		t.Fatal(err)
	}
	if got, err := daemon.Tokens().ByID(t.Context(), token.ID); err != nil || got.Revoked.IsZero() {
		t.Errorf("%+v, %v", got, err)
	}
	if notes, err := daemon.Check(t.Context()); err != nil || len(notes) > 0 {
		t.Errorf("the daemon notices %v, %v", notes, err)
	}
}

func TestTokensAreMadeBeforeTheFirstStart(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	b := beside(t, path)
	if err := b.Tokens().Create(t.Context(), newToken(t, "ci")); err != nil {
		t.Fatal(err)
	}
	daemon := open(t, path) // which nothing keeps from starting
	if had, err := daemon.Tokens().Any(t.Context()); !had || err != nil {
		t.Errorf("%v, %v", had, err)
	}
}

func TestADatabaseOfAnOlderProgramIsBroughtUpToDateUnlessItsDaemonRuns(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	old, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	db := raw(t, path)
	setBack(t, db, 3)
	if _, err := sqlite.OpenBeside(t.Context(), path); !errors.Is(err, sqlite.ErrLocked) || !strings.Contains(err.Error(), "restart it first") {
		t.Errorf("beside a daemon of an older version: %v", err)
	}
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := beside(t, path).Audit().After(t.Context(), 0, 1); err != nil {
		t.Error(err)
	}
	if _, err := db.ExecContext(t.Context(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, 1)`); err != nil {
		t.Fatal(err)
	}
	if _, err := sqlite.OpenBeside(t.Context(), path); !errors.Is(err, sqlite.ErrNewerSchema) {
		t.Errorf("a database of a newer program: %v", err)
	}
}

// setBack makes an empty database of that version of the schema.
func setBack(t *testing.T, db *sql.DB, version int64) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), `SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var drop []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		drop = append(drop, `DROP TABLE "`+name+`"`)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	for _, statement := range drop {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	migrate(t, db, version)
}

// raw opens a database as any program could.
func raw(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func TestAuditEntriesAreNeitherChangedNorRemovedByMistake(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	open(t, path)
	db := raw(t, path)
	for _, c := range []struct {
		statement string
		fails     bool
	}{
		{`INSERT INTO audit VALUES (1, x'00', x'00')`, false},
		{`UPDATE audit SET data = x'01'`, true},
		{`DELETE FROM audit`, true},
		{`INSERT OR REPLACE INTO audit VALUES (1, x'00', x'01')`, false}, // SQLite runs no trigger for it; the hashes find it
	} {
		if _, err := db.ExecContext(t.Context(), c.statement); (err != nil) != c.fails {
			t.Errorf("%s: %v", c.statement, err)
		}
	}
}
