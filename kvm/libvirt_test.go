package kvm_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// The tests ask the real tools. libvirt's QEMU driver runs inside virsh
// (qemu:///embed), with all its state below a directory of ours: no daemon, no
// privileges beyond the directory, nothing of the machine's own libvirt touched.

// capabilities is where libvirt keeps what it found out about this machine's QEMU,
// which takes it seconds. It asks once; every driver links to the answer.
var capabilities = sync.OnceValues(func() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "h2k-caps-"); err != nil {
		return "", err
	}
	if err := configure(dir); err != nil {
		return dir, err
	}
	out, err := exec.Command("virsh", "-q", "-c", "qemu:///embed?root="+dir,
		"domcapabilities", "--arch", "x86_64", "--virttype", "qemu").CombinedOutput()
	if err != nil {
		return dir, fmt.Errorf("virsh domcapabilities: %w\n%s", err, out)
	}
	return dir, nil
})

// asked is set once capabilities has been called, for TestMain to clean up.
var asked atomic.Bool

func TestMain(m *testing.M) {
	code := m.Run()
	if asked.Load() {
		dir, _ := capabilities()
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// libvirt is one embedded driver with no domains yet.
type libvirt struct{ root string }

func newLibvirt(t *testing.T) libvirt {
	t.Helper()
	tool(t, "virsh")
	asked.Store(true)
	caps, err := capabilities()
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.MkdirTemp("", "h2k-") // shorter than t.TempDir: sockets live in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	if err := errors.Join(configure(root), os.Symlink(filepath.Join(caps, "cache"), filepath.Join(root, "cache"))); err != nil {
		t.Fatal(err)
	}
	return libvirt{root}
}

// configure writes the configuration of the driver whose state is below root.
func configure(root string) error {
	conf := fmt.Sprintf("user = \"+%d\"\ngroup = \"+%d\"\n", os.Getuid(), os.Getgid()) +
		"stdio_handler = \"file\"\nsecurity_driver = \"none\"\ncgroup_controllers = []\nnamespaces = []\n"
	return errors.Join(
		os.Mkdir(filepath.Join(root, "etc"), 0o755),
		os.WriteFile(filepath.Join(root, "etc", "qemu.conf"), []byte(conf), 0o644))
}

// virsh runs commands, separated by semicolons, and returns what they print.
func (l libvirt) virsh(ctx context.Context, commands string) (string, error) {
	cmd := exec.CommandContext(ctx, "virsh", "-q", "-c", "qemu:///embed?root="+l.root, commands)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("virsh %s: %w\n%s", commands, err, stderr.String())
	}
	return stdout.String(), nil
}

// tool finds a program. Without it the test fails: a skipped check proves nothing.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v: run scripts/setup.sh test", err)
	}
	return path
}

// validates fails the test unless libvirt's schema accepts the document.
func validates(t *testing.T, xml []byte) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), tool(t, "virt-xml-validate"), write(t, xml), "domain")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("virt-xml-validate: %v\n%s\n%s", err, out, xml)
	}
}

// defines fails the test unless libvirt takes the document, and returns the domain
// as libvirt understood it.
func defines(t *testing.T, xml []byte) string {
	t.Helper()
	l := newLibvirt(t)
	d := parse(t, xml)
	d.UUID = cmp.Or(d.UUID, "6ba7b810-9dad-11d1-80b4-00c04fd430c8") // to call it by: its name may be beyond a command line
	text, err := d.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	out, err := l.virsh(t.Context(), fmt.Sprintf("define --validate %s; dumpxml --inactive %s", write(t, []byte(text)), d.UUID))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return out
}

// starts fails the test unless QEMU starts the domain, paused. Networks would need
// a daemon, and tests beside each other would race for ports: the cards are put on
// QEMU's own network, the screen on a socket.
func starts(t *testing.T, xml []byte) {
	t.Helper()
	text := strings.ReplaceAll(string(xml), `<interface type="network">`, `<interface type="user">`)
	text = strings.ReplaceAll(text, `<source network="default"></source>`, "")
	name := parse(t, xml).Name
	l := newLibvirt(t)
	text = strings.ReplaceAll(text, `port="-1" autoport="yes" listen="127.0.0.1"`, fmt.Sprintf("socket=%q", filepath.Join(l.root, "vnc")))
	t.Cleanup(func() { l.kill(t, name) })
	if _, err := l.virsh(t.Context(), "create --paused "+write(t, []byte(text))); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
}

// kill ends the QEMU process of a domain. It goes with the whole driver's state, so
// nobody has to be told; "virsh destroy" waits two seconds for an answer.
func (l libvirt) kill(t *testing.T, name string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(l.root, "run", "qemu", name+".pid"))
	if errors.Is(err, fs.ErrNotExist) { // it has not started
		return
	}
	pid, convErr := strconv.Atoi(strings.TrimSpace(string(text)))
	if err := errors.Join(err, convErr); err != nil {
		t.Fatal(err)
	}
	qemu, err := os.FindProcess(pid)
	if err == nil {
		err = qemu.Kill()
	}
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
}

func write(t *testing.T, xml []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "domain.xml")
	if err := os.WriteFile(file, xml, 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}
