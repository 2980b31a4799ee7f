package migrate_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/transfer"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest/streamvmdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
)

// extent is where a test disk holds data.
type extent struct {
	off, len int64
	text     bool // compressible, as most data is
}

// rawDisk makes a sparse raw file with random data in its extents.
func rawDisk(t testing.TB, size int64, extents ...extent) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	r := rand.NewChaCha8([32]byte{byte(size), byte(len(extents))})
	for _, e := range extents {
		data := make([]byte, e.len)
		_, _ = r.Read(data)
		if e.text {
			for i := range data {
				data[i] = "abcdefgh"[data[i]&7]
			}
		}
		if _, err := f.WriteAt(data, e.off); err != nil {
			t.Fatal(err)
		}
	}
	return f.Name()
}

// streams holds, by the path of a raw disk, a function that encodes it once.
var streams sync.Map

// stream returns the disk at raw as ESXi sends it, encoded once for all labs
// that serve it.
func stream(t testing.TB, raw string) string {
	t.Helper()
	once, _ := streams.LoadOrStore(raw, sync.OnceValues(func() (string, error) {
		src, err := os.Open(raw)
		if err != nil {
			return "", err
		}
		defer src.Close()
		dst, err := os.Create(raw + ".vmdk")
		if err != nil {
			return "", err
		}
		_, err = streamvmdk.Encode(context.Background(), dst, src, streamvmdk.Options{})
		return dst.Name(), errors.Join(err, dst.Close())
	}))
	path, err := once.(func() (string, error))()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// bench is a lab, a Migrator for it, and a VM to export.
type bench struct {
	*vspheretest.Server
	t   testing.TB
	m   *migrate.Migrator
	raw []string // of guest1's disks
	out string
}

// newBench starts a lab with the VM guest1, whose disks are given, off unless
// change says otherwise.
func newBench(t testing.TB, cfg vspheretest.Config, disks ...string) *bench {
	t.Helper()
	b := &bench{t: t, raw: disks, out: filepath.Join(t.TempDir(), "out")}
	if len(cfg.VMs) == 0 {
		cfg.VMs = []vspheretest.VM{{Name: "guest1"}}
	}
	for _, d := range disks {
		cfg.VMs[0].Disks = append(cfg.VMs[0].Disks, vspheretest.Disk{Path: stream(t, d)})
	}
	b.Server = vspheretest.Start(t, cfg)
	b.m = &migrate.Migrator{
		Endpoint: func(job.Definition) (vsphere.Config, error) { return b.config(), nil },
		Budget:   transfer.BudgetOptions{Min: time.Millisecond, Max: 20 * time.Millisecond},
	}
	return b
}

func (b *bench) config() vsphere.Config {
	env := map[string]string{}
	for _, line := range b.Env() {
		k, v, _ := strings.Cut(line, "=")
		env[k] = v
	}
	cfg, err := vsphere.ConfigFromEnv(func(k string) string { return env[k] })
	if err != nil {
		b.t.Fatal(err)
	}
	return cfg
}

func (b *bench) job(format job.Format) job.Definition {
	return job.Definition{VMPath: "guest1", OutputPath: b.out, Options: job.Options{Format: format}}
}

// run exports and returns the tracker too, for its events.
func (b *bench) run(ctx context.Context, def job.Definition) (job.Result, *progress.Tracker, error) {
	t := progress.New()
	result, err := b.m.Run(ctx, def, t)
	return result, t, err
}

// cleanUp removes what an earlier run of def left, its part files too.
func (b *bench) cleanUp(def job.Definition) error {
	_, err := b.m.CleanUp(context.Background(), def, false, progress.New())
	return err
}

// export is run for a job that must succeed.
func (b *bench) export(def job.Definition) job.Result {
	b.t.Helper()
	result, tracker, err := b.run(context.Background(), def)
	if err != nil {
		b.t.Fatalf("export: %v\n%s", err, events(tracker))
	}
	return result
}

func events(t *progress.Tracker) string {
	var s strings.Builder
	for _, e := range t.EventsAfter(0) {
		s.WriteString(e.File + ": " + e.Text + "\n")
	}
	return s.String()
}

// identical holds every disk of result against its source, with qemu-img as
// the judge.
func (b *bench) identical(result job.Result) {
	b.t.Helper()
	if len(result.Disks) != len(b.raw) {
		b.t.Fatalf("%d disks landed, want %d", len(result.Disks), len(b.raw))
	}
	for i, d := range result.Disks {
		format := strings.TrimPrefix(filepath.Ext(d.File), ".")
		qemuImg(b.t, "compare", "-f", "raw", "-F", format, b.raw[i], d.File)
		if format == "qcow2" {
			qemuImg(b.t, "check", "-f", "qcow2", d.File)
		}
	}
}

func qemuImg(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command("qemu-img", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("qemu-img %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// clean checks that nothing of a run is left at vSphere.
func (b *bench) clean() {
	b.t.Helper()
	if l := b.Leases(); len(l) > 0 {
		b.t.Errorf("leases are left open: %+v", l)
	}
	if s := b.Snapshots("guest1"); len(s) > 0 {
		b.t.Errorf("snapshots are left: %v", s)
	}
	if n := b.Sessions(); n > 0 {
		b.t.Errorf("%d session(s) are left", n)
	}
}

// over fails the test unless nothing of a run is left, here and at vSphere.
func (b *bench) over() {
	b.t.Helper()
	if h := b.hidden(); len(h) > 0 {
		b.t.Errorf("the work directory has %q", h)
	}
	b.clean()
}

// visible lists the files in the output directory that are not hidden.
func (b *bench) visible() []string {
	entries, err := os.ReadDir(b.out)
	if err != nil && !os.IsNotExist(err) {
		b.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names
}

// hidden lists what the work directory holds, "" when there is none.
func (b *bench) hidden() []string {
	found, err := filepath.Glob(filepath.Join(b.out, ".hyper2kvm-*", "*"))
	if err != nil {
		b.t.Fatal(err)
	}
	for i := range found {
		found[i] = filepath.Base(found[i])
	}
	return found
}
