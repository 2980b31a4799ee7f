package api_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/memory"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// troubled is a store that fails with an error, if it has one.
type troubled struct {
	*memory.Store
	err atomic.Pointer[jobs.StoreError]
}

func (s *troubled) fail() error {
	if err := s.err.Load(); err != nil {
		return err
	}
	return nil
}

func (s *troubled) Create(ctx context.Context, batch []jobs.NewJob) error {
	if err := s.fail(); err != nil {
		return err
	}
	return s.Store.Create(ctx, batch)
}

func (s *troubled) Cancel(ctx context.Context, id string, c job.Cancelled) (models.Status, error) {
	if err := s.fail(); err != nil {
		return "", err
	}
	return s.Store.Cancel(ctx, id, c)
}

func (s *troubled) Check(context.Context) ([]string, error) {
	return []string{"the lock file was removed"}, s.fail()
}

func TestTroubleOfTheStoreIsAnsweredWithItsReason(t *testing.T) {
	t.Parallel()
	store := &troubled{Store: memory.New()}
	d := startOn(t, store, api.Options{})
	const job = `{"vm_path":"/vm/a","output_path":"/out"}`
	for _, tt := range []struct {
		trouble jobs.Trouble
		status  int
		retry   bool
	}{
		{jobs.TroubleFull, 507, false},
		{jobs.TroubleReadOnly, 503, false},
		{jobs.TroubleBusy, 503, true},
		{jobs.TroubleGone, 503, false},
		{jobs.TroubleBroken, 503, false},
	} {
		store.err.Store(&jobs.StoreError{Trouble: tt.trouble, Err: errors.New("/state/jobs.db is " + string(tt.trouble))})
		want := "/state/jobs.db is " + string(tt.trouble)
		a := d.post("/jobs/submit", job)
		assertProblem(t, a, tt.status)
		if !strings.Contains(a.body, want) || (a.header.Get("Retry-After") != "") != tt.retry {
			t.Errorf("%s: Retry-After %q, %s", tt.trouble, a.header.Get("Retry-After"), a.body)
		}
		if a := d.post("/jobs/cancel", `{"job_ids":["a"]}`); a.status != 200 || !strings.Contains(a.body, want) {
			t.Errorf("%s: cancel: HTTP %d %s", tt.trouble, a.status, a.body)
		}
		h := d.get("/health")
		m := keys(t, h.body)
		if h.status != 503 || string(m["status"]) != `"unhealthy"` || !strings.Contains(string(m["error"]), want) || m["timestamp"] == nil {
			t.Errorf("%s: health: HTTP %d %s", tt.trouble, h.status, h.body)
		}
	}
	store.err.Store(nil)
	h := d.get("/health")
	m := keys(t, h.body)
	if h.status != 200 || string(m["status"]) != `"healthy"` || m["error"] != nil || string(m["warnings"]) != `["the lock file was removed"]` {
		t.Errorf("health afterwards: HTTP %d %s", h.status, h.body)
	}
	if a := d.post("/jobs/submit", job); a.status != 200 {
		t.Errorf("submit afterwards: HTTP %d %s", a.status, a.body)
	}
}
