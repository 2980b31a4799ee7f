package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// built is where the program is; TestMain removes it.
var built string

// build builds the program once, as it is shipped: without the race detector and cgo.
var build = sync.OnceValue(func() error {
	cmd := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(built, "hyper2kvm"), ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
})

// program returns the path of the built program.
func program(t testing.TB) string {
	t.Helper()
	if err := build(); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(built, "hyper2kvm")
}

// command is the program with a lab as its vCenter.
func command(program string, lab *vspheretest.Server, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), lab.Env()...)
	return cmd
}

// sparse makes a raw disk of that size with a MiB of data at each offset.
func sparse(t *testing.T, size int64, offsets ...int64) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for i, off := range offsets {
		if _, err := f.WriteAt(bytes.Repeat([]byte{byte(i + 1), 7, 0, 1}, 1<<18), off); err != nil {
			t.Fatal(err)
		}
	}
	return f.Name()
}

// peak runs cmd and returns its peak resident memory in KiB. A process starts
// with the peak of the one that it was started from, so a small one, not this
// one, starts it.
func peak(t *testing.T, cmd *exec.Cmd) int64 {
	t.Helper()
	const start = `import os, sys
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(pid, 0)
print("peak", usage.ru_maxrss, file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))`
	measured := exec.Command("/usr/bin/python3", append([]string{"-c", start, cmd.Path}, cmd.Args[1:]...)...)
	measured.Env = cmd.Env
	var told bytes.Buffer
	measured.Stderr = &told
	if out, err := measured.Output(); err != nil {
		t.Fatalf("%v\n%s%s", err, out, &told)
	}
	var kib int64
	if _, err := fmt.Sscanf(told.String(), "peak %d", &kib); err != nil {
		t.Fatalf("%v in %q", err, &told)
	}
	return kib
}

func TestMemoryStaysFlatWhateverTheSizeOfTheDisk(t *testing.T) {
	t.Parallel()
	program := program(t)
	const limit = 128 << 10 // KiB
	var everywhere []int64  // a MiB in each 16 GiB: many tables
	for off := int64(0); off < 2<<40; off += 16 << 30 {
		everywhere = append(everywhere, off)
	}
	disk := sparse(t, 2<<40, everywhere...)
	for _, profile := range []vspheretest.Profile{vspheretest.Stream, vspheretest.Ranged} {
		lab := vspheretest.Start(t, vspheretest.Config{Profile: profile, VMs: []vspheretest.VM{{Name: "big", Disks: []vspheretest.Disk{{Path: disk}}}}})
		for _, format := range []string{"ovf", "raw", "qcow2"} {
			rss := peak(t, command(program, lab, "export", "-vm", "big", "-output", filepath.Join(t.TempDir(), "out"), "-format", format, "-parallel", "8"))
			t.Logf("%s, %s: %d MiB", profile, format, rss>>10)
			if rss > limit {
				t.Errorf("%s, %s: peak of %d MiB", profile, format, rss>>10)
			}
		}
	}
}

func TestInterruptCleansUpAndTheNextRunGoesOn(t *testing.T) {
	t.Parallel()
	// Programs that nohup starts ignore SIGHUP, and so do theirs, as a person wants it. What
	// is caught here is not ignored there.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP)
	t.Cleanup(func() { signal.Stop(caught) })
	program := program(t)
	for _, c := range []struct {
		name string
		sig  os.Signal
		code int // -1: killed
	}{{"interrupt", os.Interrupt, exitInterrupted}, {"termination", syscall.SIGTERM, exitInterrupted}, {"a terminal that goes away", syscall.SIGHUP, exitInterrupted}, {"kill", os.Kill, -1}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			first, second := sparse(t, 8<<20, 0, 4<<20), sparse(t, 8<<20, 0, 2<<20, 6<<20)
			lab := vspheretest.Start(t, vspheretest.Config{Faults: []string{"stall:at=2KB,disk=1"}, VMs: []vspheretest.VM{{
				Name: "erp", Disks: []vspheretest.Disk{{Path: first}, {Path: second}},
			}}})
			out := filepath.Join(t.TempDir(), "out")
			args := []string{"export", "-vm", "erp", "-output", out, "-format", "qcow2", "-parallel", "1"}
			cmd := command(program, lab, args...)
			var told strings.Builder
			cmd.Stdout, cmd.Stderr = &told, &told
			stalled := lab.ByteReached("erp", 1, 1000)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			<-stalled
			if err := cmd.Process.Signal(c.sig); err != nil {
				t.Fatal(err)
			}
			var exit *exec.ExitError
			if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != c.code {
				t.Fatalf("%v, want exit code %d\n%s", err, c.code, &told)
			}
			if c.code != -1 && len(lab.Leases()) > 0 {
				t.Errorf("a lease is left: %v", lab.Leases())
			}
			if found, _ := filepath.Glob(filepath.Join(out, "[^.]*")); len(found) > 0 {
				t.Errorf("files with final names: %v", found)
			}
			served := lab.BytesServed("erp", 0)
			if again, err := command(program, lab, args...).CombinedOutput(); err != nil {
				t.Fatalf("the second run: %v\n%s", err, again)
			}
			if lab.BytesServed("erp", 0) != served {
				t.Error("the finished disk was fetched again")
			}
			for i, raw := range []string{first, second} {
				image := filepath.Join(out, fmt.Sprintf("erp-disk-%d.qcow2", i))
				if text, err := exec.Command("qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw, image).CombinedOutput(); err != nil {
					t.Errorf("%v\n%s", err, text)
				}
			}
			if len(lab.Leases()) > 0 {
				t.Errorf("a lease is left: %v", lab.Leases())
			}
		})
	}
}

// As in "hyper2kvm export … | tee log", when tee dies.
func TestAReaderOfTheOutputThatGoesAwayDoesNotEndTheExportHalfway(t *testing.T) {
	t.Parallel()
	raw := sparse(t, 8<<20, 0, 4<<20)
	lab := vspheretest.Start(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "erp", Disks: []vspheretest.Disk{{Path: raw}}}}})
	out := filepath.Join(t.TempDir(), "out")
	cmd := command(program(t), lab, "-json", "export", "-vm", "erp", "-output", out, "-format", "qcow2")
	told, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := told.Read(make([]byte, 1)); err != nil { // it has begun
		t.Fatal(err)
	}
	if err := told.Close(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // that its words were lost may be an error
	if !cmd.ProcessState.Exited() {
		t.Errorf("the process was ended by %v", cmd.ProcessState)
	}
	if text, err := exec.Command("qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw, filepath.Join(out, "erp-disk-0.qcow2")).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
	if len(lab.Leases()) > 0 {
		t.Errorf("a lease is left: %v", lab.Leases())
	}
}
