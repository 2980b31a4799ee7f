//go:build linux

package guestnet_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hyper2kvm/hyper2kvm/guestnet"
	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/job"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// aquarium is a guest whose files are in a directory, for the guestfish of testdata.
type aquarium struct {
	t    *testing.T
	dir  string
	fish guestnet.Fish
}

// newAquarium makes a guest that knows its card as ens192, and what Tools report of it.
// The tests share the environment, by which the fake finds it.
func newAquarium(t *testing.T) (*aquarium, job.GuestNetwork) {
	t.Helper()
	a := &aquarium{t: t, dir: t.TempDir()}
	program, err := filepath.Abs("testdata/guestfish")
	if err != nil {
		t.Fatal(err)
	}
	a.fish.Program = program
	a.write("guest/etc/network/interfaces", "iface ens192 inet static\n address 192.0.2.10/24\n")
	a.write("guest/etc/shadow", "a secret")
	a.write("guest/usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-252.so", "")
	a.write("guest/usr/lib/systemd/systemd", "")
	t.Setenv("LIBGUESTFS_PATH", filepath.Join(a.dir, "guest"))
	t.Setenv("LIBGUESTFS_BACKEND_SETTINGS", "")
	return a, job.GuestNetwork{Known: true, Interfaces: []job.GuestInterface{{
		MAC: "00:50:56:AA:00:01", Addresses: []job.GuestAddress{{Address: netip.MustParseAddr("192.0.2.10"), Prefix: 24}},
	}}}
}

func (a *aquarium) write(name, text string) {
	a.t.Helper()
	path := filepath.Join(a.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		a.t.Fatal(err)
	}
}

// read is the content of a file, "" when there is none.
func (a *aquarium) read(name string) string {
	a.t.Helper()
	text, err := os.ReadFile(filepath.Join(a.dir, name))
	if err != nil && !os.IsNotExist(err) {
		a.t.Fatal(err)
	}
	return string(text)
}

const linkFile = "guest/etc/systemd/network/10-hyper2kvm-005056aa0001.link"

func TestTheGuestGetsItsFilesThroughGuestfishAndTwiceIsAsOnce(t *testing.T) {
	a, n := newAquarium(t)
	a.write("guest/etc/selinux/config", "SELINUX=permissive\n")
	var first string
	for range 2 {
		c, err := a.fish.Apply(t.Context(), []string{"/a b/overlay-0.qcow2", "/a b/overlay-1.qcow2"}, n, failed(t))
		if err != nil || len(c.Files) != 1 || len(c.Told) != 1 {
			t.Fatalf("%+v, %v", c, err)
		}
		link := a.read(linkFile)
		if !strings.Contains(link, "MACAddress=00:50:56:aa:00:01\n") || !strings.Contains(link, "Name=ens192\n") || first != "" && link != first {
			t.Errorf("the guest has %q", link)
		}
		first = link
	}
	if info, err := os.Stat(filepath.Join(a.dir, linkFile)); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("%v, %v", info, err)
	}
	if _, err := os.Stat(filepath.Join(a.dir, "guest/.autorelabel")); err != nil {
		t.Error(err)
	}
	want := "--keys-from-stdin --format=qcow2 -a /a b/overlay-0.qcow2 -a /a b/overlay-1.qcow2 -i \n"
	if got := a.read("started"); got != want+want {
		t.Errorf("guestfish was started with %q", got)
	}
}

func TestAGuestThatIsNotUnderstoodIsLeftAlone(t *testing.T) {
	a, n := newAquarium(t)
	a.write("guest/etc/network/interfaces", "iface bond0 inet static\n address 192.0.2.10/24\n")
	_, err := a.fish.Apply(t.Context(), []string{"x"}, n, failed(t))
	if !errors.Is(err, guestnet.ErrUnclear) || !strings.Contains(err.Error(), "bond") {
		t.Errorf("error %v", err)
	}
	if told := a.read("told"); strings.Contains(told, "upload") || strings.Contains(told, "mkdir") {
		t.Errorf("guestfish was told %q", told)
	}
}

func TestAGuestfishThatIsMissingIsNamedWithItsPackage(t *testing.T) {
	a, n := newAquarium(t)
	a.fish.Program = "hyper2kvm-has-no-such-program"
	if _, err := a.fish.Apply(t.Context(), []string{"x"}, n, failed(t)); err == nil || !strings.Contains(fault.Hint(err), "libguestfs-tools") {
		t.Errorf("error %v, hint %q", err, fault.Hint(err))
	}
	problems := a.fish.Problems()
	if len(problems) == 0 || !problems[0].Fatal || !strings.Contains(problems[0].Hint, "libguestfs-tools") {
		t.Errorf("%+v", problems)
	}
}

func TestAGuestfishThatHangsIsTriedWithoutKVM(t *testing.T) {
	a, n := newAquarium(t)
	a.write("hangs", "")
	a.fish.StartsIn = time.Millisecond
	told := ""
	if _, err := a.fish.Apply(t.Context(), []string{"x"}, n, func(text string) { told += text }); err != nil {
		t.Fatal(err)
	}
	if a.read(linkFile) == "" || !strings.Contains(told, "without KVM") || !strings.Contains(a.read("started"), "-i force_tcg") {
		t.Errorf("told %q, started with %q", told, a.read("started"))
	}
}

func TestACancelEndsGuestfish(t *testing.T) {
	a, n := newAquarium(t)
	a.write("hangs", "")
	why := errors.New("cancelled by a person")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if _, err := a.fish.Apply(ctx, []string{"x"}, n, failed(t)); !errors.Is(err, why) {
		t.Errorf("error %v", err)
	}
}

// failed is for what is not to be told.
func failed(t *testing.T) func(string) { return func(text string) { t.Error(text) } }
