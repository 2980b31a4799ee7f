package sqlite_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/sqlite"
	"github.com/hyper2kvm/hyper2kvm/internal/volume/volumetest"
)

// troubleOf is the kind of trouble that err reports, or "".
func troubleOf(err error) jobs.Trouble {
	var e *jobs.StoreError
	if !errors.As(err, &e) {
		return ""
	}
	return e.Trouble
}

// check looks at a store and wants this trouble, "" for none.
func check(t *testing.T, s *sqlite.Store, want jobs.Trouble) {
	t.Helper()
	if _, err := s.Check(t.Context()); troubleOf(err) != want || (err == nil) != (want == "") {
		t.Errorf("Check = %v, want trouble %q", err, want)
	}
}

func try(t *testing.T, s *sqlite.Store, id string) error {
	t.Helper()
	return s.Create(t.Context(), []jobs.NewJob{{Definition: def(id)}})
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func TestAStateFileThatGoesAwayTakesNoNewWorkAndLosesNoJob(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]func(t *testing.T, path string){
		"deleted": func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		},
		"replaced": func(t *testing.T, path string) {
			other := path + ".other"
			if err := os.WriteFile(other, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			rename(t, other, path)
		},
		"its directory moved": func(t *testing.T, path string) {
			rename(t, filepath.Dir(path), filepath.Dir(path)+".moved")
			if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "state", "state.db")
			if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			s, err := sqlite.Open(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			create(t, s, "a", "b")
			running := claim(t, s, "o")
			check(t, s, "")
			away(t, path)
			check(t, s, jobs.TroubleGone)
			if err := try(t, s, "c"); troubleOf(err) != jobs.TroubleGone {
				t.Errorf("Create = %v", err)
			}
			if _, err := s.Claim(t.Context(), jobs.ClaimRequest{Owner: "o", Hold: time.Hour}); troubleOf(err) != jobs.TroubleGone {
				t.Errorf("Claim = %v", err)
			}
			// What runs goes on, and its outcome is kept.
			if _, err := s.Heartbeat(t.Context(), running.Claim, jobs.Beat{Hold: time.Hour}); err != nil {
				t.Errorf("Heartbeat = %v", err)
			}
			if err := s.Finish(t.Context(), running.Claim, jobs.Outcome{Status: models.StatusCompleted}); err != nil {
				t.Errorf("Finish = %v", err)
			}
			err = s.Close()
			if err == nil {
				t.Fatal("Close says nothing")
			}
			saved, _ := filepath.Glob(path + ".rescued-*")
			if len(saved) != 1 || !strings.Contains(err.Error(), saved[0]) {
				t.Fatalf("saved %v; Close = %v", saved, err)
			}
			if info, err := os.Stat(saved[0]); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("the copy has mode %v, %v", info.Mode(), err)
			}
			if _, err := sqlite.Open(t.Context(), path); !errors.Is(err, sqlite.ErrMissing) || !strings.Contains(err.Error(), saved[0]) {
				t.Errorf("Open without the state file = %v, want ErrMissing that names %s", err, saved[0])
			}
			rename(t, saved[0], path)
			again := open(t, path)
			if n, err := again.Counts(t.Context()); err != nil || n != (jobs.Counts{Pending: 1, Completed: 1}) {
				t.Errorf("afterwards there are %+v, %v", n, err)
			}
		})
	}
}

func TestAStateFileThatComesBackIsUsedAgain(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	s := open(t, path)
	rename(t, path, path+".away")
	check(t, s, jobs.TroubleGone)
	rename(t, path+".away", path)
	check(t, s, "")
	create(t, s, "a")
}

func TestAWriteAheadLogThatIsDeletedIsNoticedAndSaved(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	s, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	create(t, s, "a")
	if err := os.Remove(path + "-wal"); err != nil {
		t.Fatal(err)
	}
	check(t, s, jobs.TroubleGone)
	if err := try(t, s, "b"); troubleOf(err) != jobs.TroubleGone {
		t.Errorf("Create = %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := open(t, path).Counts(t.Context()); err != nil || n.Pending != 1 {
		t.Errorf("afterwards there are %+v, %v", n, err)
	}
}

func TestAWriteThatIsBrokenOffLeavesTheFilesAsTheyAre(t *testing.T) {
	t.Parallel()
	s := open(t, filepath.Join(t.TempDir(), "state.db"))
	for i := range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		var batch []jobs.NewJob
		for k := range 100 {
			batch = append(batch, jobs.NewJob{Definition: def(fmt.Sprintf("%d-%d", i, k))})
		}
		go cancel()
		_ = s.Create(ctx, batch)
		cancel()
	}
	check(t, s, "")
	create(t, s, "a")
}

func TestALockFileThatIsRemovedIsTold(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	s := open(t, path)
	if notes, err := s.Check(t.Context()); err != nil || len(notes) > 0 {
		t.Fatalf("Check = %v, %v", notes, err)
	}
	if err := os.Remove(path + ".lock"); err != nil {
		t.Fatal(err)
	}
	if notes, err := s.Check(t.Context()); err != nil || len(notes) != 1 || !strings.Contains(notes[0], path+".lock") {
		t.Errorf("Check = %v, %v", notes, err)
	}
}

func TestAStateFileThatIsLockedForLongIsBusy(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	s := open(t, path)
	db, err := sql.Open("sqlite", "file:"+path+"?_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := try(t, s, "a"); troubleOf(err) != jobs.TroubleBusy || !strings.Contains(err.Error(), path) {
		t.Errorf("Create = %v, want the file to be busy", err)
	}
	if _, err := s.Counts(t.Context()); err != nil {
		t.Errorf("reading: %v", err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	check(t, s, "")
	create(t, s, "a")
}

func TestAFullFileSystemIsToldAndPasses(t *testing.T) {
	t.Parallel()
	dir := volumetest.Tiny(t, 2<<20)
	path := filepath.Join(dir, "state.db")
	s := open(t, path)
	create(t, s, "a")
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 4<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("filling: %v", err)
	}
	var batch []jobs.NewJob // larger than what the files have may do for
	for i := range 1000 {
		batch = append(batch, jobs.NewJob{Definition: def(fmt.Sprint(i))})
	}
	err := s.Create(t.Context(), batch)
	if err != nil && strings.Contains(err.Error(), "rollback") {
		t.Errorf("Create speaks of its rollback: %v", err)
	}
	if troubleOf(err) != jobs.TroubleFull || !errors.Is(err, sqlite.ErrFull) || !strings.Contains(err.Error(), path) {
		t.Errorf("Create = %v, want the file system to be full", err)
	}
	check(t, s, jobs.TroubleFull)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	check(t, s, "")
	create(t, s, "after")
}

func TestDamageAnywhereIsFoundAtTheStart(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(f *os.File, size int64) error{
		"a page in the middle": func(f *os.File, size int64) error {
			_, err := f.WriteAt([]byte(strings.Repeat("noise", 1000))[:4096], size/2/4096*4096)
			return err
		},
		"cut off in the middle": func(f *os.File, size int64) error { return f.Truncate(size / 2 / 4096 * 4096) },
		"cut off in a page":     func(f *os.File, size int64) error { return f.Truncate(size/2/4096*4096 + 17) },
		"the beginning":         func(f *os.File, _ int64) error { _, err := f.WriteAt(make([]byte, 4096), 0); return err },
		"all but the first page": func(f *os.File, size int64) error {
			_, err := f.WriteAt(bytes.Repeat([]byte{0xa5}, int(size)-4096), 4096)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "state.db")
			s, err := sqlite.Open(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 100 {
				create(t, s, fmt.Sprint(i))
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			info, err := f.Stat()
			if err != nil {
				t.Fatal(err)
			}
			if err := damage(f, info.Size()); err != nil {
				t.Fatal(err)
			}
			if _, err := sqlite.Open(t.Context(), path); !errors.Is(err, sqlite.ErrCorrupt) || !strings.Contains(err.Error(), "restore "+path) {
				t.Errorf("Open = %v, want ErrCorrupt and what to do", err)
			}
		})
	}
}

func TestANewStateFileIsSaidToBeOne(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	s, err := sqlite.Open(t.Context(), path)
	if err != nil || !s.New() {
		t.Fatalf("New is false (error %v)", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if open(t, path).New() {
		t.Error("New is true the second time")
	}
}
