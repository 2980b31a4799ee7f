package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/sqlite"
)

// sizeAfterPruning fills a state file with jobs that have ended, forgets them, and
// returns how large the file was and is.
func sizeAfterPruning(t *testing.T, path string) (before, after int64) {
	t.Helper()
	size := func() int64 {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	s := open(t, path)
	const n = 4000
	batch := make([]jobs.NewJob, n)
	ids := make([]string, n)
	for i := range batch {
		ids[i] = fmt.Sprintf("job-%05d", i)
		batch[i] = jobs.NewJob{Definition: def(ids[i])}
	}
	if err := s.Create(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), `UPDATE jobs SET status = 'completed', claimable_at = NULL, completed_at = 1`); err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), `PRAGMA wal_checkpoint(TRUNCATE)`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	before = size()
	pruned, err := s.Prune(t.Context(), ids, 0)
	if err != nil || len(pruned) != n {
		t.Fatalf("%d jobs forgotten, %v", len(pruned), err)
	}
	for more := true; more; {
		if more, err = s.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
		// Between two parts, the store answers.
		if _, err := s.List(t.Context(), jobs.Query{Limit: 1}); err != nil {
			t.Fatal(err)
		}
		if err := s.Create(t.Context(), []jobs.NewJob{{Definition: def(fmt.Sprint("between-", more))}}); err != nil && !errors.Is(err, jobs.ErrExists) {
			t.Fatal(err)
		}
	}
	return before, size()
}

func TestTheFileShrinksOnceJobsAreForgotten(t *testing.T) {
	t.Parallel()
	before, after := sizeAfterPruning(t, filepath.Join(t.TempDir(), "state.db"))
	if after > before/2 {
		t.Errorf("the file had %d bytes, and has %d without its jobs", before, after)
	}
}

func TestAFileOfAnEarlierVersionShrinksToo(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	s, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{`PRAGMA auto_vacuum = NONE`, `VACUUM`} {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	mode := -1
	if err := db.QueryRowContext(t.Context(), `PRAGMA auto_vacuum`).Scan(&mode); err != nil || mode != 0 {
		t.Fatalf("auto_vacuum is %d, %v", mode, err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	before, after := sizeAfterPruning(t, path)
	if after > before/2 {
		t.Errorf("the file had %d bytes, and has %d without its jobs", before, after)
	}
}

func TestPruningIsOneTransactionAndEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := open(t, filepath.Join(t.TempDir(), "state.db"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Prune(ctx, []string{"a"}, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("Prune = %v", err)
	}
	if _, _, err := s.Ended(t.Context(), []models.Status{models.StatusFailed}, 0, "nonsense", 1); !errors.Is(err, jobs.ErrCursor) {
		t.Errorf("Ended = %v", err)
	}
}
