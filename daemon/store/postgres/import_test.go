package postgres_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/audit"
	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/daemon/rates"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/postgres"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/sqlite"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/sqlstore"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// full is a file with something of everything.
func full(t *testing.T) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "jobs.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, status := range []models.Status{models.StatusCompleted, models.StatusFailed, models.StatusPending} {
		id := string(status)
		create(t, s, id)
		c := claim(t, s, "owner").Claim
		o := jobs.Outcome{Status: status, Error: "text\x00 ü", Failed: true, Delay: time.Hour, Progress: &models.Progress{Phase: "done", PercentComplete: 12.5},
			Result: &job.Result{VMName: "ü", TotalSize: 1 << 40}}
		for range 1100 {
			o.Events = append(o.Events, models.Event{Type: models.EventLog, Text: "line"})
		}
		must(s.Finish(t.Context(), c, o))
	}
	own := def("own")
	own.Username, own.Priority = "alice", 7
	must(s.Create(t.Context(), []jobs.NewJob{{Definition: own, Secret: []byte{0, 255, 1}}}))
	create(t, s, "cancelled", "running", "fresh")
	_, err = s.Cancel(t.Context(), "cancelled", job.Cancelled{})
	must(err)
	if c := claim(t, s, "owner"); c.Claim.JobID != "own" {
		t.Fatalf("claimed %s", c.Claim.JobID)
	}
	_, err = s.Cancel(t.Context(), "own", job.Cancelled{KeepParts: true})
	must(err)
	if c := claim(t, s, "owner"); c.Claim.JobID != "running" {
		t.Fatalf("claimed %s", c.Claim.JobID)
	}
	for _, name := range []string{"ci", "old"} {
		token, _, err := access.NewToken(name, access.Operator, time.Now().Truncate(time.Millisecond), time.Time{})
		must(err)
		must(s.Tokens().Create(t.Context(), token))
	}
	must(s.Tokens().Revoke(t.Context(), "old", time.Now()))
	l := audit.New(s.Audit(), "", nil)
	for i := range 120 {
		_, err := l.Begin(t.Context(), audit.Entry{Action: audit.Cancel, Target: fmt.Sprint(i)})
		must(err)
	}
	for _, g := range rates.Grains() {
		for _, writer := range []string{"a", "b"} {
			must(s.Rates().Keep(t.Context(), writer, []rates.Sample{{Start: time.Unix(0, 0), Span: g.Span, Bytes: map[string]int64{"": 1, "esx": 2}}}))
		}
	}
	return s
}

// sameStores wants two stores to tell the same.
func sameStores(t *testing.T, from *sqlite.Store, to *postgres.Store) {
	t.Helper()
	ctx := t.Context()
	was, err := from.List(ctx, jobs.Query{})
	is, err2 := to.List(ctx, jobs.Query{})
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	for i := range was.Jobs {
		was.Jobs[i].Error = strings.ReplaceAll(was.Jobs[i].Error, "\x00", "\ufffd")
		id := was.Jobs[i].Definition.ID
		log, err := from.Events(ctx, id, 0, 0)
		log2, err2 := to.Events(ctx, id, 0, 0)
		for k := range log {
			log[k].Error = strings.ReplaceAll(log[k].Error, "\x00", "\ufffd")
		}
		if diff := cmp.Diff(log, log2); diff != "" || err != nil || err2 != nil {
			t.Errorf("log of %s: %v, %v (-was +is):\n%s", id, err, err2, diff)
		}
		secret, err := from.Secret(ctx, id)
		secret2, err2 := to.Secret(ctx, id)
		if diff := cmp.Diff(secret, secret2); diff != "" || err != nil || err2 != nil {
			t.Errorf("password of %s: %v, %v (-was +is):\n%s", id, err, err2, diff)
		}
	}
	soon := cmp.Comparer(func(a, b *time.Time) bool {
		return (a == nil) == (b == nil) && (a == nil || a.Sub(*b).Abs() < time.Minute)
	})
	if diff := cmp.Diff(was, is, cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".NextAttempt" }, soon)); diff != "" {
		t.Errorf("jobs (-was +is):\n%s", diff)
	}
	tokens, err := from.Tokens().List(ctx)
	tokens2, err2 := to.Tokens().List(ctx)
	if diff := cmp.Diff(tokens, tokens2); diff != "" || err != nil || err2 != nil {
		t.Errorf("tokens: %v, %v (-was +is):\n%s", err, err2, diff)
	}
	entries, err := from.Audit().After(ctx, 0, 1000)
	entries2, err2 := to.Audit().After(ctx, 0, 1000)
	if diff := cmp.Diff(entries, entries2); diff != "" || err != nil || err2 != nil {
		t.Errorf("audit log: %v, %v (-was +is):\n%s", err, err2, diff)
	}
	for _, g := range rates.Grains() {
		samples, err := from.Rates().Since(ctx, g.Span, time.Unix(0, 0))
		samples2, err2 := to.Rates().Since(ctx, g.Span, time.Unix(0, 0))
		if diff := cmp.Diff(samples, samples2); diff != "" || err != nil || err2 != nil || len(samples) != 2 {
			t.Errorf("rates: %v, %v (-was +is):\n%s", err, err2, diff)
		}
	}
}

func TestAFileIsMovedWithEverythingInIt(t *testing.T) {
	t.Parallel()
	from, to := full(t), fresh(t)
	checked := false
	moved, err := to.Import(t.Context(), from, func(s sqlstore.Store, m sqlstore.Moved) error {
		v, err := audit.New(s.Audit(), "", nil).Verify(t.Context())
		checked = v.Entries == 120
		return err
	})
	if err != nil || !checked {
		t.Fatalf("%v; the audit log was looked at: %v", err, checked)
	}
	want := sqlstore.Moved{Events: 3*jobs.MaxEvents + 7, Tokens: 2, Entries: 120,
		Jobs: jobs.Counts{Pending: 2, Running: 2, Completed: 1, Failed: 1, Cancelled: 1}}
	if diff := cmp.Diff(want, moved); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	sameStores(t, from, to)
	// What ran can be claimed, or cleaned up, at once; what waits still does.
	c, err := to.Claim(t.Context(), jobs.ClaimRequest{Owner: "new", Hold: time.Hour, Cancelling: true})
	if err != nil || c.Claim.JobID != "own" || c.Claim.Epoch != 2 || c.Cancel == nil || !c.Cancel.KeepParts {
		t.Errorf("claimed %+v, %v", c.Claim, err)
	}
	for _, id := range []string{"running", "fresh"} {
		if c := claim(t, to, "new"); c.Claim.JobID != id {
			t.Errorf("claimed %+v, want %s", c.Claim, id)
		}
	}
	if c, err := to.Claim(t.Context(), jobs.ClaimRequest{Owner: "new", Hold: time.Hour}); !errors.Is(err, jobs.ErrNoJob) {
		t.Errorf("claimed %+v, %v", c.Claim, err)
	}
	// It goes on: new jobs are the newest, tokens and entries follow.
	create(t, to, "next")
	if page, err := to.List(t.Context(), jobs.Query{Limit: 1}); err != nil || page.Jobs[0].Definition.ID != "next" || page.Total != 8 {
		t.Errorf("%+v, %v", page, err)
	}
	token, _, err := access.NewToken("next", access.Viewer, time.Now(), time.Time{})
	if err := errors.Join(err, to.Tokens().Create(t.Context(), token)); err != nil {
		t.Error(err)
	}
}

func TestAMoveThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	p := server.Proxy(t)
	name := server.Database(t, "postgres")
	from, to := full(t), open(t, postgres.Options{URL: p.URL("postgres", name), Connections: 3})
	fine := func(sqlstore.Store, sqlstore.Moved) error { return nil }
	refused := errors.New("the audit log is broken")
	if _, err := to.Import(t.Context(), from, func(sqlstore.Store, sqlstore.Moved) error { return refused }); !errors.Is(err, refused) {
		t.Errorf("Import = %v", err)
	}
	p.Countdown.Store(25)
	if _, err := to.Import(t.Context(), from, fine); troubleOf(err) != jobs.TroubleAway {
		t.Errorf("Import = %v", err)
	}
	p.Countdown.Store(-1)
	if n, err := to.Counts(t.Context()); err != nil || n != (jobs.Counts{}) {
		t.Errorf("there are %+v, %v", n, err)
	}
	if had, err := to.Tokens().Any(t.Context()); err != nil || had {
		t.Errorf("there are tokens: %v, %v", had, err)
	}
	if _, err := to.Import(t.Context(), from, fine); err != nil {
		t.Errorf("the third time: %v", err)
	}
	sameStores(t, from, to)
}

func TestWhatHoldsAnythingIsNotMovedInto(t *testing.T) {
	t.Parallel()
	from := full(t)
	for table, fill := range map[string]func(s *postgres.Store) error{
		"jobs": func(s *postgres.Store) error { return s.Create(t.Context(), []jobs.NewJob{{Definition: def("a")}}) },
		"tokens": func(s *postgres.Store) error {
			token, _, err := access.NewToken("ci", access.Viewer, time.Now(), time.Time{})
			return errors.Join(err, s.Tokens().Create(t.Context(), token))
		},
		"audit": func(s *postgres.Store) error {
			_, err := audit.NewShared(s.Audit(), "", nil).Begin(t.Context(), audit.Entry{Action: audit.DaemonStart})
			return err
		},
	} {
		t.Run(table, func(t *testing.T) {
			t.Parallel()
			to := fresh(t)
			if err := fill(to); err != nil {
				t.Fatal(err)
			}
			_, err := to.Import(t.Context(), from, func(sqlstore.Store, sqlstore.Moved) error { return nil })
			if e := new(sqlstore.NotEmptyError); !errors.As(err, &e) || e.Table != table {
				t.Errorf("Import = %v", err)
			}
		})
	}
}
