package web_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/limits"
	"github.com/hyper2kvm/hyper2kvm/daemon/web"
)

// sharing are limits that a daemon shares with others.
type sharing struct {
	mu    sync.Mutex
	held  []limits.Holding
	fails error
}

func (s *sharing) Limit() int64                          { return 200_000_000 }
func (s *sharing) SetLimit(context.Context, int64) error { return nil }

func (s *sharing) Holdings(context.Context) ([]limits.Holding, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held, s.fails
}

func (s *sharing) become(held []limits.Holding, fails error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held, s.fails = held, fails
}

func TestTheLimitsShowWhatEachDaemonHasAndFollowIt(t *testing.T) {
	t.Parallel()
	shared := &sharing{held: []limits.Holding{
		{Name: "bandwidth of site dc1", Owner: "daemon-1", Limit: 200_000_000, Held: 150_000_000},
		{Name: "disks of host <b>esx1</b> at vc", Owner: "daemon-1", Limit: 8, Held: 5, Waiting: 3},
		{Name: "disks of host <b>esx1</b> at vc", Owner: "daemon-2", Limit: 8, Held: 3},
	}}
	d := startWith(t, access.SessionOptions{}, api.Options{Shares: shared}, web.Options{})
	page := d.browser().get("/ui/limits").body
	for _, want := range []string{
		"What each daemon has", `data-live="/ui/live/limits"`, "bandwidth of site dc1", "200MB/s", "143.1 MiB/s", "daemon-2",
		"disks of host &lt;b&gt;esx1&lt;/b&gt; at vc", `<td data-name="Holds">5</td><td data-name="Waits for">3 more</td>`, "stays until the next change",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q: %s", want, page)
		}
	}
	s := d.stream("/ui/live/limits")
	s.until("daemon-1")
	shared.become([]limits.Holding{{Name: "bandwidth", Owner: "daemon-3", Held: 1}}, nil)
	s.until("daemon-3")
	shared.become(nil, nil)
	s.until("No daemon uses any of them now.")
	shared.become(nil, &jobs.StoreError{Trouble: jobs.TroubleAway, Err: errors.New("the database is away")})
	s.until("the database is away")
	if a := d.browser().get("/ui/limits"); a.status != http.StatusServiceUnavailable {
		t.Error(a.status)
	}
}

func TestADaemonOfItsOwnHasNoTableOfShares(t *testing.T) {
	t.Parallel()
	if page := startOpen(t).browser().get("/ui/limits").body; strings.Contains(page, "What each daemon has") {
		t.Error(page)
	}
}
