package vspheretest

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
)

// Govc is govmomi's own command line client, built for a test run: a client
// that owes nothing to this project.
type Govc struct {
	once sync.Once
	dir  string
	err  error
	out  []byte
}

// Path builds the client at its first call and returns the program's path. The
// test fails when it cannot be built. Remove deletes it.
func (g *Govc) Path(tb testing.TB) string {
	tb.Helper()
	g.once.Do(g.build)
	if g.err != nil {
		tb.Fatalf("build govc: %v\n%s", g.err, g.out)
	}
	return filepath.Join(g.dir, "govc")
}

func (g *Govc) build() {
	_, file, _, _ := runtime.Caller(0)
	if g.dir, g.err = os.MkdirTemp("", "lab-govc-"); g.err != nil {
		return
	}
	cmd := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(g.dir, "govc"), ".")
	cmd.Dir = filepath.Join(filepath.Dir(file), "govc")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOWORK=off")
	g.out, g.err = cmd.CombinedOutput()
}

// Remove deletes the program, if it was built. Call it at the end of TestMain.
func (g *Govc) Remove() {
	if g.dir != "" {
		_ = os.RemoveAll(g.dir)
	}
}

// Command prepares a call of the client against srv.
func (g *Govc) Command(tb testing.TB, srv *Server, args ...string) *exec.Cmd {
	tb.Helper()
	cmd := exec.CommandContext(tb.Context(), g.Path(tb), args...)
	cmd.Env = append(os.Environ(), srv.Env()...)
	cmd.Env = append(cmd.Env, "GOVMOMI_HOME="+g.dir, "GOVC_PERSIST_SESSION=false")
	return cmd
}
