package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
)

// failing is the operating system's files, of which one operation fails, once.
type failing struct {
	system
	at    string // "write", "sync", "close", "rename" or "syncDir"
	calls []string
}

var errDisk = &os.PathError{Op: "sync", Path: "the disk", Err: syscall.EIO}

func (f *failing) do(op string) error {
	f.calls = append(f.calls, op)
	if op == f.at {
		f.at = ""
		return errDisk
	}
	return nil
}

func (f *failing) create(path string, perm fs.FileMode) (file, error) {
	f.calls = append(f.calls, "create")
	inner, err := f.system.create(path, perm)
	return &failingFile{inner, f}, err
}

func (f *failing) rename(oldpath, newpath string) error {
	return orElse(f.do("rename"), func() error { return f.system.rename(oldpath, newpath) })
}

func (f *failing) syncDir(dir string) error {
	return orElse(f.do("syncDir"), func() error { return f.system.syncDir(dir) })
}

type failingFile struct {
	file
	fs *failing
}

func (f *failingFile) Write(p []byte) (int, error) {
	if err := f.fs.do("write"); err != nil {
		return 0, err
	}
	return f.file.Write(p)
}

func (f *failingFile) Sync() error  { return orElse(f.fs.do("sync"), f.file.Sync) }
func (f *failingFile) Close() error { return errors.Join(f.fs.do("close"), f.file.Close()) }

func orElse(err error, otherwise func() error) error {
	if err != nil {
		return err
	}
	return otherwise()
}

func open(t *testing.T, dir string) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return root
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// names lists dir.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAFileThatCouldNotBeWrittenOrSyncedIsNeitherRenamedNorSyncedAgain(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"write", "sync", "close", "rename"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "ledger.json")
			put(t, path, "old")
			f := &failing{at: at, system: system{open(t, filepath.Dir(path))}}
			if err := write(f, "ledger.json", []byte("new"), 0o644); !errors.Is(err, syscall.EIO) {
				t.Errorf("error %v", err)
			}
			if got := names(t, filepath.Dir(path)); content(t, path) != "old" || len(got) != 1 {
				t.Errorf("it holds %q, beside %v", content(t, path), got)
			}
			if at != "rename" && slices.Contains(f.calls, "rename") {
				t.Errorf("it was renamed after all: %v", f.calls)
			}
			f.calls = nil
			if err := write(f, "ledger.json", []byte("new"), 0o644); err != nil || content(t, path) != "new" {
				t.Errorf("the second time: %v, it holds %q", err, content(t, path))
			}
			if f.calls[0] != "create" {
				t.Errorf("the second time it did not begin with a new file: %v", f.calls)
			}
		})
	}
}

func TestADirectoryThatCouldNotBeSyncedIsAnError(t *testing.T) {
	t.Parallel()
	f := &failing{at: "syncDir", system: system{open(t, t.TempDir())}}
	if err := write(f, "ledger.json", []byte("new"), 0o644); !errors.Is(err, syscall.EIO) {
		t.Errorf("error %v", err)
	}
}

func TestTwoThatWriteOneFileLeaveWhatOneOfThemWrote(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "profiles.yaml")
	var wg sync.WaitGroup
	for _, text := range []string{"the one", "the other"} {
		wg.Go(func() {
			for range 20 {
				if err := Write(path, []byte(text), 0o644); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := content(t, path); got != "the one" && got != "the other" {
		t.Errorf("it holds %q", got)
	}
	if got := names(t, filepath.Dir(path)); len(got) != 1 {
		t.Errorf("left: %v", got)
	}
}

// ways are the ways to rename without replacing.
var ways = map[string]func(*os.Root, string, string) error{
	"as it is chosen": Rename, "by a link": linkAndRemove, "by a claim": claimAndRename,
}

func TestARenameTakesNoNameThatIsTaken(t *testing.T) {
	t.Parallel()
	for name, rename := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			root := open(t, dir)
			from, to := filepath.Join(dir, "part"), filepath.Join(dir, "final")
			put(t, from, "ours")
			for what, occupy := range map[string]func() error{
				"a file":               func() error { return os.WriteFile(to, []byte("theirs"), 0o600) },
				"a directory":          func() error { return os.Mkdir(to, 0o700) },
				"a link to nowhere":    func() error { return os.Symlink("nowhere", to) },
				"a link to a file":     func() error { return os.Symlink(from, to) },
				"a file without bytes": func() error { return os.WriteFile(to, nil, 0o600) },
			} {
				if err := occupy(); err != nil {
					t.Fatal(err)
				}
				before, _ := os.Lstat(to)
				if err := rename(root, "part", "final"); !errors.Is(err, fs.ErrExist) {
					t.Errorf("%s: %v", what, err)
				}
				if after, err := os.Lstat(to); err != nil || !os.SameFile(before, after) || content(t, from) != "ours" {
					t.Errorf("%s was touched: %v", what, err)
				}
				if err := os.Remove(to); err != nil {
					t.Fatal(err)
				}
			}
			if err := rename(root, "part", "final"); err != nil || content(t, to) != "ours" {
				t.Errorf("nothing is in the way: %v", err)
			}
			if got := names(t, dir); len(got) != 1 {
				t.Errorf("left: %v", got)
			}
			if err := rename(root, "part", "other"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a file that is not there: %v", err)
			}
			if got := names(t, dir); len(got) != 1 {
				t.Errorf("a name was taken for nothing: %v", got)
			}
		})
	}
}

func TestARenameByALinkThatWasBrokenOffIsFinished(t *testing.T) {
	t.Parallel()
	for name, rename := range map[string]func(*os.Root, string, string) error{"as it is chosen": Rename, "by a link": linkAndRemove} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			root := open(t, dir)
			from, to := filepath.Join(dir, "part"), filepath.Join(dir, "final")
			put(t, from, "ours")
			if err := os.Link(from, to); err != nil {
				t.Fatal(err)
			}
			if err := rename(root, "part", "final"); err != nil || content(t, to) != "ours" || len(names(t, dir)) != 1 {
				t.Errorf("%v, there is %v", err, names(t, dir))
			}
		})
	}
}

func TestNothingIsWrittenOrRenamedOutsideOfTheDirectory(t *testing.T) {
	t.Parallel()
	for _, escape := range []string{"../theirs", "link/theirs", "inner/../../theirs"} {
		outside := t.TempDir()
		dir := filepath.Join(outside, "dir")
		if err := errors.Join(os.Mkdir(dir, 0o700), os.Mkdir(filepath.Join(dir, "inner"), 0o700), os.Symlink("..", filepath.Join(dir, "link"))); err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(dir, "ours"), "ours")
		root := open(t, dir)
		if err := WriteIn(root, escape, []byte("x"), 0o600); err == nil {
			t.Errorf("%s was written", escape)
		}
		for name, rename := range ways {
			if err := rename(root, "ours", escape); err == nil {
				t.Errorf("a file was renamed to %s, %s", escape, name)
			}
		}
		if got := names(t, outside); len(got) != 1 {
			t.Errorf("%s: outside there is %v", escape, got)
		}
	}
}
