package vddk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/internal/process/processtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// script is a Tool whose nbdkit does what text says.
func script(t *testing.T, text string) Tool {
	t.Helper()
	dir := t.TempDir()
	tool := Tool{LibDir: dir, Nbdkit: filepath.Join(dir, "nbdkit")}
	processtest.Script(t, tool.Nbdkit, text)
	if err := errors.Join(
		os.Mkdir(filepath.Join(dir, "lib64"), 0o700),
		os.WriteFile(filepath.Join(dir, "lib64", "libvixDiskLib.so.8"), nil, 0o600),
	); err != nil {
		t.Fatal(err)
	}
	return tool
}

// left are the directories of servers in t's own directory for temporary files.
func left(t *testing.T, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "hyper2kvm-vddk-*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestAnNbdkitThatWillNotEndIsKilledAndNothingOfItIsLeft(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	said := make(chan string, 8)
	s := script(t, "trap '' TERM\necho ready >&2\nwhile :; do sleep 60; done").Serve(Disk{}, func(line string) { said <- line })
	s.late = 10 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	dialed := make(chan error, 1)
	go func() {
		_, err := s.Dial(ctx)
		dialed <- err
	}()
	if line := <-said; line != "nbdkit: ready" {
		t.Errorf("it says %q", line)
	}
	cancel()
	if err := <-dialed; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	process := s.process
	s.Close()
	if !process.over() || len(left(t, dir)) > 0 {
		t.Errorf("over: %t; left: %v", process.over(), left(t, dir))
	}
	if _, err := s.Dial(t.Context()); !errors.Is(err, errClosed) {
		t.Errorf("error %v", err)
	}
}

func TestWhatADeadNbdkitHasSaidIsItsErrorWithoutThePassword(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	const password = "hunter2 & co"
	var told []string
	s := script(t, `for a; do case $a in password=+*) sed 's/^/error: login with /; s/$/ failed\x1b[2J/' "${a#password=+}" >&2;; esac; done
i=0; while [ $i -lt 300 ]; do echo "line $i" >&2; i=$((i+1)); done; echo last >&2; exit 3`).Serve(Disk{Password: password}, func(line string) { told = append(told, line) })
	_, err := s.Dial(t.Context())
	s.Close()
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "last") {
		t.Fatalf("error %v", err)
	}
	all := fmt.Sprint(err, told)
	if strings.Contains(all, password) || strings.ContainsRune(all, 0x1b) || !strings.Contains(all, "[password]") {
		t.Errorf("told: %s", all)
	}
	if len(told) != maxLines {
		t.Errorf("%d lines are told", len(told))
	}
	if len(left(t, dir)) > 0 {
		t.Errorf("left: %v", left(t, dir))
	}
}

func TestALongLineIsCutAndShowsNoPartOfThePassword(t *testing.T) {
	t.Parallel()
	for pad := range 40 {
		said := tail{secret: "correct horse battery staple"}
		_, _ = said.Write([]byte(strings.Repeat("x", maxLine-pad) + said.secret + strings.Repeat("y", 2000) + "\nnext"))
		said.end()
		text := said.quoted()
		if strings.Contains(text, "horse") || strings.Contains(text, "correc") || !strings.Contains(text, "next") || len(text) > 2*maxLine {
			t.Fatalf("%d: %s", pad, text)
		}
	}
}

func TestAPasswordThatNoFileCanSayIsRefused(t *testing.T) {
	t.Parallel()
	s := script(t, "exit 0").Serve(Disk{Password: "a\nb"}, nil)
	defer s.Close()
	if _, err := s.Dial(t.Context()); !errors.Is(err, errPassword) || !fault.IsPermanent(err) {
		t.Errorf("error %v", err)
	}
}

func TestAPluginThatDoesNotWorkIsSaidWithWhatItSays(t *testing.T) {
	t.Parallel()
	err := script(t, "echo 'libvixDiskLib.so.8: wrong ELF class' >&2; exit 1").Check(t.Context())
	if err == nil || !strings.Contains(err.Error(), "wrong ELF class") || !fault.IsPermanent(err) || fault.Hint(err) == "" {
		t.Errorf("error %v", err)
	}
	if err := script(t, `[ "$*" = "vddk libdir=${0%/*} --dump-plugin" ]`).Check(t.Context()); err != nil {
		t.Error(err)
	}
}
