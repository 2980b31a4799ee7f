package memory_test

import (
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/memory"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/storetest"
)

func TestStoreConforms(t *testing.T) {
	t.Parallel()
	storetest.Suite{Open: func(_ *testing.T, wall func() time.Time) jobs.Store { return memory.NewAt(wall) }}.Run(t)
}
