package sqlite_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pressly/goose/v3"
	"go.uber.org/goleak"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/audit"
	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/daemon/rates"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/sqlite"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/storetest"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open opens a store and closes it when the test ends.
func open(t testing.TB, path string) *sqlite.Store {
	t.Helper()
	return openAt(t, path, nil)
}

// openAt is open with another wall clock.
func openAt(t testing.TB, path string, wall func() time.Time) *sqlite.Store {
	t.Helper()
	s, err := sqlite.OpenAt(t.Context(), path, wall)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestStoreConforms(t *testing.T) {
	t.Parallel()
	storetest.Suite{Open: func(t *testing.T, wall func() time.Time) jobs.Store {
		return openAt(t, filepath.Join(t.TempDir(), "state.db"), wall)
	}}.Run(t)
}

func TestTokensConform(t *testing.T) {
	t.Parallel()
	storetest.Tokens(t, func(t *testing.T) access.Tokens { return open(t, filepath.Join(t.TempDir(), "state.db")).Tokens() })
}

func TestAuditStoreConforms(t *testing.T) {
	t.Parallel()
	storetest.Audit(t, func(t *testing.T) audit.Store { return open(t, filepath.Join(t.TempDir(), "state.db")).Audit() })
}

func TestRateStoreConforms(t *testing.T) {
	t.Parallel()
	storetest.Rates(t, func(t *testing.T) rates.Store { return open(t, filepath.Join(t.TempDir(), "state.db")).Rates() })
}

func def(id string) job.Definition {
	return job.Definition{ID: id, Name: id, VMPath: "/dc/vm/" + id, OutputPath: "/out/" + id, VCenter: "lab"}
}

func create(t testing.TB, s *sqlite.Store, ids ...string) {
	t.Helper()
	batch := make([]jobs.NewJob, len(ids))
	for i, id := range ids {
		batch[i] = jobs.NewJob{Definition: def(id)}
	}
	if err := s.Create(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
}

func claim(t testing.TB, s *sqlite.Store, owner string) jobs.Claimed {
	t.Helper()
	c, err := s.Claim(t.Context(), jobs.ClaimRequest{Owner: owner, Hold: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestASecondDaemonIsRefused(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	first, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = sqlite.Open(t.Context(), path)
	if !errors.Is(err, sqlite.ErrLocked) {
		t.Fatalf("Open = %v, want ErrLocked", err)
	}
	for _, want := range []string{path, fmt.Sprint(os.Getpid()), "state directory"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q lacks %q", err, want)
		}
	}
	create(t, first, "still works")
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, path)
}

func TestAJobThatRanWhenItsDaemonDiedIsClaimedAtOnceAndTheDeadIsFenced(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	s, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	create(t, s, "a")
	dead := claim(t, s, "dead")
	progress := models.Progress{Phase: "exporting", PercentComplete: 42}
	if _, err := s.Heartbeat(t.Context(), dead.Claim, jobs.Beat{Hold: time.Hour, Progress: &progress}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil { // as the system closes a dead process's files
		t.Fatal(err)
	}
	s = open(t, path)
	c := claim(t, s, "alive")
	if c.Claim.Epoch != 2 || *c.Job.Progress != progress || c.Failures != 0 {
		t.Errorf("claim after the restart: %+v", c)
	}
	if _, err := s.Heartbeat(t.Context(), dead.Claim, jobs.Beat{}); !errors.Is(err, jobs.ErrFenced) {
		t.Errorf("heartbeat of the dead = %v, want ErrFenced", err)
	}
}

func TestAFileThatIsNoDatabaseIsRefused(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	text := []byte(strings.Repeat("this is a letter to my aunt\n", 400))
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := sqlite.Open(t.Context(), path)
	if !errors.Is(err, sqlite.ErrCorrupt) || !strings.Contains(err.Error(), path) {
		t.Errorf("Open = %v, want ErrCorrupt with the path", err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, text) {
		t.Errorf("the file was changed (error %v)", err)
	}
}

func TestADatabaseOfANewerVersionIsRefused(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	s, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (4711, 1)`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = sqlite.Open(t.Context(), path)
	if !errors.Is(err, sqlite.ErrNewerSchema) || !strings.Contains(err.Error(), "4711") {
		t.Errorf("Open = %v, want ErrNewerSchema with the version", err)
	}
}

func TestTheStateFileIsForItsOwnerOnly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, filepath.Join(dir, "state #1 100%?.db")) // and has any name
	create(t, s, "a")
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 4 {
		t.Fatalf("files = %v, error %v; want the database, -wal, -shm and .lock", entries, err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode != 0o600 {
			t.Errorf("%s has mode %#o, want 0600", e.Name(), mode)
		}
	}
}

func TestAMissingDirectoryIsNamed(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "missing", "state.db")
	if _, err := sqlite.Open(t.Context(), path); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("Open = %v, want ErrNotExist with the path", err)
	}
}

// runnerFunc is a jobs.Runner.
type runnerFunc func(ctx context.Context, def job.Definition, t *progress.Tracker) (job.Result, error)

func (f runnerFunc) Run(ctx context.Context, def job.Definition, t *progress.Tracker) (job.Result, error) {
	return f(ctx, def, t)
}

func (runnerFunc) CleanUp(context.Context, job.Definition, bool, *progress.Tracker) (job.Result, error) {
	return job.Result{}, nil
}

func TestAManagerGoesOnWhereADeadOneLeftOff(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	s, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	create(t, s, "a", "b", "c")
	claim(t, s, "dead")
	claim(t, s, "dead")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s = open(t, path)
	var runs atomic.Int64
	m := jobs.New(s, runnerFunc(func(context.Context, job.Definition, *progress.Tracker) (job.Result, error) {
		runs.Add(1)
		return job.Result{Success: true}, nil
	}), jobs.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	for _, id := range []string{"a", "b", "c"} {
		w, err := m.Watch(t.Context(), id, 0)
		if err != nil {
			t.Fatal(err)
		}
		for {
			e, err := w.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if e.Status == models.StatusCompleted {
				break
			}
		}
		w.Close()
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n := runs.Load(); n != 3 {
		t.Errorf("%d runs, want 3", n)
	}
}

func TestAClockThatJumpedBetweenTwoDaemonsStrandsNoJob(t *testing.T) {
	t.Parallel()
	for name, jump := range map[string]time.Duration{"back": -8 * time.Hour, "ahead": 8 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "state.db")
			first, err := sqlite.Open(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			create(t, first, "delayed", "interrupted", "fresh")
			c := claim(t, first, "first")
			if err := first.Finish(t.Context(), c.Claim, jobs.Outcome{Status: models.StatusPending, Delay: time.Minute}); err != nil {
				t.Fatal(err)
			}
			claim(t, first, "first")
			if err := first.Close(); err != nil {
				t.Fatal(err)
			}
			next := openAt(t, path, func() time.Time { return time.Now().Add(jump) })
			got := map[string]bool{}
			for range 2 {
				got[claim(t, next, "next").Claim.JobID] = true
			}
			if jump < 0 && (!got["interrupted"] || !got["fresh"]) {
				t.Errorf("claimed %v, want what was interrupted and what was never tried", got)
			}
			page, err := next.List(t.Context(), jobs.Query{IDs: []string{"delayed"}})
			if err != nil {
				t.Fatal(err)
			}
			if at := page.Jobs[0].NextAttempt; at != nil && at.Sub(time.Now().Add(jump)) > time.Minute {
				t.Errorf("the job waits until %v, longer than its delay", at)
			}
		})
	}
}

// migrate brings the schema of a database to a version.
func migrate(t *testing.T, db *sql.DB, version int64) {
	t.Helper()
	p, err := goose.NewProvider(goose.DialectSQLite3, db, os.DirFS("migrations"),
		goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.UpTo(t.Context(), version); err != nil {
		t.Fatal(err)
	}
}

func TestAStateFileOfTheFirstVersionIsBroughtUpToDate(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	migrate(t, db, 1)
	for _, j := range []struct {
		id, definition string
		epoch          int
	}{
		{"never ran", `{"id":"never ran","vm_path":"/a","output_path":"/o"}`, 0},
		{"ran", `{"id":"ran","vm_path":"/a","output_path":"/o"}`, 3},
		{"own", `{"id":"own","vm_path":"/a","output_path":"/o","username":"alice"}`, 0},
	} {
		_, err := db.ExecContext(t.Context(), `
			INSERT INTO jobs (id, definition, vcenter, priority, status, claimable_at, epoch, progress, updated_at)
			VALUES (?, ?, '', 0, 'pending', 1, ?, '{}', 1)`, j.id, j.definition, j.epoch)
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s := open(t, path)
	c, err := s.Claim(t.Context(), jobs.ClaimRequest{Owner: "o", Hold: time.Hour, Refused: []string{""}})
	if err != nil || c.Claim.JobID != "own" {
		t.Errorf("where the daemon's login is refused %q is claimed, %v; want the job with a user of its own", c.Claim.JobID, err)
	}
	for id, want := range map[string]models.Status{"never ran": models.StatusCancelled, "ran": models.StatusPending} {
		if got, err := s.Cancel(t.Context(), id, job.Cancelled{}); err != nil || got != want {
			t.Errorf("a job that %s is %s after a cancel, %v; want %s", id, got, err, want)
		}
	}
}
