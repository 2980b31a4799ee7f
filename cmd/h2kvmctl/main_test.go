package main

import (
	"context"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/hyper2kvm/hyper2kvm/client"
	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/api/apitest"
	"github.com/hyper2kvm/hyper2kvm/daemon/limits"
	"github.com/hyper2kvm/hyper2kvm/transfer"
)

var update = flag.Bool("update", false, "rewrite the scripts' golden files")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"h2kvmctl": main})
}

// shares are limits that three daemons share.
type shares struct{ rate atomic.Int64 }

func (s *shares) Limit() int64 { return s.rate.Load() }

func (s *shares) SetLimit(_ context.Context, bytesPerSecond int64) error {
	s.rate.Store(bytesPerSecond)
	return nil
}

func (s *shares) Holdings(context.Context) ([]limits.Holding, error) {
	rate := s.rate.Load()
	return []limits.Holding{
		{Name: "bandwidth of site dc1", Owner: "0a1b2c3d", Limit: rate, Held: rate / 2},
		{Name: "bandwidth of site dc1", Owner: "4e5f6071", Limit: rate, Held: rate / 2},
		{Name: "disks of vCenter prod", Owner: "0a1b2c3d", Limit: 8, Held: 5},
		{Name: "disks of vCenter prod", Owner: "82939aab", Limit: 8, Held: 3, Waiting: 12},
		{Name: "disks of host \x1b[31mesx01\x1b[0m", Owner: "82939aab", Limit: 4, Held: 3, Waiting: 1},
	}, nil
}

// TestScripts runs each script of testdata against a daemon of its own; that of the one
// called shared has its limits in common with others. VMs whose name begins with ok
// complete, those with fail fail, those with locked wait for a login that is refused,
// others run on.
func TestScripts(t *testing.T) {
	t.Parallel()
	examples, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exit1": exits(1), "exit2": exits(2), "exit3": exits(3), "exit4": exits(4),
			"waits": waits,
		},
		Setup: func(e *testscript.Env) error {
			o := api.Options{Inventory: inventory{}, Bandwidth: transfer.NewLimiter(0, nil)}
			if strings.HasSuffix(e.WorkDir, "-shared") {
				o.Shares = new(shares)
			}
			d := apitest.Start(e.T().(testing.TB), o)
			e.Setenv("H2KVM_DAEMON", d.URL)
			e.Setenv("TOP", examples)
			e.Setenv("TZ", "UTC")
			e.Setenv("GORACE", "atexit_sleep_ms=0") // a program that ends need not wait for reports
			e.Setenv("TERM", os.Getenv("TERM"))
			return nil
		},
	})
}

// exits is a script's command that wants a program to end with this exit code.
func exits(code int) func(ts *testscript.TestScript, neg bool, args []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		var exit *exec.ExitError
		err := ts.Exec(args[0], args[1:]...)
		if !errors.As(err, &exit) || exit.ExitCode() != code {
			ts.Fatalf("%v, want exit code %d", err, code)
		}
	}
}

// waits is a script's command that returns when a job waits for its vCenter.
func waits(ts *testscript.TestScript, _ bool, args []string) {
	c, err := client.New(ts.Getenv("H2KVM_DAEMON"), client.Options{})
	ts.Check(err)
	defer c.Close()
	for ; ; <-time.After(20 * time.Millisecond) { // it has no other way to tell
		j, err := c.Job(context.Background(), args[0])
		ts.Check(err)
		if j.WaitingFor != "" {
			return
		}
	}
}
