package sqlite_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/daemon/store/sqlite"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/storetest"
)

func BenchmarkStore(b *testing.B) {
	path := filepath.Join(b.TempDir(), "state.db")
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=foreign_keys(1)&_pragma=busy_timeout(5000)")
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	storetest.Bench{
		Open: func(b *testing.B) storetest.ClosingStore {
			s, err := sqlite.Open(b.Context(), path)
			if err != nil {
				b.Fatal(err)
			}
			return s
		},
		Exec: func(ctx context.Context, statement string) error {
			_, err := db.ExecContext(ctx, statement)
			return err
		},
	}.Run(b)
}
