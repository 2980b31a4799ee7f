package probe_test

import (
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hyper2kvm/hyper2kvm/probe"
	"github.com/hyper2kvm/hyper2kvm/probe/findings"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rawDisk makes a disk with some random data, and a hole behind it.
func rawDisk(tb testing.TB, size int64) string {
	tb.Helper()
	data := make([]byte, 1<<20)
	_, _ = rand.Read(data)
	name := filepath.Join(tb.TempDir(), "disk.raw")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		tb.Fatal(err)
	}
	if err := os.Truncate(name, size); err != nil {
		tb.Fatal(err)
	}
	return name
}

const mib = 1 << 20

// theVM is what most labs here have: two disks, the large one long enough for its locks
// to be looked at.
func theVM(tb testing.TB) vspheretest.VM {
	tb.Helper()
	return vspheretest.VM{Name: "guest1", Folder: "prod", CBT: true, Disks: []vspheretest.Disk{
		{Path: rawDisk(tb, 64*mib)}, {Path: rawDisk(tb, 4*mib)},
	}}
}

// lab starts a lab with the VM.
func lab(tb testing.TB, change func(*vspheretest.Config)) *vspheretest.Server {
	tb.Helper()
	cfg := vspheretest.Config{NFC902: true, VMs: []vspheretest.VM{theVM(tb)}}
	if change != nil {
		change(&cfg)
	}
	return vspheretest.Start(tb, cfg)
}

func dial(tb testing.TB, srv *vspheretest.Server) *vsphere.Client {
	tb.Helper()
	u := *srv.URL()
	password, _ := u.User.Password()
	user := u.User.Username()
	u.User = nil
	c, err := vsphere.Dial(tb.Context(), vsphere.Config{URL: &u, Username: user, Password: password, Thumbprint: srv.Thumbprint()})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close(context.WithoutCancel(tb.Context())) })
	return c
}

// quick are options with which nothing takes long.
func quick(tb testing.TB) probe.Options {
	return probe.Options{
		Measure: 20 * time.Millisecond, Bytes: 2 * mib, Manifest: 400 * time.Millisecond, Limit: time.Minute,
		Program: "test", Tell: func(s string) { tb.Log(s) },
	}
}

// probed probes a lab.
func probed(tb testing.TB, srv *vspheretest.Server, change func(*probe.Options)) findings.Report {
	tb.Helper()
	o := quick(tb)
	if change != nil {
		change(&o)
	}
	r, err := probe.Run(tb.Context(), dial(tb, srv), o)
	if err != nil {
		tb.Fatal(err)
	}
	clean(tb, srv)
	return r
}

// clean fails the test when something is left at the lab.
func clean(tb testing.TB, srv *vspheretest.Server) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), time.Minute)
	defer cancel()
	if err := srv.NFCDrained(ctx, 0); err != nil {
		tb.Error(err)
	}
	if l, s, n := srv.Leases(), srv.Snapshots("guest1"), srv.NFC(0); len(l)+len(s)+n.Files+n.Abandoned > 0 {
		tb.Errorf("left at the lab: leases %v, snapshots %v, NFC %+v", l, s, n)
	}
}
