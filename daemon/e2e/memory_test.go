package e2e

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// stranger is a user who is not root: files of a process in /proc are root's when
// nobody may look into it, and its user's otherwise.
const stranger = 65534

func TestTheDaemonsMemoryIsClosed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "hyper2kvmd")
	built, err := os.ReadFile(program(t, "hyper2kvmd"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, built, 0o755); err != nil { //nolint:gosec // another user runs it
		t.Fatal(err)
	}
	for _, open := range []bool{false, true} {
		state := filepath.Join(dir, fmt.Sprint("state-", open))
		if err := os.Mkdir(state, 0o700); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(path, "-addr", "127.0.0.1:0", "-state-dir", state)
		cmd.Dir, cmd.Env = dir, []string{}
		if open {
			cmd.Env = append(cmd.Env, "HYPER2KVM_DUMPABLE=1")
		}
		if os.Geteuid() == 0 {
			for _, d := range []string{state, dir, filepath.Dir(dir)} {
				if err := os.Chmod(d, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chown(state, stranger, stranger); err != nil {
				t.Fatal(err)
			}
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: stranger, Gid: stranger}}
		}
		log, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for s := bufio.NewScanner(log); s.Scan() && !strings.Contains(s.Text(), "is listening"); {
			t.Log(s.Text())
		}
		closed(t, cmd.Process.Pid, open)
		_ = cmd.Process.Kill() // there is nothing to end in good order
		_ = cmd.Wait()
	}
}

// closed checks that the memory of a process is closed to its own user, or open.
func closed(t *testing.T, pid int, open bool) {
	t.Helper()
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, cores, _ := strings.Cut(string(limits), "Max core file size")
	if fields := strings.Fields(cores); !open && (fields[0] != "0" || fields[1] != "0") {
		t.Errorf("core files may have %s bytes, %s at most", fields[0], fields[1])
	}
	info, err := os.Stat(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	if owner := info.Sys().(*syscall.Stat_t).Uid; (owner == 0) == open {
		t.Errorf("with HYPER2KVM_DUMPABLE=1 %v: the memory belongs to uid %d", open, owner)
	}
}
