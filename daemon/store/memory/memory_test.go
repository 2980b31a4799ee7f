package memory_test

import (
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/audit"
	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/rates"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/memory"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/storetest"
)

func TestStoreConforms(t *testing.T) {
	t.Parallel()
	storetest.Suite{Open: func(_ *testing.T, wall func() time.Time) jobs.Store { return memory.NewAt(wall) }}.Run(t)
}

func TestTokensConform(t *testing.T) {
	t.Parallel()
	storetest.Tokens(t, func(*testing.T) access.Tokens { return &memory.Tokens{} })
}

func TestAuditStoreConforms(t *testing.T) {
	t.Parallel()
	storetest.Audit(t, func(*testing.T) audit.Store { return &memory.Audit{} })
}

func TestRateStoreConforms(t *testing.T) {
	t.Parallel()
	storetest.Rates(t, func(*testing.T) rates.Store { return &memory.Rates{} })
}
