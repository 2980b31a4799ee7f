package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

// programs is where the built programs go; TestMain removes it.
var programs string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if programs, err = os.MkdirTemp("", "hyper2kvm-e2e-"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(programs) // a temporary directory
		code := m.Run()
		if code == 0 {
			if err := goleak.Find(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
		}
		return code
	}())
}

// built builds the programs once, as they are shipped: without cgo, paths, and the race
// detector even when the tests have it. So what `make build` has compiled serves again.
var built = sync.OnceValue(func() error {
	cmd := exec.Command("go", "build", "-trimpath", "-o", programs+string(filepath.Separator), "./cmd/hyper2kvm", "./cmd/hyper2kvmd", "./cmd/h2kvmctl",
		"./vsphere/vspheretest/labvcenter")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
})

// program returns the path of a built program.
func program(t testing.TB, name string) string {
	t.Helper()
	if err := built(); err != nil {
		t.Fatalf("build the programs: %v", err)
	}
	return filepath.Join(programs, name)
}
