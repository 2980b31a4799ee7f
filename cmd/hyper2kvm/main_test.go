package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

func TestMain(m *testing.M) {
	testscript.Main(suite{m}, map[string]func(){"hyper2kvm": main})
}

// suite is the tests, with a directory for the program that some of them build.
type suite struct{ tests *testing.M }

func (s suite) Run() int {
	var err error
	if built, err = os.MkdirTemp("", "hyper2kvm-built-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(built) // a temporary directory
	return s.tests.Run()
}

// TestScripts runs the real program against a lab vCenter of the script's own.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Values["lab"] = new(*vspheretest.Server)
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("GORACE", "atexit_sleep_ms=0")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"lab":     lab,
			"fault":   fault,
			"nothing": nothing,
			"exits":   exits,
			"same":    same,
			"saved":   saved,
		},
	})
}

// lab starts a lab vCenter and points the environment at it:
//
//	lab [profile]
//
// It has the VMs erp (two disks), the running web, two called twin, one with a
// vTPM, and one whose name has every odd character.
func lab(ts *testscript.TestScript, _ bool, args []string) {
	profile := vspheretest.Stream
	if len(args) > 0 {
		profile = vspheretest.Profile(args[0])
	}
	disk := func(name string, size int64, seed byte) vspheretest.Disk {
		path := ts.MkAbs(name)
		ts.Check(writeDisk(path, size, seed))
		return vspheretest.Disk{Path: path}
	}
	erp := []vspheretest.Disk{disk("erp0.raw", 8<<20+512, 1), disk("erp1.raw", 4<<20, 2)}
	srv, err := vspheretest.New(vspheretest.Config{
		Profile:  profile,
		Password: "s3cr3t-word",
		VMs: []vspheretest.VM{
			{Name: "erp", Folder: "prod", Disks: erp, CPUs: 4, MemoryMiB: 2048, NICs: []vspheretest.NIC{
				{MAC: "00:50:56:aa:bb:cc", Network: "VM Network"}, {Network: "DMZ"},
			}},
			{Name: "web", Folder: "prod", PoweredOn: true, Disks: []vspheretest.Disk{disk("web0.raw", 2<<20, 3)}},
			{Name: "twin", Folder: "a", Disks: []vspheretest.Disk{disk("twin0.raw", 1<<20, 4)}},
			{Name: "twin", Folder: "b", Disks: []vspheretest.Disk{disk("twin1.raw", 1<<20, 5)}},
			{Name: "vault", VTPM: true, Disks: []vspheretest.Disk{disk("vault0.raw", 1<<20, 6)}},
			{Name: `o/d "d" ü`, Disks: []vspheretest.Disk{disk("odd0.raw", 1<<20, 7)}},
		},
	})
	ts.Check(err)
	ts.Defer(srv.Close)
	*ts.Value("lab").(**vspheretest.Server) = srv
	for _, line := range srv.Env() {
		k, v, _ := strings.Cut(line, "=")
		ts.Setenv(k, v)
	}
}

func labOf(ts *testscript.TestScript) *vspheretest.Server {
	return *ts.Value("lab").(**vspheretest.Server)
}

// writeDisk makes a disk with a hole in its middle.
func writeDisk(path string, size int64, seed byte) error {
	data := make([]byte, size)
	r := rand.NewChaCha8([32]byte{seed})
	_, _ = r.Read(data[:size/4])
	_, _ = r.Read(data[size-size/4:])
	return os.WriteFile(path, data, 0o600)
}

// fault adds a fault to the lab.
func fault(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(labOf(ts).AddFault(args[0]))
}

// nothing checks that nothing is left at the lab.
func nothing(ts *testscript.TestScript, _ bool, _ []string) {
	srv := labOf(ts)
	if l, s, n := srv.Leases(), srv.Snapshots("web"), srv.Sessions(); len(l)+len(s)+n > 0 {
		ts.Fatalf("left at the vCenter: leases %v, snapshots %v, %d sessions", l, s, n)
	}
}

// saved saves the lab as profile "lab", with a format that VMs become by default:
//
//	saved [format]
func saved(ts *testscript.TestScript, _ bool, args []string) {
	u, err := url.Parse(ts.Getenv("GOVC_URL"))
	ts.Check(err)
	text := "profiles:\n  - name: lab\n    url: " + u.Scheme + "://" + u.Host + "/sdk\n    user: " + ts.Getenv("GOVC_USERNAME") + "\n"
	if len(args) > 0 {
		text += "    format: " + args[0] + "\n"
	}
	dir := filepath.Join(ts.Getenv("HOME"), ".config", "hyper2kvm")
	ts.Check(os.MkdirAll(dir, 0o700))
	ts.Check(os.WriteFile(filepath.Join(dir, "profiles.yaml"), []byte(text), 0o600))
}

// exits runs a program that must end with the given code; what it prints is
// for stdout and stderr, as after exec.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	var exit *exec.ExitError
	err = ts.Exec(args[1], args[2:]...)
	if !errors.As(err, &exit) || exit.ExitCode() != want {
		ts.Fatalf("%v, want exit code %d", err, want)
	}
}

// same lets qemu-img compare a raw disk with an image.
func same(ts *testscript.TestScript, _ bool, args []string) {
	raw, image := ts.MkAbs(args[0]), ts.MkAbs(args[1])
	format := strings.TrimPrefix(filepath.Ext(image), ".")
	if out, err := exec.Command("qemu-img", "compare", "-f", "raw", "-F", format, raw, image).CombinedOutput(); err != nil {
		ts.Fatalf("qemu-img compare: %v\n%s", err, out)
	}
}
