package tui_test

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// patience bounds how long a screen may take to show what is expected: the
// simulated vCenter takes its time for 10,000 VMs on a busy machine.
const patience = 10 * time.Minute

// pane is the program in a terminal of its own.
type pane struct {
	t      *testing.T
	socket string
	config string // directory of profiles
	dir    string // working directory
	starts int
}

// open starts the program in a terminal of that size, with env beside a bare
// environment. Without tmux the test fails.
func open(t *testing.T, width, height int, env ...string) *pane {
	t.Helper()
	return newPane(t).run(width, height, env...)
}

func newPane(t *testing.T) *pane {
	t.Helper()
	dir := t.TempDir()
	return &pane{t: t, config: filepath.Join(dir, "config"), dir: dir}
}

// run starts the program in a new terminal, again if need be. When it has ended
// the terminal shows its exit code.
func (p *pane) run(width, height int, env ...string) *pane {
	p.t.Helper()
	program, err := os.Executable()
	if err != nil {
		p.t.Fatal(err)
	}
	conf := filepath.Join(p.dir, "tmux.conf")
	if err := os.WriteFile(conf, []byte("set -g escape-time 0\nset -g status off\n"), 0o600); err != nil {
		p.t.Fatal(err)
	}
	p.starts++
	p.socket = filepath.Join(p.dir, fmt.Sprintf("tmux%d", p.starts))
	command := []string{"env", "-i", "PATH=" + os.Getenv("PATH"), "HOME=" + p.dir, "LANG=C.UTF-8", "TERM=screen-256color",
		asProgram + "=run", "TEST_CONFIG_DIR=" + p.config}
	command = append(append(command, env...), "sh", "-c", `"$0"; echo "EXIT $?"; exec cat`, program)
	p.tmux(append([]string{"-f", conf, "new-session", "-d", "-c", p.dir, "-x", fmt.Sprint(width), "-y", fmt.Sprint(height)}, command...)...)
	server := *p
	p.t.Cleanup(func() { _ = server.command("kill-server").Run() })
	return p
}

func (p *pane) command(args ...string) *exec.Cmd {
	cmd := exec.Command("tmux", append([]string{"-S", p.socket}, args...)...)
	cmd.Env = append(os.Environ(), "TMUX=", "LANG=C.UTF-8")
	return cmd
}

func (p *pane) tmux(args ...string) string {
	p.t.Helper()
	out, err := p.command(args...).CombinedOutput()
	if err != nil {
		p.t.Fatalf("tmux %v: %v: %s", args, err, out)
	}
	return string(out)
}

// keys presses keys by their tmux names.
func (p *pane) keys(names ...string) {
	p.t.Helper()
	p.tmux(append([]string{"send-keys"}, names...)...)
}

// text types s at once.
func (p *pane) text(s string) { p.t.Helper(); p.tmux("send-keys", "-l", s) }

func (p *pane) screen() string { p.t.Helper(); return p.tmux("capture-pane", "-p", "-J") }

// until waits until the screen has every part, and returns it.
func (p *pane) until(parts ...string) string {
	p.t.Helper()
	return p.when(strings.Join(parts, " and "), func(screen string) bool {
		for _, part := range parts {
			if !strings.Contains(screen, part) {
				return false
			}
		}
		return true
	})
}

// when waits until the screen is as ok wants it.
func (p *pane) when(what string, ok func(screen string) bool) string {
	p.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		screen := p.screen()
		if ok(screen) {
			return screen
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("within %v the screen did not show %s:\n%s", patience, what, screen)
		}
		time.Sleep(20 * time.Millisecond) // between two looks
	}
}

// lab starts a vCenter and returns it with the environment to connect to it.
func lab(t *testing.T, cfg vspheretest.Config) (*vspheretest.Server, []string) {
	t.Helper()
	srv := vspheretest.Start(t, cfg)
	return srv, srv.Env()
}

// disk makes a sparse raw file with some random data.
func disk(t *testing.T, size, data int64) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "disk.raw")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, data)
	_, _ = rand.NewChaCha8([32]byte{byte(size), byte(data)}).Read(b)
	if _, err := f.WriteAt(b, 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestTmuxPickerWithTenThousandVMs(t *testing.T) {
	t.Parallel()
	_, env := lab(t, vspheretest.Config{BulkVMs: 10_000})
	p := open(t, 140, 24, env...)
	p.until("10,000 of 10,000", "bulk-00000")

	burst := strings.Repeat("bulk team 0123 ", 7)[:100]
	p.text(burst)
	p.until("Search: " + strings.TrimRight(burst, " "))
	p.keys("C-u")
	p.text("team-07 is:on 0004")
	p.until("1 of 10,000", "bulk-00047")

	// Resize, and back.
	p.keys("C-u")
	p.text("'bulk-0004")
	p.until("10 of 10,000")
	p.keys("Down", "Down")
	cursor := regexp.MustCompile(`❯ +(bulk-\d+)`)
	const before = "bulk-00042"
	p.when("the cursor two below the first VM", func(s string) bool {
		m := cursor.FindStringSubmatch(s)
		return m != nil && m[1] == before
	})
	p.tmux("resize-window", "-x", "50", "-y", "12")
	small := p.when("a screen of 50 by 12", func(s string) bool {
		return strings.Contains(s, "❯") && !strings.Contains(s, "GUEST") && strings.Contains(s, "tab select")
	})
	if got := cursor.FindStringSubmatch(small); got == nil || got[1] != before {
		t.Errorf("at 50 by 12 the cursor is not on %s:\n%s", before, small)
	}
	p.tmux("resize-window", "-x", "140", "-y", "24")
	large := p.until("GUEST", "10 of 10,000")
	if got := cursor.FindStringSubmatch(large); got == nil || got[1] != before {
		t.Errorf("back at 140 by 24 the cursor is not on %s:\n%s", before, large)
	}

	// Select all that match, and go back and forth through the steps.
	p.keys("C-a")
	p.until("● 10 selected")
	p.keys("Enter")
	p.until("10 VMs", "Output directory")
	p.keys("Right")
	p.until("● raw")
	p.keys("Escape")
	p.until("Search: 'bulk-0004", "● 10 selected")
	p.keys("Enter")
	p.until("● raw")
	p.keys("Enter")
	p.until("confirm", "Export 10 VMs")
	p.keys("Escape")
	p.until("Output directory")
	p.keys("C-c")
	p.until("SUCCESS", "Found 10000 virtual machine(s)", "ENDED WELL")
}

func TestTmuxFromConnectingToAVerifiedQcow2(t *testing.T) {
	t.Parallel()
	raw := disk(t, 96<<20, 8<<20)
	srv, env := lab(t, vspheretest.Config{VMs: []vspheretest.VM{
		{Name: "web 01", Folder: "Prod/Web", Disks: []vspheretest.Disk{{Path: raw}}, NICs: []vspheretest.NIC{{}}},
		{Name: "other"},
	}})
	p := open(t, 100, 30, env...)
	p.until("2 of 2")
	p.text("prod 01")
	p.until("1 of 2", "web 01")
	p.keys("Enter")
	p.until("Output directory", "free, at most")
	p.keys("Enter")
	p.until("What happens", "hyper2kvm export -vm '/DC0/vm/Prod/Web/web 01'", "✓ web 01")
	p.keys("Enter")
	p.until("finished: 1 of 1 exported and verified", "1 disk(s) verified against the host's manifest")
	p.keys("Enter")
	screen := p.until("SUCCESS", "Next: virsh define", "ENDED WELL")
	if !strings.Contains(screen, "Connected") {
		t.Errorf("the connection box is gone:\n%s", screen)
	}
	images, err := filepath.Glob(filepath.Join(p.dir, "vms", "*.qcow2"))
	if err != nil || len(images) != 1 {
		t.Fatalf("images: %v, %v", images, err)
	}
	if out, err := exec.Command("qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw, images[0]).CombinedOutput(); err != nil {
		t.Errorf("the image is not the disk: %v: %s", err, out)
	}
	if open := srv.Leases(); len(open) > 0 {
		t.Errorf("leases are left: %v", open)
	}
}

func TestTmuxControlCInMidTransferCleansUp(t *testing.T) {
	t.Parallel()
	raw := disk(t, 64<<20, 48<<20)
	srv, env := lab(t, vspheretest.Config{Rate: 2 << 20, VMs: []vspheretest.VM{
		{Name: "slow", PoweredOn: true, Disks: []vspheretest.Disk{{Path: raw}}},
	}})
	moving := srv.ByteReached("slow", 0, 1<<20)
	p := open(t, 100, 30, env...)
	p.until("1 of 1")
	p.keys("Enter")
	p.until("Snapshot running VMs", "● yes")
	p.keys("Enter")
	p.until("1 running VM is exported from a temporary snapshot")
	p.keys("Enter")
	p.until("exporting")
	<-moving
	p.keys("p")
	p.until("1 paused", "held")
	p.keys("p")
	p.until("1 running")
	p.keys("C-c")
	p.until("stop the export that is left?")
	p.keys("n")
	p.until("1 running", "ctrl-c stop all")
	p.keys("C-c", "y")
	p.until("cancelled: the export lease is aborted", "the temporary snapshot, if one was taken, is removed", "ENDED BADLY")
	if open := srv.Leases(); len(open) > 0 {
		t.Errorf("leases are left: %v", open)
	}
	if left := srv.Snapshots("slow"); len(left) > 0 {
		t.Errorf("snapshots are left: %v", left)
	}
	if images, _ := filepath.Glob(filepath.Join(p.dir, "vms", "*.qcow2")); len(images) > 0 {
		t.Errorf("images have their final names: %v", images)
	}
}

func TestTmuxAskingForCredentialsAndTrustingACertificate(t *testing.T) {
	t.Parallel()
	first, _ := lab(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "vm"}}, Password: "Sesame!"})
	host := first.URL().Host
	p := newPane(t).run(100, 40)
	p.until("vCenter or ESXi host:")
	p.text(host + "\n")
	p.until("User name:")
	p.text("user\n")
	p.until("Password of user:")
	p.text("Sesame!\n")
	screen := p.until("is not trusted", "SHA-256", strings.ToUpper(first.Thumbprint()[:20]), "[y/N]:")
	if strings.Contains(screen, "Sesame") {
		t.Errorf("the password was echoed:\n%s", screen)
	}
	p.text("y\n")
	p.until("1 of 1")
	p.keys("C-c")
	p.until("Remembered in", "ENDED WELL")

	// The second time it is known, and the password alone is asked for.
	p.run(100, 40)
	p.until("1) "+host, "address of another [1]:")
	p.text("\n")
	p.until("Password of user:")
	p.text("Sesame!\n")
	p.until("1 of 1")
	p.keys("C-c")
	p.until("by its thumbprint", "ENDED WELL")
	saved, err := os.ReadFile(filepath.Join(p.config, "profiles.yaml"))
	if err != nil || strings.Contains(string(saved), "Sesame") {
		t.Errorf("profiles: %s, %v", saved, err)
	}

	// Another certificate at the same place is refused without a question.
	first.Close()
	lab(t, vspheretest.Config{Addr: host, VMs: []vspheretest.VM{{Name: "vm"}}, Password: "Sesame!"})
	p.run(100, 40, "GOVC_URL="+(&url.URL{Scheme: "https", Host: host, Path: "/sdk"}).String(), "GOVC_USERNAME=user", "GOVC_PASSWORD=Sesame!")
	p.until("ENDED BADLY", "the certificate is not the expected one", "remove the old thumbprint")
}

func TestTmuxWithoutColoursAndOnADumbTerminal(t *testing.T) {
	t.Parallel()
	_, env := lab(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "vm"}}})
	p := open(t, 80, 24, append(env, "NO_COLOR=1")...)
	p.until("1 of 1", "❯")
	coloured := regexp.MustCompile("\x1b\\[[0-9;]*(3[0-7]|9[0-7])[;m]")
	if screen := p.tmux("capture-pane", "-p", "-e"); coloured.MatchString(screen) {
		t.Errorf("NO_COLOR is set, and there are colours:\n%q", coloured.FindString(screen))
	}
	p.keys("C-c")
	p.until("ENDED WELL")
	p.run(80, 24, append(env, "TERM=dumb")...)
	p.until("ENDED BADLY: this is interactive and needs a terminal", "TERM=dumb", "xterm-256color")
}
