package tui_test

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// daemon builds and starts a hyper2kvmd for the vCenter in env, and returns its
// URL once it answers.
func daemon(t *testing.T, env []string) string {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "hyper2kvmd")
	build := exec.Command("go", "build", "-trimpath", "-o", program, "../cmd/hyper2kvmd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	cmd := exec.Command(program, "-addr", "127.0.0.1:0", "-state-dir", dir, "-log-format", "json")
	cmd.Env = append(os.Environ(), env...)
	logs, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(logs)
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		for lines.Scan() {
			t.Log(lines.Text())
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("the daemon ended badly: %v", err)
		}
	})
	for lines.Scan() {
		var said struct{ Msg, Addr string }
		if err := json.Unmarshal(lines.Bytes(), &said); err == nil && said.Msg == "hyper2kvmd is listening" {
			return "http://" + said.Addr
		}
		t.Log(lines.Text())
	}
	t.Fatalf("the daemon ended before it listened: %v", lines.Err())
	return ""
}

func TestTmuxWithADaemonOneLeavesAndComesBack(t *testing.T) {
	t.Parallel()
	raw := disk(t, 32<<20, 8<<20)
	srv, env := lab(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "web", Disks: []vspheretest.Disk{{Path: raw}}}}})
	reached, goOn := make(chan struct{}), make(chan struct{})
	srv.OnByte("web", 0, 1<<20, func() {
		close(reached)
		<-goOn
	})
	url := daemon(t, env)
	p := open(t, 100, 30, "H2KVM_DAEMON="+url)
	p.until("1 of 1", "web")
	p.keys("Enter")
	p.until("Output directory")
	out := filepath.Join(t.TempDir(), "vms")
	p.keys("Down", "C-u")
	p.text(out)
	p.until(out)
	p.keys("Enter")
	p.until("What happens", "h2kvmctl")
	p.keys("Enter")
	p.until("exporting")
	<-reached
	p.keys("C-c") // leaves; the job goes on
	p.until("ENDED WELL")
	if len(srv.Leases()) != 1 {
		t.Errorf("leaving the screen ended the job: leases %v", srv.Leases())
	}
	p.run(100, 30, asProgram+"=watch", "H2KVM_DAEMON="+url)
	p.until("exporting", "web")
	close(goOn)
	p.until("1 of 1 exported and verified")
	images, err := filepath.Glob(filepath.Join(out, "*.qcow2"))
	if err != nil || len(images) != 1 {
		t.Fatalf("images: %v, %v", images, err)
	}
	if text, err := exec.Command("qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw, images[0]).CombinedOutput(); err != nil {
		t.Errorf("the image is not the disk: %v: %s", err, text)
	}
}
