package sqlite_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/daemon/store/sqlite"
)

func TestABackupHasWhatIsCommittedWhileTheStoreGoesOn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "jobs.db")
	s := open(t, path)
	create(t, s, "a", "b")
	b, err := sqlite.OpenBeside(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	copied := filepath.Join(dir, "a copy?.db") // a name that means something in a URI
	if err := b.Backup(t.Context(), copied); err != nil {
		t.Fatal(err)
	}
	create(t, s, "c")
	if info, err := os.Stat(copied); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	again := open(t, copied)
	counts, err := again.Counts(t.Context())
	if err != nil || counts.Pending != 2 {
		t.Errorf("the copy has %+v, %v", counts, err)
	}
	if err := b.Backup(t.Context(), copied); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a file that is there: %v", err)
	}
}

func TestABackupThatIsBrokenOffLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "jobs.db")
	open(t, path)
	b, err := sqlite.OpenBeside(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	copied := filepath.Join(dir, "copy.db")
	if err := b.Backup(ctx, copied); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if _, err := os.Lstat(copied); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is there: %v", err)
	}
}
