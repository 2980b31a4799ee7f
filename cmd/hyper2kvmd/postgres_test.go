package main

import (
	"context"
	"os"
	"path/filepath"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/hyper2kvm/hyper2kvm/daemon/store/postgres/pgtest"
)

// startPostgres starts a server for a script, whose database is $DB, or $DB_WITH_PASSWORD for a
// user who needs the password in $WORK/pw, as $WORK/config.yaml has it.
func startPostgres(ts *testscript.TestScript, _ bool, _ []string) {
	s, err := pgtest.Start(context.Background())
	ts.Check(err)
	ts.Defer(func() { ts.Check(s.Close()) })
	ts.Check(s.Make(context.Background(), "shared", "password"))
	ts.Setenv("DB", s.URL("postgres", "shared"))
	ts.Setenv("DB_WITH_PASSWORD", s.URL("password", "shared"))
	password := filepath.Join(ts.Getenv("WORK"), "pw")
	ts.Check(os.WriteFile(password, []byte(pgtest.Password+"\n"), 0o600))
	config := "store:\n  url: " + s.URL("password", "shared") + "\n  password_file: " + password + "\n"
	ts.Check(os.WriteFile(filepath.Join(ts.Getenv("WORK"), "config.yaml"), []byte(config), 0o600))
}
