package workdir

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// newInstall is a work directory with verified files that were about to get
// their names when the process died.
func newInstall(t *testing.T) *Dir {
	t.Helper()
	w := newWorkdir(t)
	in := Install{Renames: []Rename{{From: "a.part", To: "a.raw"}, {From: "b.part", To: "b.raw"}}}
	for _, m := range in.Renames {
		put(t, w.File(m.From), m.To)
	}
	put(t, w.Final("b.raw"), "")
	if err := w.Install(in); !errors.Is(err, ErrExists) { // which is as far as it gets
		t.Fatal(err)
	}
	if err := os.Remove(w.Final("b.raw")); err != nil {
		t.Fatal(err)
	}
	return w
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// holds checks that every file there is, but hidden ones, is one of want.
func holds(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if !slices.Contains([]string{ledgerName, lockName, ".hyper2kvm-vm"}, e.Name()) {
			names = append(names, e.Name())
		}
	}
	if len(names) != len(want) {
		t.Errorf("%s holds %v, not %d files", dir, names, len(want))
	}
	for name, text := range want {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || text != "" && string(got) != text {
			t.Errorf("%s holds %q, %v", name, got, err)
		}
	}
}

func TestRenamesThatACrashBrokeOffAreFinished(t *testing.T) {
	t.Parallel()
	named := map[string]string{"a.raw": "a.raw", "b.raw": "b.raw", "vm.export.json": ""}
	for done := range 4 {
		w := newInstall(t)
		for _, m := range w.ledger.Install.Renames[:done] {
			if err := os.Rename(w.File(m.From), w.Final(m.To)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.FinishInstall(false); err != nil {
			t.Fatalf("%d renames were done: %v", done, err)
		}
		holds(t, w.output, named)
		if err := w.FinishInstall(false); err != nil {
			t.Errorf("a second time: %v", err)
		}
	}
	t.Run("with a name beside the old one", func(t *testing.T) {
		for _, replace := range []bool{false, true} {
			w := newInstall(t)
			if err := os.Link(w.File("a.part"), w.Final("a.raw")); err != nil {
				t.Fatal(err)
			}
			if err := w.FinishInstall(replace); err != nil {
				t.Fatal(err)
			}
			holds(t, w.output, named)
			holds(t, w.Path(), nil)
		}
	})
}

func TestAFileOfOthersIsNotTakenForOneThatWasRenamed(t *testing.T) {
	t.Parallel()
	w := newInstall(t)
	if err := os.Remove(w.File("a.part")); err != nil {
		t.Fatal(err)
	}
	put(t, w.Final("a.raw"), "other") // of the same size
	if err := w.FinishInstall(true); !errors.Is(err, ErrGone) {
		t.Fatalf("error %v", err)
	}
	holds(t, w.output, map[string]string{"a.raw": "other"})
	if err := w.SetDisk("1", Disk{Part: "a.part", Done: true}); err != nil {
		t.Fatal(err)
	}
	if err := w.SetDisk("2", Disk{Part: "b.part", Done: true}); err != nil {
		t.Fatal(err)
	}
	if err := w.DropInstall(); err != nil {
		t.Fatal(err)
	}
	if l := stored(t, w); l.Install != nil || l.Disks["1"] != nil || l.Disks["2"] == nil {
		t.Errorf("the ledger vouches for %+v, %v", l.Disks, l.Install)
	}
}

func TestAnExportThatHadAllItsNamesIsNotTakenApartForWhatBecameOfOneFile(t *testing.T) {
	t.Parallel()
	w := newInstall(t)
	if err := w.FinishInstall(false); err != nil {
		t.Fatal(err)
	}
	put(t, w.Final("a.raw"), "and the guest has written to it since")
	if err := w.FinishInstall(false); err != nil {
		t.Errorf("error %v", err)
	}
	holds(t, w.output, map[string]string{"a.raw": "", "b.raw": "b.raw", "vm.export.json": ""})
}

func TestFilesThatHaveTheirNamesGoBackWhenAnotherCannotGetIts(t *testing.T) {
	t.Parallel()
	for _, obstacle := range []string{"b.raw", "vm.export.json"} {
		w := newInstall(t)
		if err := os.Rename(w.File("a.part"), w.Final("a.raw")); err != nil {
			t.Fatal(err)
		}
		put(t, w.Final(obstacle), "theirs")
		if err := w.FinishInstall(false); !errors.Is(err, ErrExists) {
			t.Fatalf("error %v", err)
		}
		holds(t, w.output, map[string]string{obstacle: "theirs"})
		holds(t, w.Path(), map[string]string{"a.part": "a.raw", "b.part": "b.raw", receiptName: ""})
		if err := w.FinishInstall(true); err != nil {
			t.Fatal(err)
		}
		holds(t, w.output, map[string]string{"a.raw": "a.raw", "b.raw": "b.raw", "vm.export.json": ""})
	}
}

func TestAReceiptCountsOnlyWhileItsFilesAreThereAsItTells(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(path string) error{
		"gone":        os.Remove,
		"shorter":     func(path string) error { return os.Truncate(path, 1) },
		"a directory": func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
	} {
		w := newWorkdir(t)
		put(t, w.Final("a.raw"), "12345")
		receipt := Receipt{Files: []ReceiptFile{{Name: "a.raw", Size: 5}}}
		if why := w.Broken(receipt); why != "" {
			t.Errorf("as it was: %s", why)
		}
		if err := change(w.Final("a.raw")); err != nil {
			t.Fatal(err)
		}
		if w.Broken(receipt) == "" {
			t.Errorf("%s: it counts", name)
		}
	}
	if newWorkdir(t).Broken(Receipt{}) == "" {
		t.Error("a receipt without files counts")
	}
}
