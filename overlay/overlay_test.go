package overlay_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/internal/volume/volumetest"
	"github.com/hyper2kvm/hyper2kvm/overlay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	mib  = 1 << 20
	work = ".work"
)

// images are two finished images in a directory, a raw one and a compressed qcow2, and
// where their overlays are to be.
type images struct {
	t     *testing.T
	dir   string
	disks []overlay.Disk
	was   map[string][32]byte
}

func newImages(t *testing.T, dir string) *images {
	t.Helper()
	i := &images{t: t, dir: dir, disks: []overlay.Disk{
		{Image: "a,b: c-disk-0.raw", Format: "raw", Overlay: work + "/overlay-0.qcow2"},
		{Image: "x-disk-1.qcow2", Format: "qcow2", Overlay: work + "/overlay-1.qcow2"},
	}}
	raw := make([]byte, 2*mib)
	r := rand.NewChaCha8([32]byte{})
	_, _ = r.Read(raw[:mib])
	source := filepath.Join(t.TempDir(), "source")
	for path, data := range map[string][]byte{filepath.Join(dir, i.disks[0].Image): raw, source: raw} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, work), 0o700); err != nil {
		t.Fatal(err)
	}
	i.run("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", source, filepath.Join(dir, i.disks[1].Image))
	i.was = i.sums(dir)
	return i
}

func (i *images) run(name string, args ...string) {
	i.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		i.t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}

// sums are the hashes of the images in dir.
func (i *images) sums(dir string) map[string][32]byte {
	i.t.Helper()
	out := map[string][32]byte{}
	for _, d := range i.disks {
		data, err := os.ReadFile(filepath.Join(dir, d.Image))
		if err != nil {
			i.t.Fatal(err)
		}
		out[d.Image] = sha256.Sum256(data)
	}
	return out
}

// write changes 64 KiB at 1 MiB of an image or overlay.
func (i *images) write(path string) {
	i.t.Helper()
	i.run("qemu-io", "-f", "qcow2", "-c", "write -P 0x5a 1M 64k", path)
}

// intact fails the test unless the images in dir are byte for byte what they were, and
// nothing is beside them.
func (i *images) intact(dir string) {
	i.t.Helper()
	for name, sum := range i.sums(dir) {
		if sum != i.was[name] {
			i.t.Errorf("%s was changed", name)
		}
	}
	i.noOverlays(dir)
}

func (i *images) noOverlays(dir string) {
	i.t.Helper()
	if left, err := os.ReadDir(filepath.Join(dir, work)); err != nil || len(left) > 0 {
		i.t.Errorf("the work directory has %v, %v", left, err)
	}
}

// changed fails the test unless every image in dir has the change.
func (i *images) changed(dir string) {
	i.t.Helper()
	for _, d := range i.disks {
		path := filepath.Join(dir, d.Image)
		out, err := exec.Command("qemu-io", "-r", "-f", d.Format, "-c", "read -v -P 0x5a 1M 64k", path).CombinedOutput()
		if err != nil || bytes.Contains(out, []byte("verification failed")) {
			i.t.Errorf("%s has not the change: %v\n%.300s", d.Image, err, out)
		}
		if d.Format == "qcow2" {
			i.run("qemu-img", "check", "-q", "-f", "qcow2", path)
		}
	}
	i.noOverlays(dir)
	if text, err := os.ReadFile(filepath.Join(dir, "x.xml")); err != nil || string(text) != "new" {
		i.t.Errorf("x.xml is %q, %v", text, err)
	}
}

// change opens a change, and makes it in the overlays.
func (i *images) change(write func(overlay.Journal) error) *overlay.Change {
	i.t.Helper()
	c, err := overlay.Open(i.t.Context(), i.dir, i.disks, 1, write)
	if err != nil {
		i.t.Fatal(err)
	}
	for _, path := range c.Overlays() {
		i.write(path)
	}
	for name, text := range map[string]string{"x.xml": "old", work + "/x.xml": "new"} {
		if err := os.WriteFile(filepath.Join(i.dir, name), []byte(text), 0o600); err != nil {
			i.t.Fatal(err)
		}
	}
	c.Replace(overlay.File{From: work + "/x.xml", To: "x.xml"})
	return c
}

func TestAChangeIsInEveryImageOnceItIsCommitted(t *testing.T) {
	t.Parallel()
	i := newImages(t, t.TempDir())
	if err := i.change(func(overlay.Journal) error { return nil }).Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	i.changed(i.dir)
}

// crash is a directory as a process leaves it that dies after it has written a journal.
type crash struct {
	dir     string
	journal overlay.Journal
}

func TestAChangeThatAProcessDiedInIsMadeOrAsIfItHadNeverBegun(t *testing.T) {
	t.Parallel()
	i := newImages(t, t.TempDir())
	var crashes []crash
	write := func(j overlay.Journal) error {
		j.Disks = slices.Clone(j.Disks)
		dir := filepath.Join(t.TempDir(), "left")
		crashes = append(crashes, crash{dir, j})
		return os.CopyFS(dir, os.DirFS(i.dir))
	}
	c := i.change(write)
	if err := write(overlay.Journal{Disks: i.disks}); err != nil { // it dies once the overlays have changes
		t.Fatal(err)
	}
	if err := c.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(crashes) != 5 {
		t.Fatalf("%d journals were written", len(crashes))
	}
	for n, left := range crashes {
		// In the midst of the commit that is next, too.
		if j := left.journal; j.Committing && j.Committed == 0 {
			half, err := os.OpenFile(filepath.Join(left.dir, i.disks[0].Image), os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			_, err = half.WriteAt(bytes.Repeat([]byte{0x5a}, 1000), mib)
			if err := errors.Join(err, half.Close()); err != nil {
				t.Fatal(err)
			}
		}
		for again := range 2 {
			done, err := overlay.Settle(t.Context(), left.dir, left.journal, func(overlay.Journal) error { return nil })
			if err != nil && again == 0 || done != left.journal.Committing {
				t.Errorf("crash %d: %t, %v", n, done, err)
			}
			if again == 0 {
				left.journal.Committed = len(i.disks) * btoi(done) // as the settling has written down
			}
		}
		if left.journal.Committing {
			i.changed(left.dir)
		} else {
			_ = os.Remove(filepath.Join(left.dir, work, "x.xml")) // which no journal knew of yet
			i.intact(left.dir)
		}
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestAChangeThatFailsBeforeItsCommitLeavesTheImagesAsTheyWere(t *testing.T) {
	t.Parallel()
	full := errors.New("the ledger cannot be written")
	ended, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("cancelled by a person"))
	for name, test := range map[string]struct {
		ctx   context.Context
		write func(overlay.Journal) error
		want  string
	}{
		"a journal that cannot be written": {t.Context(), func(j overlay.Journal) error {
			if j.Committing {
				return full
			}
			return nil
		}, full.Error()},
		"a cancel": {ended, func(overlay.Journal) error { return nil }, "cancelled by a person"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := newImages(t, t.TempDir())
			var last overlay.Journal
			c := i.change(func(j overlay.Journal) error {
				err := test.write(j)
				if err == nil {
					last = j
				}
				return err
			})
			if err := c.Commit(test.ctx); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v", err)
			}
			if done, err := overlay.Settle(t.Context(), i.dir, last, nil); done || err != nil {
				t.Errorf("settled: %t, %v", done, err)
			}
			if err := os.Remove(filepath.Join(i.dir, work, "x.xml")); err != nil { // which no journal knew of yet
				t.Fatal(err)
			}
			i.intact(i.dir)
		})
	}
}

func TestAChangeThatMayNotFitIsNotBegun(t *testing.T) {
	t.Parallel()
	dir := volumetest.Tiny(t, 8*mib)
	i := newImages(t, dir)
	last := overlay.Journal{}
	write := func(j overlay.Journal) error { last = j; return nil }
	if _, err := overlay.Open(t.Context(), dir, i.disks, 100*mib, write); !errors.Is(err, overlay.ErrNoSpace) || !fault.IsPermanent(err) || len(last.Disks) > 0 {
		t.Errorf("error %v, journal %+v", err, last)
	}
	c := i.change(write)
	for n, room := range []int{mib, 64 << 10} { // others fill the file system
		fill(t, filepath.Join(dir, fmt.Sprint("full", n)), room)
	}
	if err := c.Commit(t.Context()); !errors.Is(err, overlay.ErrNoSpace) || fault.Hint(err) == "" || last.Committing {
		t.Errorf("error %v, journal %+v", err, last)
	}
	if done, err := overlay.Settle(t.Context(), dir, last, nil); done || err != nil {
		t.Errorf("settled: %t, %v", done, err)
	}
	_ = os.Remove(filepath.Join(dir, work, "x.xml"))
	i.intact(dir)
}

// fill writes a file, in pieces, until no more goes in.
func fill(t *testing.T, path string, piece int) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, piece))
	}
}

func TestWithoutItsToolAChangeIsNotBegun(t *testing.T) {
	i := newImages(t, t.TempDir())
	t.Setenv("PATH", t.TempDir())
	_, err := overlay.Open(t.Context(), i.dir, i.disks, 1, func(overlay.Journal) error { return nil })
	if !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("error %v", err)
	}
	if _, err := overlay.Settle(t.Context(), i.dir, overlay.Journal{Disks: i.disks}, nil); err != nil {
		t.Error(err)
	}
	i.intact(i.dir)
}

func TestACommitThatCannotBeMadeIsFinishedOnceItCan(t *testing.T) {
	i := newImages(t, t.TempDir())
	path := os.Getenv("PATH")
	var last overlay.Journal
	write := func(j overlay.Journal) error {
		if last = j; j.Committed == 1 { // the second commit has no program
			t.Setenv("PATH", t.TempDir())
		}
		return nil
	}
	if err := i.change(write).Commit(t.Context()); err == nil || last.Committed != 1 {
		t.Fatalf("error %v, journal %+v", err, last)
	}
	if done, err := overlay.Settle(t.Context(), i.dir, last, write); done || err == nil {
		t.Errorf("settled: %t, %v", done, err)
	}
	t.Setenv("PATH", path)
	if done, err := overlay.Settle(t.Context(), i.dir, last, write); !done || err != nil {
		t.Errorf("settled: %t, %v", done, err)
	}
	i.changed(i.dir)
}
