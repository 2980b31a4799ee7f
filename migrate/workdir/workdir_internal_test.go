package workdir

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/migrate/outdir"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// newWorkdir is the work directory of a VM whose ledger has begun.
func newWorkdir(t *testing.T) *Dir {
	t.Helper()
	w, err := Open(outdir.Roots{}, filepath.Join(t.TempDir(), "out"), "vm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.lock.Close() })
	if _, err := w.Begin(Identity{InstanceUUID: "u"}, ""); err != nil {
		t.Fatal(err)
	}
	return w
}

// stored is the ledger as the next run will read it.
func stored(t *testing.T, w *Dir) ledger {
	t.Helper()
	var l ledger
	data, err := os.ReadFile(w.File(ledgerName))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &l); err != nil {
		t.Fatal(err)
	}
	return l
}

func there(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
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
				l.Disks["2000"] = &Disk{Part: "vm-disk-0.part", Done: true}
			}); err != nil {
				t.Fatal(err)
			}
			part := w.File("vm-disk-0.part")
			if err := os.WriteFile(part, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(keep); err != nil {
				t.Fatal(err)
			}
			if l := stored(t, w); len(l.debts(time.Now())) == 0 || len(l.Disks) > 0 != keep || there(part) != keep {
				t.Errorf("%s, keep %t: the ledger is %+v, the part file is there: %t", name, keep, l, there(part))
			}
		}
	}
	w := newWorkdir(t)
	if err := w.Close(false); err != nil || there(w.Path()) {
		t.Errorf("nothing is owed: %v, the directory is there: %t", err, there(w.Path()))
	}
}

func TestFailuresOfTheStorageComeWithAdvice(t *testing.T) {
	t.Parallel()
	for cause, final := range map[syscall.Errno]bool{syscall.ENOSPC: true, syscall.EDQUOT: true, syscall.EIO: false} {
		err := Storage(&os.PathError{Op: "write", Path: "disk.part", Err: cause})
		if !errors.Is(err, cause) || fault.Hint(err) == "" || fault.IsPermanent(err) != final || errors.Is(err, ErrNoSpace) != final {
			t.Errorf("%v became %v, permanent %t, with the hint %q", cause, err, fault.IsPermanent(err), fault.Hint(err))
		}
	}
}

func TestAWorkDirectoryWhoseLockGoesLastIsGoneAllTheSame(t *testing.T) {
	t.Parallel()
	w := newWorkdir(t)
	if err := os.WriteFile(w.File("vm-disk-0.vmdk.part"), []byte("part"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.removeLockLast(); err != nil || there(w.Path()) {
		t.Errorf("error %v; is it still there? %v", err, there(w.Path()))
	}
	again, err := Open(outdir.Roots{}, w.output, "vm")
	if err != nil {
		t.Fatalf("the next run: %v", err)
	}
	if err := again.removeLockLast(); err != nil {
		t.Error(err)
	}
}

func TestWhatIsOwedStaysKnownWhenTheVMIsAnotherOneByNow(t *testing.T) {
	t.Parallel()
	w := newWorkdir(t)
	if err := errors.Join(
		w.NoteSnapshot("s", vsphere.Wait{Task: vsphere.Task{What: "make it"}}),
		w.NoteTask(vsphere.Task{What: "make it", Ref: "task-1"}),
		w.SetDisk("2000", Disk{Part: "vm-disk-0.part", Done: true}),
		w.WriteFile("vm-disk-0.part", nil),
	); err != nil {
		t.Fatal(err)
	}
	resumed, err := w.Begin(Identity{InstanceUUID: "u", ChangeVersion: "2"}, "job")
	if err != nil || resumed || w.Has("vm-disk-0.part") {
		t.Errorf("resumed %t, the part file is there: %t, %v", resumed, w.Has("vm-disk-0.part"), err)
	}
	if l := stored(t, w); len(l.Disks) > 0 || l.Snapshot != "s" || l.Pending == nil || l.Pending.Ref != "task-1" {
		t.Errorf("the ledger is %+v", l)
	}
}

func TestALookAtAWorkDirectoryDisturbsNobodyAndSaysWhatItCannotRead(t *testing.T) {
	t.Parallel()
	w := newWorkdir(t)
	look := func() (*Dir, error) {
		output, base, ok := Split(w.Path())
		if !ok || output != w.output || base != "vm" {
			t.Fatalf("%s is split into %s and %s, %t", w.Path(), output, base, ok)
		}
		return Peek(outdir.Roots{}, output, base)
	}
	if seen, err := look(); err != nil || !seen.InUse() || seen.VM() != w.VM() || !seen.IsOf("U") {
		t.Errorf("a run that is at work: %v, in use %t, %+v", err, seen.InUse(), seen.VM())
	}
	if err := w.Unlock(); err != nil {
		t.Fatal(err)
	}
	if seen, _ := look(); seen.InUse() {
		t.Error("it is in use when nobody works there")
	}
	var version *VersionError
	for text, want := range map[string]func(error) bool{
		`{"version":7}`: func(err error) bool { return errors.As(err, &version) && version.Version == 7 },
		`{"version":`:   func(err error) bool { return err != nil && !errors.As(err, new(*VersionError)) },
		`{"version":1,"vm":{"instance_uuid":"u"},"disks":{"1":{"part":"p","checkpoint":{"etag":"e"}}}}`: func(err error) bool { return err == nil },
	} {
		put(t, w.File(ledgerName), text)
		if _, err := look(); !want(err) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
