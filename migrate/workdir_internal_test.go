package migrate

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/transfer"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// newWorkdir is the work directory of a VM whose ledger has begun.
func newWorkdir(t *testing.T) *workdir {
	t.Helper()
	w, err := openWorkdir(filepath.Join(t.TempDir(), "out"), "vm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.lock.Close() })
	if _, err := w.begin(identity{InstanceUUID: "u"}, ""); err != nil {
		t.Fatal(err)
	}
	return w
}

// stored is the ledger as the next run will read it.
func stored(t *testing.T, w *workdir) ledger {
	t.Helper()
	var l ledger
	if err := readJSON(w.path(ledgerName), &l); err != nil {
		t.Fatal(err)
	}
	return l
}

func partOf(w *workdir, format job.Format) *diskRun {
	r := &run{work: w, def: job.Definition{Options: job.Options{Format: format}}}
	return &diskRun{r: r, disk: vsphere.Disk{Key: 2000, Capacity: 1 << 20}, name: "vm-disk-0"}
}

// A raw part file that was emptied looks like one that is complete: were the
// process killed now, the next run would take holes for the disk.
func TestNothingVouchesForAPartFileThatIsBegunAgain(t *testing.T) {
	t.Parallel()
	for name, e := range map[string]diskEntry{
		"finished": {Part: "vm-disk-0.part", Capacity: 1 << 20, Done: true},
		"in part":  {Part: "vm-disk-0.part", Capacity: 1 << 20, Checkpoint: &checkpoint{ETag: "e"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorkdir(t)
			if err := w.setEntry("2000", &e); err != nil {
				t.Fatal(err)
			}
			out, err := partOf(w, job.FormatRaw).openSink(nil)
			if err != nil {
				t.Fatal(err)
			}
			if l := stored(t, w); len(l.Disks) > 0 {
				t.Errorf("the ledger vouches for %+v", l.Disks["2000"])
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
			d := partOf(newWorkdir(t), format)
			if content != nil {
				if err := os.WriteFile(d.r.work.path(d.part()), content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := d.openSink(&disk.Position{StreamOffset: 70_000}); !errors.Is(err, disk.ErrNotResumable) {
				t.Errorf("%s, %s: %v", format, name, err)
			}
		}
	}
}

func TestWhatIsToBePutBackOutlivesTheWorkDirectory(t *testing.T) {
	t.Parallel()
	for name, owe := range map[string]func(*ledger){
		"drives":     func(l *ledger) { l.CDROM = json.RawMessage(`{"drives":["CD/DVD drive 1"]}`) },
		"a snapshot": func(l *ledger) { l.Snapshot = "s" },
	} {
		for _, keep := range []bool{true, false} {
			w := newWorkdir(t)
			if err := w.update(func(l *ledger) {
				owe(l)
				l.Disks["2000"] = &diskEntry{Part: "vm-disk-0.part", Done: true}
			}); err != nil {
				t.Fatal(err)
			}
			part := w.path("vm-disk-0.part")
			if err := os.WriteFile(part, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := w.close(keep); err != nil {
				t.Fatal(err)
			}
			if l := stored(t, w); len(l.debts(time.Now())) == 0 || len(l.Disks) > 0 != keep || exists(part) != keep {
				t.Errorf("%s, keep %t: the ledger is %+v, the part file is there: %t", name, keep, l, exists(part))
			}
		}
	}
	w := newWorkdir(t)
	if err := w.close(false); err != nil || exists(w.dir) {
		t.Errorf("nothing is owed: %v, the directory is there: %t", err, exists(w.dir))
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
		d := partOf(newWorkdir(t), job.FormatRaw)
		d.file = progress.New().AddFile("vm-disk-0", 4<<20)
		areas := transfer.NewAreas([]transfer.Area{{Length: 4 << 20}})
		f := &flatRead{diskRun: d, info: transfer.Info{ETag: "e"}, areas: &areas}
		c := &flatCopy{f: f, w: &forgetful{fails: fails}}
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
		if l := stored(t, d.r.work); len(l.Disks) > 0 != (fails == "") {
			t.Errorf("after a failed %q the ledger vouches for %v", fails, l.Disks)
		}
	}
}

func TestFailuresOfTheStorageComeWithAdvice(t *testing.T) {
	t.Parallel()
	for cause, final := range map[error]bool{syscall.ENOSPC: true, syscall.EDQUOT: true, syscall.EIO: false} {
		err := storageError(&os.PathError{Op: "write", Path: "disk.part", Err: cause.(syscall.Errno)})
		if !errors.Is(err, cause) || Hint(err) == "" || Permanent(err) != final || errors.Is(err, ErrNoSpace) != final {
			t.Errorf("%v became %v, permanent %t, with the hint %q", cause, err, Permanent(err), Hint(err))
		}
	}
}
