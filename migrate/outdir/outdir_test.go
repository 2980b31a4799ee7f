package outdir_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/migrate/outdir"
)

// tree makes a root with a directory beside it that nobody may get to.
func tree(t *testing.T) (root, outside string) {
	t.Helper()
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	root, outside = filepath.Join(top, "root"), filepath.Join(top, "outside")
	must(t, os.Mkdir(root, 0o700), os.Mkdir(outside, 0o700), os.Mkdir(filepath.Join(root, "vms"), 0o700),
		os.WriteFile(filepath.Join(outside, "file"), nil, 0o600), os.WriteFile(filepath.Join(root, "file"), nil, 0o600))
	return root, outside
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestNothingIsSaidOfWhatLiesOutside(t *testing.T) {
	t.Parallel()
	root, outside := tree(t)
	for name, target := range map[string]string{
		"absolute": outside, "relative": "../outside", "to-file": "../outside/file", "to-nothing": "../outside/none",
		"to-nothing-absolute": "/none/at/all", "to-root": "/", "via": "absolute", "up": "..",
	} {
		must(t, os.Symlink(target, filepath.Join(root, name)))
	}
	must(t, os.Symlink("../../outside", filepath.Join(root, "vms", "deep")))
	roots := outdir.Below(root)
	for _, path := range []string{
		outside, outside + "/file", outside + "/none", outside + "/new/dir", filepath.Dir(root), "/", "/etc", "/etc/passwd", "/root/.ssh/keys",
		root + "x", root + "/absolute", root + "/absolute/new", root + "/relative", root + "/relative/new", root + "/to-file", root + "/to-file/x",
		root + "/to-nothing", root + "/to-nothing/x", root + "/to-nothing-absolute", root + "/to-root/etc", root + "/via/x", root + "/up",
		root + "/up/outside", root + "/vms/deep", root + "/vms/deep/new",
	} {
		_, openErr := roots.Open(path)
		_, makeErr := roots.Make(path)
		_, nearestErr := roots.Nearest(path)
		for what, err := range map[string]error{"check": roots.Check(path), "open": openErr, "make": makeErr, "nearest": nearestErr} {
			if err == nil || err.Error() != outdir.ErrOutside.Error() || !outdir.IsOutside(err) || !fault.IsPermanent(err) {
				t.Errorf("%s %s: %v", what, path, err)
			}
		}
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 1 {
		t.Errorf("outside there is %v, %v", entries, err)
	}
}

func TestADirectoryBelowARootIsMadeAndOpened(t *testing.T) {
	t.Parallel()
	root, _ := tree(t)
	must(t, os.Symlink("vms", filepath.Join(root, "images")))
	roots := outdir.Below("/none", root)
	for _, path := range []string{root, root + "/vms", root + "/vms/a/b/c", root + "/images/d", root + "/..dots", root + "/.hidden"} {
		dir, err := roots.Make(path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		must(t, dir.WriteFile("x", []byte("x"), 0o600))
		dir.Close()
		if _, err := os.Stat(filepath.Join(path, "x")); err != nil {
			t.Error(err)
		}
	}
	if _, err := roots.Open(root + "/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("one that is not there: %v", err)
	}
	for _, path := range []string{root + "/file", root + "/file/below"} {
		if err := roots.Check(path); !errors.Is(err, outdir.ErrOccupied) || !strings.Contains(err.Error(), root+"/file is a file") || fault.Hint(err) == "" {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := outdir.Below("/none").Check("/none/x"); outdir.IsOutside(err) || fault.IsPermanent(err) {
		t.Errorf("a root that is not there, perhaps not mounted: %v", err)
	}
	if err := outdir.Below().Check(root); !outdir.IsOutside(err) {
		t.Errorf("without roots: %v", err)
	}
}

func TestAHandleStaysWhereItIsWhateverBecomesOfItsName(t *testing.T) {
	t.Parallel()
	for _, roots := range []func(string) outdir.Roots{
		func(root string) outdir.Roots { return outdir.Below(root) },
		func(string) outdir.Roots { return outdir.Own() },
		func(string) outdir.Roots { return outdir.Roots{} },
	} {
		root, outside := tree(t)
		dir, err := roots(root).Make(root + "/vms/job")
		must(t, err, os.Rename(root+"/vms", root+"/moved"), os.Symlink(outside, root+"/vms"), os.Mkdir(outside+"/job", 0o700))
		must(t, dir.WriteFile("disk", []byte("x"), 0o600))
		dir.RemoveMade() // is not empty
		if _, err := os.Stat(root + "/moved/job/disk"); err != nil {
			t.Error(err)
		}
		must(t, dir.Remove("disk"))
		dir.RemoveMade()
		if _, err := os.Stat(root + "/moved/job"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("what was made is still there: %v", err)
		}
		if _, err := os.Stat(outside + "/job"); err != nil {
			t.Errorf("a directory of others went: %v", err)
		}
		dir.Close()
	}
}

// A directory is swapped for a link and back all the time, as fast as can be.
func TestADirectoryThatIsSwappedWhileItIsOpenedLeadsNowhere(t *testing.T) {
	t.Parallel()
	for name, rootsOf := range map[string]func(string, string) outdir.Roots{
		"below": func(root, _ string) outdir.Roots { return outdir.Below(root) },
		"own":   func(root, also string) outdir.Roots { return outdir.Own() },
	} {
		root, outside := tree(t)
		hidden := filepath.Join(filepath.Dir(root), ".hidden")
		must(t, os.Rename(outside, hidden), os.Symlink("../.hidden", root+"/evil"), os.Mkdir(root+"/vms/in", 0o700))
		stop, done := make(chan struct{}), sync.WaitGroup{}
		done.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_ = os.Rename(root+"/vms", root+"/kept")
					_ = os.Rename(root+"/evil", root+"/vms")
					_ = os.Rename(root+"/vms", root+"/evil")
					_ = os.Rename(root+"/kept", root+"/vms")
				}
			}
		})
		opened, refused := 0, 0
		for range 3000 {
			dir, err := rootsOf(root, "").Make(root + "/vms/in/new")
			if err != nil {
				refused++
				continue
			}
			opened++
			_ = dir.WriteFile("x", nil, 0o600)
			dir.Close()
		}
		close(stop)
		done.Wait()
		if entries, err := os.ReadDir(hidden); err != nil || len(entries) != 1 {
			t.Errorf("%s: outside there is %v, %v", name, entries, err)
		}
		if opened == 0 || refused == 0 {
			t.Logf("%s: %d opened, %d refused: the race was not met", name, opened, refused)
		}
	}
}

func TestADaemonStartedByHandWritesWhereItsUserMayButNotIntoTheSystem(t *testing.T) {
	t.Parallel()
	root, outside := tree(t)
	state := filepath.Join(root, ".local", "vms")
	must(t, os.MkdirAll(state, 0o700), os.Symlink("/etc", root+"/etc"), os.Symlink(outside, root+"/link"),
		os.Symlink(root+"/.local", root+"/shown"), os.Symlink("/etc/none", root+"/nothing"), os.Symlink("none", root+"/dangling"))
	roots := outdir.Own(state)
	for _, path := range []string{root + "/new", root + "/link/new", outside, state, state + "/x/y", root + "/shown/vms/x"} {
		dir, err := roots.Make(path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		dir.Close()
	}
	for _, path := range []string{
		"/", "/etc", "/etc/x", "/etc/passwd", "/etc/passwd/x", "/usr/local/x", "/bin/x", "/boot", "/proc/self", "/sys/x", "/dev/x", "/dev/shm/x", "/run/x",
		"/var/lib/x", "/var/spool/cron", "/var/lib/none/none", "/root/.ssh", root + "/.ssh/x", root + "/.local", root + "/.local/x",
		root + "/shown/other", root + "/etc/x", root + "/etc/passwd", root + "/nothing", root + "/nothing/x", root + "/dangling",
	} {
		for what, err := range map[string]error{"check": roots.Check(path), "make": func() error { _, err := roots.Make(path); return err }()} {
			if err == nil || err.Error() != outdir.ErrOutside.Error() {
				t.Errorf("%s %s: %v", what, path, err)
			}
		}
	}
	if err := roots.Check(root + "/file/x"); !errors.Is(err, outdir.ErrOccupied) {
		t.Errorf("below a file: %v", err)
	}
	if os.Geteuid() == 0 {
		if err := roots.Check("/images-of-mine"); err != nil {
			t.Errorf("a new directory at the top, for root: %v", err)
		}
	}
	for _, path := range []string{"/var/tmp", "/var/lib/libvirt/images"} {
		if _, err := os.Stat(path); err == nil && os.Geteuid() == 0 {
			if err := roots.Check(path + "/vm"); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
}
