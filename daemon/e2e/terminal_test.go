package e2e

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// terminal makes a pseudo-terminal of 160 columns; screen is what people see,
// and tty is what a program gets.
func terminal(t *testing.T) (screen, tty *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatalf("no pseudo-terminals: %v", err)
	}
	t.Cleanup(func() { _ = screen.Close() })
	n, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(int(screen.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 50, Col: 160})
	}
	if err != nil {
		t.Fatalf("no pseudo-terminals: %v", err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return screen, tty
}

// onTerminal starts a program whose standard output is a terminal, and returns
// what it shows up to its end or up to the text until.
func onTerminal(t *testing.T, cmd *exec.Cmd, until string) string {
	t.Helper()
	screen, tty := terminal(t)
	cmd.Stdout = tty
	cmd.Env = append(os.Environ(), "TERM=xterm-256color", "NO_COLOR=", "CI=")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = tty.Close()
	var shown bytes.Buffer
	buf := make([]byte, 4096)
	for until == "" || !strings.Contains(shown.String(), until) {
		n, err := screen.Read(buf) // EIO when the program has gone
		shown.Write(buf[:n])
		if err != nil {
			break
		}
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	go func() { _, _ = io.Copy(io.Discard, screen) }() // ends with the program
	_ = cmd.Wait()
	return shown.String()
}

func TestOnATerminalTheDaemonShowsItsEndpointsAndTheToolDrawsBoxes(t *testing.T) {
	t.Parallel()
	lab := startLab(t, vspheretest.Config{})
	h := newHome(t, lab)
	banner := onTerminal(t, exec.Command(program(t, "hyper2kvmd"),
		"-addr", "127.0.0.1:0", "-config", h.config, "-state-dir", h.out("state"), "-log-level", "error"), "Listening on http://")
	for _, e := range api.Endpoints() {
		if !strings.Contains(banner, e.Path) {
			t.Errorf("the banner does not show %s:\n%s", e.Path, banner)
		}
	}
	d := h.start()
	status := onTerminal(t, exec.Command(program(t, "h2kvmctl"), "-daemon", d.BaseURL(), "status"), "")
	for _, want := range []string{"# Daemon Status", "│", "Total Jobs", "SUCCESS"} {
		if !strings.Contains(status, want) {
			t.Errorf("status on a terminal does not show %q:\n%s", want, status)
		}
	}
}
