// Package dextest runs the identity provider dex, for tests of sign-ins.
package dextest

import (
	"bufio"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// Start builds and runs dex until the test ends, and returns its issuer's URL. Its
// clients are hyper2kvm with the secret "secret", whose browsers may be sent back to
// callbacks, and public without one, to any port of localhost. Who comes is kilgore@kilgore.trout, of the group
// authors, without being asked. ID tokens are valid for ten minutes.
func Start(tb testing.TB, callbacks ...string) (issuer string) {
	tb.Helper()
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		tb.Fatal("it is not known where this package is")
	}
	program := filepath.Join(tb.TempDir(), "dex")
	build := exec.CommandContext(tb.Context(), "go", "build", "-trimpath", "-o", program, ".")
	build.Dir = filepath.Join(filepath.Dir(file), "testdata", "dex")
	build.Env = append(build.Environ(), "GOWORK=off", "GOFLAGS=-buildvcs=false", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		tb.Fatalf("build dex: %v\n%s", err, out)
	}
	dex := exec.CommandContext(tb.Context(), program, callbacks...)
	in, err := dex.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := dex.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := dex.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = in.Close()
		_ = dex.Process.Kill()
		_ = dex.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		tb.Fatalf("dex says %q: %v", line, err)
	}
	return strings.TrimSpace(line)
}
