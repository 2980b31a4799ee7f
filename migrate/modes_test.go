package migrate_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// ordinary is the mode that the umask leaves to files, and to directories.
func ordinary(t *testing.T) (file, dir fs.FileMode) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "d")
	if err := os.Mkdir(path, 0o777); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(path, "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return mode(t, f.Name()), mode(t, path)
}

func mode(t *testing.T, path string) fs.FileMode {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.Mode().Perm()
}

func TestImagesAndWhatDescribesThemHaveTheModeThatTheUmaskLeaves(t *testing.T) {
	t.Parallel()
	file, dir := ordinary(t)
	disk := rawDisk(t, mib, extent{0, mib, true})
	for _, format := range everyFormat {
		t.Run(string(format), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "guest1", EFI: true, NVRAM: []byte("nvram")}}}, disk)
			b.OnByte("guest1", 0, 1, func() {
				if got := mode(t, filepath.Join(b.out, ".hyper2kvm-guest1")); got != dir {
					t.Errorf("the work directory has mode %o, not %o", got, dir)
				}
			})
			b.export(b.job(format))
			names := b.visible()
			if len(names) < 3 {
				t.Fatalf("only %v landed", names)
			}
			for _, name := range names {
				if got := mode(t, filepath.Join(b.out, name)); got != file {
					t.Errorf("%s has mode %o, not %o", name, got, file)
				}
			}
			if got := mode(t, b.out); got != dir {
				t.Errorf("the output directory has mode %o, not %o", got, dir)
			}
		})
	}
}
