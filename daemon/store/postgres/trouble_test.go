package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/audit"
	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/postgres"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/postgres/pgtest"
	"github.com/hyper2kvm/hyper2kvm/job"
)

func def(id string) job.Definition {
	return job.Definition{ID: id, Name: id, VMPath: "/dc/vm/" + id, OutputPath: "/out/" + id, VCenter: "lab"}
}

func create(t testing.TB, s jobs.Store, ids ...string) {
	t.Helper()
	batch := make([]jobs.NewJob, len(ids))
	for i, id := range ids {
		batch[i] = jobs.NewJob{Definition: def(id), Secret: []byte("sealed")}
	}
	if err := s.Create(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
}

func claim(t testing.TB, s jobs.Store, owner string) jobs.Claimed {
	t.Helper()
	c, err := s.Claim(t.Context(), jobs.ClaimRequest{Owner: owner, Hold: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func get(t testing.TB, s jobs.Store, id string) models.Job {
	t.Helper()
	page, err := s.List(t.Context(), jobs.Query{IDs: []string{id}})
	if err != nil || len(page.Jobs) != 1 {
		t.Fatalf("%d jobs, %v", len(page.Jobs), err)
	}
	return page.Jobs[0]
}

// log is the events of a job as short words.
func log(t testing.TB, s jobs.Store, id string) string {
	t.Helper()
	events, err := s.Events(t.Context(), id, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for i, e := range events {
		if e.ID != int64(i+1) {
			t.Errorf("event %d has id %d", i+1, e.ID)
		}
		words = append(words, string(e.Status)+e.Text)
	}
	return strings.Join(words, " ")
}

func troubleOf(err error) jobs.Trouble {
	var e *jobs.StoreError
	if !errors.As(err, &e) {
		return ""
	}
	return e.Trouble
}

// Each call is made with the connection cut at its first message, its second, and so
// on, before that message has arrived and after, when only its answer is lost. Each
// time the call succeeds, and what it does is done once.
func TestAConnectionThatIsCutAtAnyMessageOfAnyCallIsNotNoticed(t *testing.T) {
	t.Parallel()
	final := []models.Status{models.StatusCompleted, models.StatusFailed, models.StatusCancelled}
	note := []models.Event{{Type: models.EventLog, Text: "note"}}
	started := func(t *testing.T, s *postgres.Store, id string) jobs.Claim {
		create(t, s, id)
		return claim(t, s, "owner").Claim
	}
	ended := func(t *testing.T, s *postgres.Store, id string) {
		if err := s.Finish(t.Context(), started(t, s, id), jobs.Outcome{Status: models.StatusFailed}); err != nil {
			t.Fatal(err)
		}
	}
	for name, call := range map[string]func(t *testing.T, s *postgres.Store, id string) (do func() error, want string){
		"Create": func(t *testing.T, s *postgres.Store, id string) (func() error, string) {
			return func() error { return s.Create(t.Context(), []jobs.NewJob{{Definition: def(id)}}) }, "pending"
		},
		"Claim": func(t *testing.T, s *postgres.Store, id string) (func() error, string) {
			create(t, s, id)
			return func() error {
				c, err := s.Claim(t.Context(), jobs.ClaimRequest{Owner: "owner", Hold: time.Hour})
				if err == nil && (c.Claim.JobID != id || c.Claim.Epoch != 1) {
					err = fmt.Errorf("claimed %+v", c.Claim)
				}
				return err
			}, "pending running"
		},
		"Heartbeat": func(t *testing.T, s *postgres.Store, id string) (func() error, string) {
			c := started(t, s, id)
			return func() error {
				_, err := s.Heartbeat(t.Context(), c, jobs.Beat{Hold: time.Hour, Events: note})
				return err
			}, "pending running note"
		},
		"Finish": func(t *testing.T, s *postgres.Store, id string) (func() error, string) {
			c := started(t, s, id)
			return func() error {
				return s.Finish(t.Context(), c, jobs.Outcome{Status: models.StatusCompleted, Events: note})
			}, "pending running note completed"
		},
		"Cancel": func(t *testing.T, s *postgres.Store, id string) (func() error, string) {
			create(t, s, id)
			return func() error { _, err := s.Cancel(t.Context(), id, job.Cancelled{}); return err }, "pending cancelled"
		},
		"Retry": func(t *testing.T, s *postgres.Store, id string) (func() error, string) {
			ended(t, s, id)
			return func() error {
				outcome, err := s.Retry(t.Context(), []string{id})
				return errors.Join(err, outcome[id])
			}, "pending running failed pending"
		},
		"PruneEvents": func(t *testing.T, s *postgres.Store, id string) (func() error, string) {
			create(t, s, id)
			return func() error {
				_, _, err := s.PruneEvents(t.Context(), 0, "", 10)
				_, _, other := s.Ended(t.Context(), final, 0, "", 10)
				return errors.Join(err, other)
			}, "pending"
		},
		"the rest": func(t *testing.T, s *postgres.Store, id string) (func() error, string) {
			create(t, s, id)
			return func() error {
				_, err := s.Check(t.Context())
				errs := []error{err, s.SetLimit(t.Context(), id, "1MB/s")}
				_, err = s.Counts(t.Context())
				errs = append(errs, err)
				_, err = s.DropSecrets(t.Context(), 0)
				errs = append(errs, err)
				n, err := s.Reseal(t.Context(), func(b []byte) ([]byte, error) { return append(b, '!'), nil })
				if n != 1 {
					err = errors.Join(err, fmt.Errorf("%d resealed", n))
				}
				return errors.Join(append(errs, err)...)
			}, "pending"
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := server.Proxy(t)
			s := open(t, postgres.Options{URL: p.URL("postgres", server.Database(t, "postgres")), Connections: 3})
			for _, after := range []bool{false, true} {
				for at := int64(0); ; at++ {
					id := fmt.Sprintf("%v-%d", after, at)
					do, want := call(t, s, id)
					p.After.Store(after)
					before := p.Cuts.Load()
					p.Countdown.Store(at)
					err := do()
					p.Countdown.Store(-1)
					cut := p.Cuts.Load() > before
					if err != nil {
						t.Fatalf("cut at message %d (after: %v): %v", at, after, err)
					}
					if got := log(t, s, id); got != want {
						t.Errorf("cut at message %d (after: %v): log %q, want %q", at, after, got, want)
					}
					c, err := s.Cancel(t.Context(), id, job.Cancelled{})
					if !c.Final() {
						left := jobs.Claim{JobID: id, Owner: "owner", Epoch: 1}
						if c == models.StatusPending {
							again, err := s.Claim(t.Context(), jobs.ClaimRequest{Owner: "owner", Hold: time.Hour, Cancelling: true})
							if left = again.Claim; err != nil {
								t.Fatal(err)
							}
						}
						err = s.Finish(t.Context(), left, jobs.Outcome{Status: models.StatusCancelled})
					}
					if err != nil && !errors.Is(err, jobs.ErrFinished) {
						t.Fatal(err)
					}
					if err := s.Delete(t.Context(), id); err != nil {
						t.Fatal(err)
					}
					if !cut {
						if at < 2 {
							t.Errorf("the call had %d messages", at)
						}
						break
					}
				}
			}
			if n, err := s.Counts(t.Context()); err != nil || n != (jobs.Counts{}) {
				t.Errorf("afterwards there are %+v, %v", n, err)
			}
		})
	}
}

func TestTheAuditLogStaysOneChainWhenItsConnectionIsCutAtAnyMessage(t *testing.T) {
	t.Parallel()
	p := server.Proxy(t)
	s := open(t, postgres.Options{URL: p.URL("postgres", server.Database(t, "postgres")), Connections: 3})
	l := audit.NewShared(s.Audit(), "", nil)
	var entries int64
	for _, after := range []bool{false, true} {
		p.After.Store(after)
		for at := int64(0); ; at++ {
			before := p.Cuts.Load()
			p.Countdown.Store(at)
			_, err := l.Begin(t.Context(), audit.Entry{Action: audit.Cancel, Target: fmt.Sprint(at)})
			p.Countdown.Store(-1)
			if err != nil {
				t.Fatal(err)
			}
			entries++
			if p.Cuts.Load() == before {
				break
			}
		}
	}
	if v, err := l.Verify(t.Context()); err != nil || v.Entries != entries {
		t.Errorf("%+v, %v; want %d entries", v, err, entries)
	}
}

func TestTwoStoresClaimEachJobOnceWhileTheirConnectionsAreKilled(t *testing.T) {
	t.Parallel()
	const n, vcenters, claimers = 200, 7, 3
	name := server.Database(t, "postgres")
	stores := []*postgres.Store{open(t, postgres.Options{URL: server.URL("postgres", name)}), open(t, postgres.Options{URL: server.URL("postgres", name)})}
	batch := make([]jobs.NewJob, n)
	for i := range batch {
		d := def(fmt.Sprint("job-", i))
		d.VCenter = fmt.Sprint(i % vcenters)
		batch[i] = jobs.NewJob{Definition: d}
	}
	if err := stores[0].Create(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var killer, wg sync.WaitGroup
	killer.Go(func() {
		tick := time.NewTicker(40 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				server.Exec(t, "postgres", `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '`+name+`'`)
			}
		}
	})
	// persist does what a manager does: it tries again while the store is in trouble.
	persist := func(f func() error) error {
		for ; ; <-time.After(5 * time.Millisecond) {
			err := f()
			if troubleOf(err) == "" {
				return err
			}
		}
	}
	var mu sync.Mutex
	claimed := make(map[string]int)
	for i, s := range stores {
		for k := range claimers {
			owner := fmt.Sprintf("%d-%d", i, k)
			wg.Go(func() {
				for {
					var c jobs.Claimed
					err := persist(func() (err error) {
						c, err = s.Claim(t.Context(), jobs.ClaimRequest{Owner: owner, Hold: time.Hour})
						return err
					})
					if errors.Is(err, jobs.ErrNoJob) {
						return
					}
					if err == nil {
						err = persist(func() error { return s.Finish(t.Context(), c.Claim, jobs.Outcome{Status: models.StatusCompleted}) })
					}
					if err != nil {
						t.Errorf("job %s: %v", c.Claim.JobID, err)
						return
					}
					mu.Lock()
					claimed[c.Claim.JobID]++
					mu.Unlock()
				}
			})
		}
	}
	wg.Wait()
	close(done)
	killer.Wait()
	counts, err := stores[1].Counts(t.Context())
	if err != nil || counts != (jobs.Counts{Completed: n}) || len(claimed) != n {
		t.Errorf("%d claimed, %+v, %v; want %d completed", len(claimed), counts, err, n)
	}
	for id, times := range claimed {
		if got := log(t, stores[0], id); times != 1 || got != "pending running completed" {
			t.Errorf("%s was claimed %d times: %s", id, times, got)
		}
	}
}

func TestTwoStoresThatRaceClaimEachJobOnce(t *testing.T) {
	t.Parallel()
	const n, vcenters, claimers = 2_000, 5, 4
	name := server.Database(t, "postgres")
	batch := make([]jobs.NewJob, n)
	for i := range batch {
		d := def(fmt.Sprint("job-", i))
		d.VCenter = fmt.Sprint(i % vcenters)
		batch[i] = jobs.NewJob{Definition: d}
	}
	stores := []*postgres.Store{open(t, postgres.Options{URL: server.URL("postgres", name)}), open(t, postgres.Options{URL: server.URL("postgres", name)})}
	if err := stores[0].Create(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	var (
		wg      sync.WaitGroup
		mu      sync.Mutex
		claimed = make(map[string]int)
	)
	for i, s := range stores {
		for k := range claimers {
			wg.Go(func() {
				for {
					c, err := s.Claim(t.Context(), jobs.ClaimRequest{Owner: fmt.Sprintf("%d-%d", i, k), Hold: time.Hour})
					if errors.Is(err, jobs.ErrNoJob) {
						return
					}
					if err == nil {
						err = s.Finish(t.Context(), c.Claim, jobs.Outcome{Status: models.StatusCompleted})
					}
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					claimed[c.Claim.JobID]++
					mu.Unlock()
				}
			})
		}
	}
	wg.Wait()
	for id, times := range claimed {
		if times != 1 {
			t.Errorf("job %s was claimed %d times", id, times)
		}
	}
	if counts, err := stores[1].Counts(t.Context()); err != nil || counts.Completed != n || len(claimed) != n {
		t.Errorf("%d claimed, %+v, %v", len(claimed), counts, err)
	}
}

func TestAServerThatStopsOrIsAStandbyIsToldOfAndHeals(t *testing.T) {
	t.Parallel()
	own, err := pgtest.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := own.Close(); err != nil {
			t.Error(err)
		}
	})
	s := open(t, postgres.Options{URL: own.URL("postgres", own.Database(t, "postgres"))})
	other := open(t, postgres.Options{URL: s.URL()})
	heard := make(chan jobs.Notice, 100)
	ctx, cancel := context.WithCancel(t.Context())
	var listening sync.WaitGroup
	listening.Go(func() { other.Listen(ctx, func(n jobs.Notice) { heard <- n }) })
	defer listening.Wait()
	defer cancel()
	missed := func() {
		t.Helper()
		for _, want := range []jobs.Notice{{Type: jobs.NoticeQueue}, {Type: jobs.NoticeJob}} {
			if got := <-heard; !cmp.Equal(got, want) {
				t.Errorf("heard %+v, want %+v", got, want)
			}
		}
	}
	missed()
	create(t, s, "a")
	if got := <-heard; got.Type != jobs.NoticeQueue {
		t.Errorf("heard %+v", got)
	}
	running := claim(t, s, "owner")
	if got := <-heard; !cmp.Equal(got, jobs.Notice{Type: jobs.NoticeJob, Job: "a"}) {
		t.Errorf("heard %+v", got)
	}
	check := func(want jobs.Trouble) {
		t.Helper()
		if _, err := s.Check(t.Context()); troubleOf(err) != want || (err == nil) != (want == "") {
			t.Errorf("Check = %v, want trouble %q", err, want)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check("")
	must(own.Stop())
	check(jobs.TroubleAway)
	must(own.Standby(true))
	must(own.Restart(t.Context()))
	check(jobs.TroubleReadOnly)
	if _, err := postgres.Open(t.Context(), postgres.Options{URL: s.URL()}); troubleOf(err) != jobs.TroubleReadOnly || !strings.Contains(err.Error(), "standby") {
		t.Errorf("Open = %v", err)
	}
	if _, err := s.Counts(t.Context()); err != nil {
		t.Errorf("reading: %v", err)
	}
	must(own.Stop())
	must(own.Standby(false))
	must(own.Restart(t.Context()))
	check("")
	missed()
	if _, err := s.Heartbeat(t.Context(), running.Claim, jobs.Beat{Hold: time.Hour}); err != nil {
		t.Error(err)
	}
}

func TestWhatIsWrongWithTheDatabaseIsSaidClearlyAndWithoutThePassword(t *testing.T) {
	t.Parallel()
	name := server.Database(t, "poor")
	server.Exec(t, "postgres", `ALTER ROLE password CONNECTION LIMIT -1`)
	mine := server.Database(t, "postgres")
	server.Exec(t, mine, `REVOKE ALL ON SCHEMA public FROM PUBLIC`)
	newer := server.Database(t, "postgres")
	open(t, postgres.Options{URL: server.URL("postgres", newer)})
	server.Exec(t, newer, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (4711, true)`)
	older := server.Database(t, "postgres")
	open(t, postgres.Options{URL: server.URL("postgres", older)})
	server.Exec(t, older, `DELETE FROM goose_db_version WHERE version_id > 1`)
	frozen := server.Database(t, "postgres")
	server.Exec(t, "postgres", `ALTER DATABASE `+frozen+` SET default_transaction_read_only = on`)
	server.Exec(t, "postgres", `CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'`)
	t.Cleanup(func() { server.Drop(t, "latin") })
	const wrong = "hunter2"
	said := func(password string) func(context.Context) (string, error) {
		return func(context.Context) (string, error) { return password, nil }
	}
	for what, tt := range map[string]struct {
		o       postgres.Options
		trouble jobs.Trouble
		is      error
		says    string
	}{
		"a server that is not there": {postgres.Options{URL: "postgres://u@/d?host=/nonexistent"}, jobs.TroubleAway, nil, "is the server up"},
		"a port where nobody is":     {postgres.Options{URL: "postgres://u@127.0.0.1:1/d"}, jobs.TroubleAway, nil, "u@127.0.0.1:1/d"},
		"a wrong password":           {postgres.Options{URL: server.URL("password", name), Password: said(wrong)}, jobs.TroubleDenied, nil, "refuses the password"},
		"no password": {postgres.Options{URL: server.URL("password", name), Password: func(context.Context) (string, error) {
			return "", errors.New("open /etc/pw: no such file")
		}}, jobs.TroubleDenied, nil, "password: open /etc/pw"},
		"a user who is not let in":    {postgres.Options{URL: server.URL("nobody", name)}, jobs.TroubleDenied, nil, "pg_hba.conf"},
		"a user who may make nothing": {postgres.Options{URL: server.URL("poor", mine)}, jobs.TroubleDenied, nil, "let it own the database"},
		"no database":                 {postgres.Options{URL: server.URL("postgres", "missing")}, jobs.TroubleGone, nil, "CREATE DATABASE"},
		"a read-only database":        {postgres.Options{URL: server.URL("postgres", frozen)}, jobs.TroubleReadOnly, nil, "default_transaction_read_only"},
		"a newer schema":              {postgres.Options{URL: server.URL("postgres", newer)}, "", postgres.ErrNewerSchema, "4711"},
		"an older schema":             {postgres.Options{URL: server.URL("postgres", older), Beside: true}, "", postgres.ErrOlderSchema, "start a daemon"},
		"another encoding":            {postgres.Options{URL: server.URL("postgres", "latin")}, "", postgres.ErrUnfit, "LATIN1"},
		"another scheme":              {postgres.Options{URL: "mysql://u@h/d"}, "", postgres.ErrURL, "postgres://"},
		"a password in the URL":       {postgres.Options{URL: "postgres://u:" + wrong + "@h/d"}, "", postgres.ErrURL, "must not hold a password"},
		"one in the query":            {postgres.Options{URL: "postgres://u@h/d?password=" + wrong}, "", postgres.ErrURL, "must not hold a password"},
		"a URL that is none":          {postgres.Options{URL: "postgres://u:" + wrong + "@h:x/%zz"}, "", postgres.ErrURL, "postgres://"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			refused := false
			tt.o.Refused = func() { refused = true }
			s, err := postgres.Open(t.Context(), tt.o)
			if err == nil {
				_ = s.Close()
			}
			if err == nil || troubleOf(err) != tt.trouble || tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("Open = %v", err)
			}
			if err != nil && strings.Contains(err.Error(), wrong) {
				t.Errorf("it tells the password: %v", err)
			}
			if want := what == "a wrong password"; refused != want {
				t.Errorf("refused is %v", refused)
			}
		})
	}
	t.Run("the right password", func(t *testing.T) {
		t.Parallel()
		own := server.Database(t, "password")
		open(t, postgres.Options{URL: server.URL("password", own), Password: said(pgtest.Password)})
	})
}

func TestTextsThatTheDatabaseRefusesDoNotKeepAJobFromEnding(t *testing.T) {
	t.Parallel()
	s := fresh(t)
	odd := def("a")
	odd.Username = "nul\x00 and \\u0000"
	if err := s.Create(t.Context(), []jobs.NewJob{{Definition: odd}}); err != nil {
		t.Fatal(err)
	}
	c, err := s.Claim(t.Context(), jobs.ClaimRequest{Owner: "o", Hold: time.Hour, Below: []string{"/full"}})
	if err != nil {
		t.Fatal(err)
	}
	text := "a\x00b \xff\xfe"
	o := jobs.Outcome{Status: models.StatusFailed, Error: text, Result: &job.Result{VMName: text}, Events: []models.Event{{Type: models.EventLog, Text: text}}}
	if err := s.Finish(t.Context(), c.Claim, o); err != nil {
		t.Fatal(err)
	}
	if got := get(t, s, "a").Error; got != "a\ufffdb \ufffd" {
		t.Errorf("the error is kept as %q", got)
	}
	if page, err := s.List(t.Context(), jobs.Query{IDs: []string{"\x00", "\xff"}}); err != nil || page.Total != 0 {
		t.Errorf("%+v, %v", page, err)
	}
	if _, err := s.Tokens().ByID(t.Context(), "\x00"); !errors.Is(err, access.ErrNoToken) {
		t.Error(err)
	}
}
