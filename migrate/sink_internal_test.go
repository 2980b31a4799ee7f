package migrate

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate/outdir"
	"github.com/hyper2kvm/hyper2kvm/migrate/workdir"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/transfer"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// newWork is the work directory of a VM whose ledger has begun.
func newWork(t *testing.T) *workdir.Dir {
	t.Helper()
	w, err := workdir.Open(outdir.Roots{}, filepath.Join(t.TempDir(), "out"), "vm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Unlock() })
	if _, err := w.Begin(workdir.Identity{InstanceUUID: "u"}, ""); err != nil {
		t.Fatal(err)
	}
	return w
}

// stored is what the next run will read of the disk with that key.
func stored(t *testing.T, w *workdir.Dir, key string) (workdir.Disk, bool) {
	t.Helper()
	output, base, _ := workdir.Split(w.Path())
	next, err := workdir.Peek(outdir.Roots{}, output, base)
	if err != nil {
		t.Fatal(err)
	}
	return next.Disk(key)
}

func partOf(w *workdir.Dir, format job.Format) *diskRun {
	r := &run{work: w, def: job.Definition{Options: job.Options{Format: format}}}
	return &diskRun{r: r, disk: vsphere.Disk{Key: 2000, Capacity: 1 << 20}, name: "vm-disk-0"}
}

// A raw part file that was emptied looks like one that is complete: were the
// process killed now, the next run would take holes for the disk.
func TestNothingVouchesForAPartFileThatIsBegunAgain(t *testing.T) {
	t.Parallel()
	for name, e := range map[string]workdir.Disk{
		"finished": {Part: "vm-disk-0.part", Capacity: 1 << 20, Done: true},
		"in part":  {Part: "vm-disk-0.part", Capacity: 1 << 20, Checkpoint: &workdir.Checkpoint{Kind: "stream"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWork(t)
			if err := w.SetDisk("2000", e); err != nil {
				t.Fatal(err)
			}
			out, err := partOf(w, job.FormatRaw).openSink(nil)
			if err != nil {
				t.Fatal(err)
			}
			if e, vouched := stored(t, w, "2000"); vouched {
				t.Errorf("the ledger vouches for %+v", e)
			}
			if err := out.discard(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAPartFileThatIsMissingOrShortIsBegunAgain(t *testing.T) {
	t.Parallel()
	for _, format := range []job.Format{job.FormatOVF, job.FormatRaw, job.FormatQcow2} {
		for name, content := range map[string][]byte{"missing": nil, "short": make([]byte, 1000)} {
			d := partOf(newWork(t), format)
			if content != nil {
				if err := os.WriteFile(d.r.work.File(d.part()), content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := d.openSink(&disk.Position{StreamOffset: 70_000}); !errors.Is(err, disk.ErrNotResumable) {
				t.Errorf("%s, %s: %v", format, name, err)
			}
		}
	}
}

// forgetful is an image writer whose disk fails once and says nothing of it later,
// as Linux does with a write-back that failed.
type forgetful struct {
	disk.Writer
	fails string // "write" or "checkpoint", the next time
}

func (f *forgetful) fail(op string) error {
	if f.fails == op {
		f.fails = ""
		return syscall.EIO
	}
	return nil
}

func (f *forgetful) WriteAt(p []byte, _ int64) (int, error) { return len(p), f.fail("write") }
func (f *forgetful) Checkpoint() error                      { return f.fail("checkpoint") }

func TestNothingVouchesForADiskWhoseImageCouldNotBeWritten(t *testing.T) {
	t.Parallel()
	for _, fails := range []string{"write", "checkpoint", ""} {
		d := partOf(newWork(t), job.FormatRaw)
		d.file = progress.New().AddFile("vm-disk-0", 4<<20)
		src := areaSource{kind: kindDatastore, info: transfer.Info{ETag: "e"}, areas: transfer.NewAreas([]transfer.Area{{Length: 4 << 20}})}
		c := &areaCopy{areaSource: src, d: d, w: &forgetful{fails: fails}}
		cause := c.copy(bytes.NewReader(bytes.Repeat([]byte("data"), 1<<19)), 0) // half of it, then an end
		if fails == "checkpoint" {
			cause = c.checkpoint()
		}
		if want := syscall.EIO; fails != "" && !errors.Is(cause, want) || fails == "" && !errors.Is(cause, io.ErrUnexpectedEOF) {
			t.Fatalf("%s: error %v", fails, cause)
		}
		if err := c.stop(t.Context(), cause); err != nil {
			t.Fatal(err)
		}
		if e, vouched := stored(t, d.r.work, d.key()); vouched != (fails == "") {
			t.Errorf("after a failed %q the ledger vouches for %+v", fails, e)
		}
	}
}
