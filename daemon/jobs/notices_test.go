package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
)

// peer is a daemon's end of what daemons tell each other.
type peer struct {
	other *peer

	mu    sync.Mutex
	heard func(jobs.Notice)
	told  map[jobs.NoticeType]int
	files int
	deaf  bool // what it is told is lost
}

// peers are the two ends between two daemons.
func peers() (*peer, *peer) {
	a, b := &peer{told: map[jobs.NoticeType]int{}}, &peer{told: map[jobs.NoticeType]int{}}
	a.other, b.other = b, a
	return a, b
}

func (p *peer) Listen(ctx context.Context, heard func(jobs.Notice)) {
	p.mu.Lock()
	p.heard = heard
	p.mu.Unlock()
	<-ctx.Done()
}

func (p *peer) Tell(_ context.Context, n jobs.Notice) error {
	p.mu.Lock()
	p.told[n.Type]++
	p.files += min(1, len(n.Files))
	p.mu.Unlock()
	p.other.mu.Lock()
	heard := p.other.heard
	if p.other.deaf {
		heard = nil
	}
	p.other.mu.Unlock()
	if heard != nil {
		heard(n)
	}
	return nil
}

func (p *peer) count(t jobs.NoticeType) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.told[t]
}

// withFiles is how many notices were told that have files in them.
func (p *peer) withFiles() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.files
}

func (p *peer) setDeaf(deaf bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deaf = deaf
}

// receiving is a run that gets a byte each second, and ends as it is told.
func receiving(ctx context.Context, _ job.Definition, t *progress.Tracker) (job.Result, error) {
	t.SetPhase(progress.Exporting)
	f := t.AddFile("disk-0.qcow2", 1000)
	for {
		select {
		case <-ctx.Done():
			return job.Result{}, context.Cause(ctx)
		case <-time.After(time.Second):
			f.AddReceived(1)
		}
	}
}

// twoDaemons are one that runs the job "a", and another on the same store.
func twoDaemons(t *testing.T, store jobs.Store, o jobs.Options) (runs, asks *daemon, mine, its *peer) {
	t.Helper()
	its, mine = peers()
	o.Notices = its
	runs = start(t, store, receiving, o)
	submit(t, runs.Manager, def("a"))
	synctest.Wait()
	o.Notices, o.Throttle = mine, nil
	asks = start(t, store, succeed, o)
	synctest.Wait()
	return runs, asks, mine, its
}

func TestHowFarAJobIsAtAnotherDaemonIsToldWhileItIsWatched(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		_, asks, mine, its := twoDaemons(t, store, jobs.Options{Heartbeat: 10 * time.Second, Hold: time.Minute})
		time.Sleep(time.Minute)
		if n := its.count(jobs.NoticeProgress); n != 0 {
			t.Errorf("%d notices to nobody", n)
		}
		w, err := asks.Watch(t.Context(), "a", 0)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		next := func() models.Event {
			t.Helper()
			for {
				e, err := w.Next(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if e.Type == models.EventProgress {
					return e
				}
			}
		}
		last := next()
		for range 60 {
			e := next()
			if d := e.Time.Sub(last.Time); d > 2*time.Second || e.Progress.BytesDownloaded < last.Progress.BytesDownloaded {
				t.Fatalf("%d bytes %v after %d", e.Progress.BytesDownloaded, d, last.Progress.BytesDownloaded)
			}
			last = e
		}
		// Without notices, what the heartbeats have stored is shown, a little later.
		mine.setDeaf(true)
		for range 3 {
			e := next()
			if d := e.Time.Sub(last.Time); d > 45*time.Second || e.Progress.BytesDownloaded < last.Progress.BytesDownloaded {
				t.Fatalf("%d bytes %v after %d", e.Progress.BytesDownloaded, d, last.Progress.BytesDownloaded)
			}
			last = e
		}
		w.Close()
		time.Sleep(time.Minute)
		n := its.count(jobs.NoticeProgress)
		time.Sleep(time.Minute)
		if more := its.count(jobs.NoticeProgress) - n; more != 0 {
			t.Errorf("%d notices when nobody watches any more", more)
		}
	})
}

func TestTheFilesOfAJobAtAnotherDaemonAreToldWhileTheyAreLookedAt(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		runs, asks, mine, its := twoDaemons(t, store, jobs.Options{Heartbeat: 10 * time.Second, Hold: time.Minute})
		w, err := asks.Watch(t.Context(), "a", 0) // who does not look at files, but hears of progress
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if n := its.withFiles(); n != 0 {
			t.Errorf("%d notices have files in them that nobody looks at", n)
		}
		w.Close()
		look := func() (told bool) {
			files, unlisted := asks.Files(t.Context(), "a")
			time.Sleep(time.Second)
			own, _ := runs.Files(t.Context(), "a")
			if len(files) == 0 {
				return false
			}
			if len(files) != 1 || unlisted != 0 || files[0].Name != "disk-0.qcow2" || files[0].Total != 1000 || own[0].Name != "disk-0.qcow2" {
				t.Fatalf("%+v and %d more; where it runs %+v", files, unlisted, own)
			}
			return true
		}
		look()
		look()
		asked := mine.count(jobs.NoticeWatched)
		for range 60 {
			if !look() {
				t.Fatal("nothing is told of the files")
			}
		}
		if n := mine.count(jobs.NoticeWatched) - asked; n > 7 {
			t.Errorf("the other daemon was asked %d times in a minute", n)
		}
		j, err := asks.Get(t.Context(), "a")
		if own, _ := runs.Get(t.Context(), "a"); err != nil || own.Progress.BytesDownloaded-j.Progress.BytesDownloaded > 2 {
			t.Errorf("%+v, %v; where it runs %+v", j.Progress, err, own.Progress)
		}
		// What is not told any more is not shown for long, and nobody is told for ever.
		mine.setDeaf(true)
		for range 31 {
			look()
		}
		if look() {
			t.Error("files are shown of which nothing was heard for half a minute")
		}
		mine.setDeaf(false)
		time.Sleep(time.Minute)
		n := its.count(jobs.NoticeProgress)
		time.Sleep(time.Minute)
		if more := its.count(jobs.NoticeProgress) - n; more != 0 {
			t.Errorf("%d notices when nobody looks any more", more)
		}
	})
}

func TestFilesAreAskedForAgainSoonHoweverFarApartHeartbeatsAre(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		_, asks, _, its := twoDaemons(t, store, jobs.Options{Heartbeat: 10 * time.Minute, Hold: time.Hour})
		its.setDeaf(true)
		_, _ = asks.Files(t.Context(), "a") // which is not heard
		its.setDeaf(false)
		for range 30 {
			time.Sleep(time.Second)
			if files, _ := asks.Files(t.Context(), "a"); len(files) == 1 {
				return
			}
		}
		t.Error("nothing is told of the files")
	})
}

func TestANoticeIsMadeShorterByWhatMattersLeast(t *testing.T) {
	t.Parallel()
	file := func(name, state string) models.FileProgress { return models.FileProgress{Name: name, State: state} }
	n := jobs.Notice{
		Type: jobs.NoticeProgress, Job: "a", Progress: &models.Progress{BytesDownloaded: 1},
		Files: []models.FileProgress{file("1", "complete"), file("2", "active"), file("3", "waiting"), file("4", "complete"), file("5", "retrying"), file("6", "failed")},
	}
	var got []string
	for ok := true; ok; n, ok = n.Shorter() {
		var names string
		for _, f := range n.Files {
			names += f.Name
		}
		got = append(got, fmt.Sprint(n.Type, " ", names, " ", n.Unlisted, " ", n.Progress != nil))
	}
	want := []string{"progress 123456 0 true", "progress 256 3 true", "progress 2 5 true", "progress  6 true", "job  0 false"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if _, ok := (jobs.Notice{Type: jobs.NoticeQueue}).Shorter(); ok {
		t.Error("a notice with nothing in it becomes shorter")
	}
}

// throttle is a Throttle that remembers.
type throttle struct{ set chan int64 }

func (t throttle) Set(_ string, bytesPerSecond int64) { t.set <- bytesPerSecond }

func TestACancelAndALimitReachTheDaemonThatRunsTheJobAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, store jobs.Store) {
		limits := throttle{make(chan int64, 10)}
		began := time.Now()
		_, asks, mine, _ := twoDaemons(t, store, jobs.Options{Heartbeat: time.Hour, Hold: 10 * time.Hour, Throttle: limits})
		if err := asks.SetLimit(t.Context(), "a", "5MB/s"); err != nil {
			t.Fatal(err)
		}
		_ = mine.Tell(t.Context(), jobs.Notice{Type: jobs.NoticeLimit, Job: "a"}) // as a store does
		if got := <-limits.set; got != 5_000_000 {
			t.Errorf("limit %d", got)
		}
		ended := make(chan error, 1)
		go func() { ended <- asks.Cancel(t.Context(), []string{"a"}, job.Cancelled{})["a"] }()
		synctest.Wait()
		_ = mine.Tell(t.Context(), jobs.Notice{Type: jobs.NoticeCancel, Job: "a"})
		_ = mine.Tell(t.Context(), jobs.Notice{Type: jobs.NoticeCancel, Job: "of another daemon"})
		if err := <-ended; err != nil {
			t.Errorf("Cancel: %v", err)
		}
		if d := time.Since(began); d > time.Minute {
			t.Errorf("it took %v", d)
		}
	})
}

// A daemon that is cut off from the store ends its runs before others can have their
// jobs, however the store fails, and also when the claim's own answer was long on its way.
func TestARunInASharedStoreEndsBeforeItsClaimRunsOut(t *testing.T) {
	t.Parallel()
	const hold, beat = 30 * time.Second, 5 * time.Second
	away := &jobs.StoreError{Trouble: jobs.TroubleAway, Err: errors.New("no server")}
	refused := func(context.Context) error { return away }
	silent := func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second) // a store gives up by itself
		defer cancel()
		<-ctx.Done()
		return &jobs.StoreError{Trouble: jobs.TroubleBusy, Err: ctx.Err()}
	}
	for name, tt := range map[string]struct {
		late time.Duration // the claim's answer is
		fail func(ctx context.Context) error
	}{
		"refused":                      {0, refused},
		"silent":                       {0, silent},
		"an error that nobody foresaw": {0, func(context.Context) error { return errCut }},
		"refused after a late claim":   {12 * time.Second, refused},
		"silent after a late claim":    {12 * time.Second, silent},
		"refused after one too late":   {hold + beat, refused},
		"refused, then silent at times": {0, func(ctx context.Context) error {
			if time.Now().UnixMilli()/1000%2 == 0 {
				return away
			}
			return silent(ctx)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, store jobs.Store) {
				ended := make(chan time.Time, 1)
				fails := &faltering{Store: store, late: tt.late, fail: tt.fail}
				if tt.late == 0 {
					fails.from = 12 * time.Second // claimed, and renewed at least once
				}
				start(t, fails, func(ctx context.Context, _ job.Definition, _ *progress.Tracker) (job.Result, error) {
					<-ctx.Done()
					ended <- time.Now()
					return job.Result{}, context.Cause(ctx)
				}, jobs.Options{Hold: hold, Heartbeat: beat, Notices: unheard{}})
				if err := store.Create(t.Context(), []jobs.NewJob{{Definition: def("a")}}); err != nil {
					t.Fatal(err)
				}
				at := <-ended
				last := fails.renewed() // its claim holds from then on
				if d := at.Sub(last); d > max(hold-2*beat, tt.late) {
					t.Errorf("the run ended %v after its claim was made or renewed", d)
				}
				other := jobs.ClaimRequest{Owner: "other", Hold: hold}
				if tt.late < hold {
					if c, err := store.Claim(t.Context(), other); !errors.Is(err, jobs.ErrNoJob) {
						t.Errorf("claimed as %+v, %v, although the claim holds", c.Claim, err)
					}
				}
				time.Sleep(hold)
				if _, err := store.Claim(t.Context(), other); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// unheard are the notices of a shared store that nobody hears.
type unheard struct{}

func (unheard) Listen(ctx context.Context, _ func(jobs.Notice)) { <-ctx.Done() }
func (unheard) Tell(context.Context, jobs.Notice) error         { return nil }

// faltering is a store whose first claim is answered late, and that fails from some time
// after that on.
type faltering struct {
	jobs.Store
	late, from time.Duration
	fail       func(ctx context.Context) error

	mu      sync.Mutex
	claimed time.Time // the first time
	last    time.Time // claimed or renewed
}

func (s *faltering) renewed() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// failed is what a call gets, nil when it gets through.
func (s *faltering) failed(ctx context.Context) error {
	s.mu.Lock()
	failed := !s.claimed.IsZero() && time.Since(s.claimed) >= s.from
	s.mu.Unlock()
	if failed {
		return s.fail(ctx)
	}
	return nil
}

func (s *faltering) Claim(ctx context.Context, r jobs.ClaimRequest) (jobs.Claimed, error) {
	if err := s.failed(ctx); err != nil {
		return jobs.Claimed{}, err
	}
	c, err := s.Store.Claim(ctx, r)
	if err == nil {
		s.mu.Lock()
		s.claimed, s.last = time.Now(), time.Now()
		s.mu.Unlock()
		time.Sleep(s.late)
	}
	return c, err
}

func (s *faltering) Heartbeat(ctx context.Context, c jobs.Claim, b jobs.Beat) (jobs.Signals, error) {
	if err := s.failed(ctx); err != nil {
		return jobs.Signals{}, err
	}
	signals, err := s.Store.Heartbeat(ctx, c, b)
	s.mu.Lock()
	s.last = time.Now()
	s.mu.Unlock()
	return signals, err
}

func (s *faltering) Finish(ctx context.Context, c jobs.Claim, o jobs.Outcome) error {
	if err := s.failed(ctx); err != nil {
		return err
	}
	return s.Store.Finish(ctx, c, o)
}
