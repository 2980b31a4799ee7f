package postgres_test

import (
	"context"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/daemon/store/postgres"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/storetest"
)

// BenchmarkStore measures against a server that syncs nothing: what a commit costs on a
// disk comes on top.
func BenchmarkStore(b *testing.B) {
	o := postgres.Options{URL: server.URL("postgres", server.Database(b, "postgres"))}
	beside := open(b, o)
	storetest.Bench{
		Open: func(b *testing.B) storetest.ClosingStore {
			s, err := postgres.Open(b.Context(), o)
			if err != nil {
				b.Fatal(err)
			}
			return s
		},
		Exec: func(ctx context.Context, statement string) error { return beside.Exec(ctx, statement) },
	}.Run(b)
}
