package api_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/memory"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// pending adds n jobs to a store.
func pending(t *testing.T, store jobs.Store, n int) {
	t.Helper()
	batch := make([]jobs.NewJob, n)
	for i := range batch {
		id := fmt.Sprintf("job-%05d", i)
		batch[i] = jobs.NewJob{Definition: job.Definition{
			ID: id, VMPath: "/DC0/vm/" + strings.Repeat("folder/", 20) + id, OutputPath: "/srv/vms/" + id, VCenter: "lab",
		}.WithDefaults()}
	}
	if err := store.Create(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
}

// idle is an API over a store whose jobs nobody runs.
func idle(t *testing.T, store jobs.Store) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(api.New(jobs.New(store, nil, jobs.Options{}), api.Options{}))
	t.Cleanup(srv.Close)
	return srv
}

// ask sends a query and returns the answer unread.
func ask(t *testing.T, srv *httptest.Server, query string) streaming {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", srv.URL+"/jobs/query", strings.NewReader(query))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return streaming{resp.StatusCode, resp.Header, resp.Body}
}

// streaming is an answer on its way.
type streaming struct {
	StatusCode int
	Header     http.Header
	Body       io.ReadCloser
}

func liveHeap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// endless is a store that makes up all the jobs it is asked for, so that a test
// measures what is done with them.
type endless struct{ *memory.Store }

func (endless) List(_ context.Context, q jobs.Query) (jobs.Page, error) {
	first, err := strconv.Atoi(cmp.Or(q.Cursor, "0"))
	if err != nil {
		return jobs.Page{}, err
	}
	n := cmp.Or(q.Limit, manyJobs)
	page := jobs.Page{Jobs: make([]models.Job, n), Total: manyJobs, Next: strconv.Itoa(first + n)}
	for i := range page.Jobs {
		page.Jobs[i] = models.Job{
			Definition: job.Definition{ID: strconv.Itoa(first + i), VMPath: strings.Repeat("folder/", 50), OutputPath: "/out"},
			Status:     models.StatusPending, Progress: new(models.Progress),
		}
	}
	return page, nil
}

const manyJobs = 50_000

// TestALongAnswerTakesTheMemoryOfAPage has 16 clients at the beginning of 50,000
// jobs each. It is not parallel, since it looks at the memory of the process.
func TestALongAnswerTakesTheMemoryOfAPage(t *testing.T) {
	const clients, bound = 16, 32 << 20
	srv := httptest.NewUnstartedServer(api.New(jobs.New(endless{memory.New()}, nil, jobs.Options{}), api.Options{}))
	srv.Config.ConnState = func(c net.Conn, s http.ConnState) {
		if tcp, ok := c.(*net.TCPConn); ok && s == http.StateNew {
			_ = tcp.SetWriteBuffer(64 << 10) // what the system holds is not the daemon's
		}
	}
	srv.Start()
	t.Cleanup(srv.Close)
	before := liveHeap()
	for range clients {
		if _, err := io.CopyN(io.Discard, ask(t, srv, `{"all":true}`).Body, 256<<10); err != nil {
			t.Fatal(err)
		}
	}
	if grown := liveHeap() - before; grown > bound {
		t.Errorf("%d answers on their way hold %d MiB, want at most %d", clients, grown>>20, bound>>20)
	}
}

func TestAnAnswerOfManyPagesIsWhole(t *testing.T) {
	t.Parallel()
	const all = 505
	store := memory.New()
	pending(t, store, all)
	srv := idle(t, store)
	var ids []string
	for i := range all {
		ids = append(ids, fmt.Sprintf("job-%05d", i))
	}
	list, err := json.Marshal(append(ids, ids[:100]...))
	if err != nil {
		t.Fatal(err)
	}
	newest := slices.Clone(ids)
	slices.Reverse(newest)
	for name, tt := range map[string]struct {
		query string
		want  []string
		total int
		next  bool
	}{
		"all":                     {`{"all":true}`, newest, all, false},
		"by status":               {`{"status":["pending"]}`, newest, all, false},
		"none":                    {`{"status":["failed"]}`, nil, 0, false},
		"ids, some of them twice": {`{"job_ids":` + string(list) + `}`, ids, all, false},
		"a limit of pages":        {`{"all":true,"limit":400}`, newest[:400], all, true},
		"a limit within a page":   {`{"all":true,"limit":401}`, newest[:401], all, true},
		"a limit of all":          {`{"all":true,"limit":505}`, newest, all, false},
		"a limit above all":       {`{"all":true,"limit":5000}`, newest, all, false},
	} {
		var got models.QueryResult
		if err := json.NewDecoder(ask(t, srv, tt.query).Body).Decode(&got); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var seen []string
		for _, j := range got.Jobs {
			seen = append(seen, j.Definition.ID)
		}
		if !slices.Equal(seen, tt.want) || got.Total != tt.total || (got.NextCursor != "") != tt.next || got.Timestamp.IsZero() {
			t.Errorf("%s: %d jobs, total %d, next %q at %v", name, len(seen), got.Total, got.NextCursor, got.Timestamp)
		}
	}
	var first, second models.QueryResult
	if err := json.NewDecoder(ask(t, srv, `{"all":true,"limit":300}`).Body).Decode(&first); err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(ask(t, srv, fmt.Sprintf(`{"all":true,"cursor":%q}`, first.NextCursor)).Body).Decode(&second); err != nil {
		t.Fatal(err)
	}
	if n := len(second.Jobs); n != all-300 || second.Total != all || second.Jobs[0].Definition.ID != newest[300] {
		t.Errorf("after the cursor: %d jobs, total %d", n, second.Total)
	}
}

// pausing is a store that waits before it gives any page but the first, and then
// gives an error instead, if any.
type pausing struct {
	*memory.Store
	goOn chan error
}

func (p *pausing) List(ctx context.Context, q jobs.Query) (jobs.Page, error) {
	if q.Cursor != "" {
		select {
		case err := <-p.goOn:
			if err != nil {
				return jobs.Page{}, err
			}
		case <-ctx.Done():
			return jobs.Page{}, ctx.Err()
		}
	}
	return p.Store.List(ctx, q)
}

func TestAnAnswerThatCannotBeFinishedDoesNotLookWhole(t *testing.T) {
	t.Parallel()
	store := &pausing{memory.New(), make(chan error, 1)}
	pending(t, store, 500)
	srv := idle(t, store)
	store.goOn <- errors.New("the disk is on fire")
	resp := ask(t, srv, `{"all":true}`)
	b, err := io.ReadAll(resp.Body)
	if !errors.Is(err, io.ErrUnexpectedEOF) || json.Valid(b) {
		t.Errorf("HTTP %d, %d bytes, %v; want an answer that breaks off", resp.StatusCode, len(b), err)
	}
}

func TestOnlySoManyLongAnswersAreOnTheirWayAtOnce(t *testing.T) {
	t.Parallel()
	store := &pausing{memory.New(), make(chan error)}
	pending(t, store, 500)
	srv := idle(t, store)
	var open []streaming
	for len(open) < 1000 {
		resp := ask(t, srv, `{"all":true}`)
		open = append(open, resp)
		if resp.StatusCode != 200 {
			break
		}
	}
	last := open[len(open)-1]
	b, err := io.ReadAll(last.Body)
	if err != nil {
		t.Fatal(err)
	}
	assertProblem(t, answer{last.StatusCode, last.Header, string(b)}, 503)
	if last.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	if len(open) < 17 {
		t.Errorf("only %d answers at once", len(open)-1)
	}
	if resp := ask(t, srv, `{"all":true,"limit":100}`); resp.StatusCode != 200 {
		t.Errorf("a short answer: HTTP %d", resp.StatusCode)
	}
	close(store.goOn)
	for _, resp := range open[:len(open)-1] {
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	if resp := ask(t, srv, `{"all":true}`); resp.StatusCode != 200 {
		t.Errorf("after the others: HTTP %d", resp.StatusCode)
	}
}

// slowly is a client that takes a minute for each piece it is given.
type slowly struct {
	*httptest.ResponseRecorder
	now      time.Time
	deadline time.Time
	late     int
}

func (s *slowly) SetWriteDeadline(t time.Time) error {
	s.deadline = s.now.Add(time.Until(t)) // as the clock of this client goes
	return nil
}

func (s *slowly) Write(b []byte) (int, error) {
	if s.now = s.now.Add(time.Minute); s.now.After(s.deadline) {
		s.late++
		return 0, os.ErrDeadlineExceeded
	}
	return s.ResponseRecorder.Write(b)
}

func TestASlowClientGetsItsAnswerToTheEnd(t *testing.T) {
	t.Parallel()
	store := memory.New()
	pending(t, store, 300)
	h := api.New(jobs.New(store, nil, jobs.Options{}), api.Options{})
	w := &slowly{ResponseRecorder: httptest.NewRecorder(), now: time.Now()}
	began := w.now
	r := httptest.NewRequestWithContext(onLoopback(t.Context()), "POST", "/jobs/query", strings.NewReader(`{"all":true}`))
	r.Host = "localhost"
	h.ServeHTTP(w, r)
	var got models.QueryResult
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || len(got.Jobs) != 300 || w.late > 0 {
		t.Errorf("%d jobs, %d writes too late, %v", len(got.Jobs), w.late, err)
	}
	if took := w.now.Sub(began); took < 5*time.Minute {
		t.Errorf("it took %v of the client's time, which is no test", took)
	}
}
