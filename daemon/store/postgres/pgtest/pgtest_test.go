package pgtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// panics is set for a program that starts a server and then panics.
const panics = "PGTEST_PANICS"

func TestMain(m *testing.M) {
	if os.Getenv(panics) != "" {
		s, err := Start(context.Background())
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(s.keeper.Process.Pid, s.dir)
		_, _ = os.Stdin.Read(make([]byte, 1))
		panic("a test that goes wrong")
	}
	os.Exit(m.Run())
}

func TestAServerEndsWithAProgramThatPanics(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), panics+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	pid, dir, _ := strings.Cut(strings.TrimSpace(line), " ")
	keeper, err2 := strconv.Atoi(pid)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	first, _, _ := strings.Cut(string(data), "\n")
	server, err2 := strconv.Atoi(first)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	var processes []int // that nobody here can wait for
	for _, pid := range []int{server, keeper} {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		processes = append(processes, fd)
	}
	_ = in.Close()
	if err := cmd.Wait(); err == nil {
		t.Error("the program did not panic")
	}
	for _, fd := range processes {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}} //nolint:gosec // a descriptor is small
		for {
			n, err := unix.Poll(p, 30_000)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if n != 1 || err != nil {
				t.Errorf("a process is left: %v", err)
			}
			break
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is left: %v", dir, err)
	}
}

func TestStatementsAreCountedHoweverTheyArePacked(t *testing.T) {
	t.Parallel()
	said := []byte("\x00\x00\x00\x0c\x00\x03\x00\x00user" + // the opening
		"Q\x00\x00\x00\x0aBEGIN\x00" +
		"P\x00\x00\x00\x08E\x00\x00\x00B\x00\x00\x00\x06EQE\x00\x00\x00\x09\x00\x00\x00\x00\x00S\x00\x00\x00\x04" +
		"Q\x00\x00\x00\x0bCOMMIT\x00X\x00\x00\x00\x04")
	for size := 1; size <= len(said); size++ {
		var c counter
		var n int64
		for part := range slices.Chunk(said, size) {
			n += c.in(part)
		}
		if n != 3 {
			t.Errorf("in parts of %d bytes there are %d statements, want 3", size, n)
		}
	}
}
