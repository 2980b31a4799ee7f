package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// sample is what one process, or several one after the other, took.
type sample struct {
	Seconds float64 `json:"seconds"`
	CPU     float64 `json:"cpu_seconds"`   // user and system
	RSS     int64   `json:"peak_rss"`      // bytes, of the largest
	Written int64   `json:"bytes_written"` // to storage
	// Deviation is how far off a wanted bandwidth it was at worst, in percent.
	Deviation float64 `json:"deviation_percent,omitempty"`
}

// then is s followed by t.
func (s sample) then(t sample) sample {
	return sample{s.Seconds + t.Seconds, s.CPU + t.CPU, max(s.RSS, t.RSS), s.Written + t.Written, max(s.Deviation, t.Deviation)}
}

// measureProcess runs a program to its end and returns what it took and printed. A
// program that fails is an error with what it printed on its error output.
func measureProcess(ctx context.Context, env []string, argv ...string) (sample, []byte, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	var s sample
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return s, nil, err
	}
	// Its I/O can be read as long as it has ended and nobody has asked why.
	waitErr := waitEnd(cmd.Process.Pid)
	s.Seconds = time.Since(began).Seconds()
	written, ioErr := writtenBy(cmd.Process.Pid)
	s.Written = written
	if err := cmd.Wait(); err != nil {
		return s, nil, fmt.Errorf("%s: %w\n%s%s", strings.Join(argv, " "), err, errOut.Bytes(), out.Bytes())
	}
	usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	s.CPU = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	s.RSS = usage.Maxrss << 10
	return s, out.Bytes(), errors.Join(waitErr, ioErr)
}

// waitEnd waits until a child has ended and leaves it to be waited for.
func waitEnd(pid int) error {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return err
		}
	}
}

// writtenBy returns the bytes of storage that a process has dirtied or written.
func writtenBy(pid int) (int64, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "io"))
	if err != nil {
		return 0, err
	}
	var total int64
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		n, _ := strconv.ParseInt(value, 10, 64) // the kernel writes numbers
		switch key {
		case "write_bytes":
			total += n
		case "cancelled_write_bytes":
			total -= n
		}
	}
	return total, nil
}

// exec runs a program that is not measured and returns what it printed.
func (b *bench) exec(ctx context.Context, env []string, argv ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, out)
	}
	return out, nil
}

// flush writes everything dirty in dir's file system to its disk.
func flush(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Syncfs(int(d.Fd()))
}

// lab is a running lab vCenter.
type lab struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	out  bytes.Buffer
	env  []string // for clients
}

// startLab runs a lab vCenter and waits until it is ready.
func (b *bench) startLab(ctx context.Context, args ...string) (*lab, error) {
	envFile := filepath.Join(b.o.work, "lab.env")
	_ = os.Remove(envFile)
	l := &lab{done: make(chan struct{})}
	args = append([]string{"-addr", "127.0.0.1:0", "-env-file", envFile, "-temp-dir", b.o.work}, args...)
	l.cmd = exec.CommandContext(ctx, filepath.Join(b.o.bin, "labvcenter"), args...)
	l.cmd.Stdout, l.cmd.Stderr = &l.out, &l.out
	l.cmd.Cancel = func() error { return l.cmd.Process.Signal(syscall.SIGTERM) }
	if err := l.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = l.cmd.Wait() // how it ended does not matter once it was ready
		close(l.done)
	}()
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		select {
		case <-l.done:
			tick.Stop()
			return nil, fmt.Errorf("the lab vCenter did not start: %s", l.out.Bytes())
		case <-tick.C:
		}
		text, err := os.ReadFile(envFile)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		tick.Stop()
		if err != nil {
			l.stop()
			return nil, err
		}
		l.env = append(strings.Fields(string(text)),
			"GOVMOMI_HOME="+b.o.work, "GOVC_PERSIST_SESSION=false")
		return l, nil
	}
}

// stop ends the lab and waits for it.
func (l *lab) stop() {
	if l == nil {
		return
	}
	_ = l.cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
	<-l.done
}

// getenv looks a variable of the lab's clients up.
func (l *lab) getenv(name string) string {
	for _, v := range l.env {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}
