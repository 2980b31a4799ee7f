package watch_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/watch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeJobs is a manager.
type fakeJobs struct {
	mu     sync.Mutex
	counts jobs.Counts
	notes  []string
	err    error
	away   []jobs.VCenter
}

func (f *fakeJobs) Health(context.Context) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.notes, f.err
}

func (f *fakeJobs) Stats(context.Context) (jobs.Counts, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counts, f.err
}

func (f *fakeJobs) VCenters(context.Context) ([]jobs.VCenter, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.away, nil
}

// set changes what it answers.
func (f *fakeJobs) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func away(name string, state jobs.VCenterState, waiting int) jobs.VCenter {
	return jobs.VCenter{Name: name, State: state, Waiting: waiting, Reason: "connection refused",
		Since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local)}
}

// texts are reasons as words.
func texts(reasons []watch.Reason) []string {
	var out []string
	for _, r := range reasons {
		s := r.Check + " " + r.Name + ": " + r.Text
		if r.Fatal {
			s = "FATAL " + s
		}
		out = append(out, s)
	}
	return out
}

func TestADaemonThatIsWellIsReadyWithoutAWord(t *testing.T) {
	t.Parallel()
	r := watch.Readiness{
		Jobs: &fakeJobs{}, VCenters: []string{"prod"}, Space: watch.NewSpace(t.TempDir()), StateDir: "/", MinFree: 1,
		Certificates: func() []watch.Certificate {
			return []watch.Certificate{{Name: "api", NotAfter: time.Now().Add(60 * 24 * time.Hour)}}
		},
	}
	if got := r.Check(t.Context()); len(got) > 0 || !watch.Ready(got) {
		t.Errorf("reasons %v", texts(got))
	}
}

func TestTheDaemonIsReadyAsLongAsOneOfItsVCentersIs(t *testing.T) {
	t.Parallel()
	f := &fakeJobs{away: []jobs.VCenter{away("192.0.2.1", jobs.Unreachable, 1), away("prod", jobs.LoginRefused, 3)}}
	r := watch.Readiness{Jobs: f, VCenters: []string{"prod", "lab"}}
	got := r.Check(t.Context())
	if len(got) != 2 || !watch.Ready(got) || !strings.Contains(got[1].Text, "login refused since") || !strings.Contains(got[1].Text, "3 jobs wait: connection refused") {
		t.Errorf("reasons %q", texts(got))
	}
	f.away = append(f.away, away("lab", jobs.Unreachable, 0))
	if got := r.Check(t.Context()); watch.Ready(got) || got[0].Name != "prod" || got[1].Name != "lab" || got[2].Fatal {
		t.Errorf("reasons %q, want the configured ones first", texts(got))
	}
	r.VCenters = nil // jobs bring theirs along
	if got := r.Check(t.Context()); !watch.Ready(got) {
		t.Errorf("reasons %q", texts(got))
	}
}

func TestTroubleOfTheStoreAndAnExpiredCertificateAreFatal(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	r := watch.Readiness{
		Jobs: &fakeJobs{notes: []string{"the lock file was removed"}, err: errors.New("no space left for the state file")},
		Now:  func() time.Time { return now },
		Certificates: func() []watch.Certificate {
			return []watch.Certificate{{Name: "soon", NotAfter: now.Add(36 * time.Hour)}, {Name: "gone", NotAfter: now},
				{Name: "stuck", NotAfter: now.Add(99 * 24 * time.Hour), Trouble: errors.New("the key is another's")}}
		},
	}
	want := []string{
		"FATAL store : no space left for the state file",
		"FATAL certificate gone: expired at 2026-06-01T00:00:00Z",
		"store : the lock file was removed",
		"certificate soon: expires in 1 days, at 2026-06-02T12:00:00Z",
		"certificate stuck: the newer one cannot be used, and the earlier one is: the key is another's",
	}
	if got := texts(r.Check(t.Context())); !slices.Equal(got, want) {
		t.Errorf("reasons\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestTheDaemonIsReadyAsLongAsOneFileSystemHasRoom(t *testing.T) {
	t.Parallel()
	state, a, b := t.TempDir(), t.TempDir(), t.TempDir()
	free := map[string]int64{state: 1 << 30, a: 5, b: 1 << 40}
	space := watch.NewSpace(state, a, b, a)
	space.SetUsage(func(dir string) (int64, int64, error) { return free[dir], 1 << 40, nil })
	r := watch.Readiness{Space: space, StateDir: state, MinFree: 100}
	if got := r.Check(t.Context()); len(got) != 1 || got[0].Name != a || !watch.Ready(got) {
		t.Errorf("one is full: %q", texts(got))
	}
	free[b] = 99
	if got := r.Check(t.Context()); len(got) != 2 || watch.Ready(got) {
		t.Errorf("both are full: %q", texts(got))
	}
	free[b], free[state] = 1<<40, 1<<20
	if got := r.Check(t.Context()); len(got) != 2 || !got[0].Fatal || got[0].Name != state || got[1].Fatal {
		t.Errorf("the state's own is full: %q", texts(got))
	}
}

func TestADirectoryThatIsNotThereYetCountsAsTheOneAboveIt(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "not", "there", "yet")
	got := watch.NewSpace(path).Look(t.Context())
	if len(got) != 1 || got[0].Path != path || got[0].Err != nil || got[0].Free <= 0 || got[0].Size < got[0].Free {
		t.Errorf("%+v", got)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := watch.NewSpace(filepath.Join(file, "x")).Look(t.Context()); got[0].Err == nil {
		t.Errorf("below a file: %+v", got)
	}
}

func TestAFileSystemThatHangsHoldsUpNobodyAndTakesOneGoroutine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hangs := make(chan struct{})
		var calls atomic.Int32
		space := watch.NewSpace("/nfs", "/srv")
		space.SetUsage(func(dir string) (int64, int64, error) {
			if dir == "/nfs" {
				calls.Add(1)
				<-hangs
			}
			return 7, 9, nil
		})
		for range 3 {
			got := space.Look(t.Context())
			if got[0].Err == nil || got[1].Err != nil || got[1].Free != 7 {
				t.Errorf("%+v", got)
			}
		}
		if calls := calls.Load(); calls != 1 {
			t.Errorf("it was asked %d times while it hung, want once", calls)
		}
		close(hangs)
		synctest.Wait()
		if got := space.Look(t.Context()); got[0].Err != nil || got[0].Size != 9 {
			t.Errorf("when it is back: %+v", got[0])
		}
	})
}

func TestTheStatusIsOneLineAndToldWhenItChanges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeJobs{counts: jobs.Counts{Running: 4, Pending: 197}}
		r := watch.Readiness{Jobs: f, VCenters: []string{"prod", "lab"}}
		ctx, cancel := context.WithCancel(t.Context())
		var told []string
		done := make(chan error, 1)
		go func() { done <- r.Announce(ctx, func(s string) { told = append(told, s) }) }()
		time.Sleep(time.Minute)
		f.set(func() { f.away, f.counts.Failed = []jobs.VCenter{away("prod", jobs.Unreachable, 3)}, 2 })
		time.Sleep(time.Minute)
		f.set(func() { f.err = errors.New("the state file\ncannot be written: " + strings.Repeat("x", 1000)) })
		time.Sleep(time.Minute)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if len(told) != 3 || told[0] != "4 running, 197 pending" ||
			told[1] != "4 running, 197 pending, 2 failed; vCenter prod: unreachable since 03:04" ||
			!strings.Contains(told[2], "store: the state file cannot be written: xxx") || len(told[2]) > 500 || strings.Contains(told[2], "\n") {
			t.Errorf("told %q", told)
		}
	})
}
