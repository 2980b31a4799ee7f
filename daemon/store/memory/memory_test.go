package memory_test

import (
	"testing"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/memory"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/storetest"
)

func TestStoreConforms(t *testing.T) {
	t.Parallel()
	storetest.Suite{Open: func(*testing.T) jobs.Store { return memory.New() }}.Run(t)
}
