package postgres_test

import (
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/audit"
	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/rates"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/postgres"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/postgres/pgtest"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/storetest"
)

var server *pgtest.Server

func TestMain(m *testing.M) {
	code := pgtest.Main(m, &server)
	if err := goleak.Find(); err != nil && code == 0 {
		println(err.Error())
		code = 1
	}
	os.Exit(code)
}

// open opens a store and closes it when the test ends.
func open(t testing.TB, o postgres.Options) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// fresh opens a store in a database of its own.
func fresh(t testing.TB) *postgres.Store {
	t.Helper()
	return open(t, postgres.Options{URL: server.URL("postgres", server.Database(t, "postgres"))})
}

// The server's clock cannot be set, so what the store makes of it is: Advance is time
// that goes by, and the wall clock is off the one that claims are measured by.
func TestStoreConforms(t *testing.T) {
	t.Parallel()
	var gone sync.Map // of a store: *atomic.Int64
	storetest.Suite{
		Open: func(t *testing.T, wall func() time.Time) jobs.Store {
			var by atomic.Int64
			o := postgres.Options{URL: server.URL("postgres", server.Database(t, "postgres"))}
			s := open(t, o.Shifted(func() (now, steady time.Duration) {
				steady = time.Duration(by.Load())
				return steady + time.Until(wall()), steady
			}))
			gone.Store(s, &by)
			return s
		},
		Advance: func(t *testing.T, s jobs.Store, d time.Duration) {
			by, _ := gone.Load(s)
			by.(*atomic.Int64).Add(int64(d))
		},
	}.Run(t)
}

func TestTokensConform(t *testing.T) {
	t.Parallel()
	storetest.Tokens(t, func(t *testing.T) access.Tokens { return fresh(t).Tokens() })
}

func TestAuditStoreConforms(t *testing.T) {
	t.Parallel()
	storetest.Audit(t, func(t *testing.T) audit.Store { return fresh(t).Audit() })
}

func TestRateStoreConforms(t *testing.T) {
	t.Parallel()
	storetest.Rates(t, func(t *testing.T) rates.Store { return fresh(t).Rates() })
}
