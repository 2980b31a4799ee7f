package web

import (
	"cmp"
	"context"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/daemon/watch"
	"github.com/hyper2kvm/hyper2kvm/daemon/web/graph"
)

// What of all jobs the overview has.
const (
	maxRunning = 256
	maxQueued  = 500 // looked at
	showQueued = 20
	showFailed = 8
)

// How old what it shows may be of what is dear to look at.
const (
	queueAge     = 2 * time.Second
	curveAge     = 10 * time.Second
	conditionAge = 10 * time.Second
)

func (s *Site) overviewPages() []page {
	return []page{
		{route: "GET ", needs: "GET /status", menu: "Overview", serve: (*call).overview},
		{route: "GET live/overview", needs: "GET /status", serve: func(c *call) error { return c.live("overview", c.overviewSource()) }},
		{route: "POST vcenters/resume", needs: "POST /vcenters/{name}/resume", serve: (*call).resume},
	}
}

// fragments are parts as a page has them before its stream does.
type fragments map[string]template.HTML

// first makes the parts of a page for the first time.
func (c *call) first(make source) (fragments, error) {
	parts, err := make(c.r.Context())
	if err != nil {
		return nil, err
	}
	out := fragments{}
	for _, p := range parts {
		out[p.ID] = template.HTML(p.HTML) //nolint:gosec // of html/template
	}
	return out, nil
}

func (c *call) overview() error {
	parts, err := c.first(c.overviewSource())
	if err != nil {
		return err
	}
	return c.show("overview.html", "Overview", parts)
}

func (c *call) resume() error {
	name := c.r.PostForm.Get("vcenter")
	if _, err := c.api.Resume(c.r.Context(), name); err != nil {
		return err
	}
	return c.back(api.PagesPath, "vCenter %s is asked again now.", name)
}

// overviewData is what the parts of overview.html are made of.
type overviewData struct {
	Status    models.DaemonStatus
	Running   []row
	Rate      int64 // of all that run, in bytes per second
	Queue     queue
	VCenters  []models.VCenter
	MayResume bool
	Condition condition
	Now       time.Time // of what tells times by it
	Failed    []row
	Curve     template.HTML
}

// queue is what waits.
type queue struct {
	Total int
	Whys  []why // what they wait for, by how many do
	First []row
	More  int
}

// why is what some jobs wait for.
type why struct {
	Text string
	Jobs int
}

// overviewSource returns what makes the parts of the overview.
func (s *Site) overviewSource() source {
	var (
		waiting aged[queue]
		curve   aged[template.HTML]
	)
	return func(ctx context.Context) ([]part, error) {
		d := overviewData{MayResume: api.May(ctx, "POST /vcenters/{name}/resume"), Now: time.Now()}
		var err error
		if d.Status, err = s.api.Status(ctx); err != nil {
			return nil, err
		}
		d.VCenters = d.Status.VCenters
		running, err := s.api.Jobs(ctx, jobs.Query{Statuses: []models.Status{models.StatusRunning}, Limit: maxRunning})
		if err != nil {
			return nil, err
		}
		slices.SortStableFunc(running.Jobs, func(a, b models.Job) int { return cmp.Compare(began(a), began(b)) })
		for _, j := range running.Jobs {
			r := jobRow(j, -1, d.Now)
			r.CanCancel = r.CanCancel && api.May(ctx, "POST /jobs/cancel")
			d.Running = append(d.Running, r)
			d.Rate += j.Progress.BytesPerSecond
		}
		if d.Queue, err = waiting.get(queueAge, d.Status.PendingJobs, func() (queue, error) { return s.queue(ctx, d.Now) }); err != nil {
			return nil, err
		}
		failed, err := s.api.Jobs(ctx, jobs.Query{Statuses: []models.Status{models.StatusFailed}, Limit: showFailed})
		if err != nil {
			return nil, err
		}
		for _, j := range failed.Jobs {
			d.Failed = append(d.Failed, jobRow(j, -1, d.Now))
		}
		if d.Curve, err = curve.get(curveAge, 0, func() (template.HTML, error) { return s.curve(ctx) }); err != nil {
			return nil, err
		}
		d.Condition = s.condition.get(s, ctx)
		return s.views.parts("overview.html", d, "summary", "running", "curve", "queue", "vcenters", "space", "failures")
	}
}

// parts makes the templates of those names; each is the part of that id.
func (v views) parts(view string, data any, names ...string) ([]part, error) {
	var out []part
	for _, name := range names {
		html, err := v.render(view, name, data)
		if err != nil {
			return nil, err
		}
		out = append(out, part{name, html})
	}
	return out, nil
}

// began is when a job's run began, as a number to sort by.
func began(j models.Job) int64 {
	if j.StartedAt == nil {
		return 0
	}
	return j.StartedAt.UnixNano()
}

// queue looks at what waits, in the order in which it will run.
func (s *Site) queue(ctx context.Context, now time.Time) (queue, error) {
	page, err := s.api.Jobs(ctx, jobs.Query{Statuses: []models.Status{models.StatusPending}, Limit: maxQueued})
	if err != nil {
		return queue{}, err
	}
	slices.SortStableFunc(page.Jobs, func(a, b models.Job) int {
		return cmp.Or(cmp.Compare(b.Definition.Priority, a.Definition.Priority), a.Definition.CreatedAt.Compare(b.Definition.CreatedAt))
	})
	q := queue{Total: page.Total}
	count := map[string]int{}
	turn := 0
	for _, j := range page.Jobs {
		held := j.WaitingFor != "" || j.Cancelling || j.NextAttempt != nil && j.NextAttempt.After(now)
		at := turn
		if !held {
			turn++
		}
		if page.Next != "" {
			at = -1 // there are older ones that were not looked at
		}
		r := jobRow(j, at, now)
		reason := r.State
		switch {
		case !held:
			reason = "waiting for a free place"
		case j.WaitingFor == "" && !j.Cancelling:
			reason = "waiting before they are tried again"
		}
		count[reason]++
		if len(q.First) < showQueued {
			q.First = append(q.First, r)
		}
	}
	for text, n := range count {
		q.Whys = append(q.Whys, why{text, n})
	}
	slices.SortFunc(q.Whys, func(a, b why) int { return cmp.Or(cmp.Compare(b.Jobs, a.Jobs), strings.Compare(a.Text, b.Text)) })
	q.More = q.Total - len(q.First)
	return q, nil
}

// curve is how fast bytes came in the last hour, or "" where that is not kept.
func (s *Site) curve(ctx context.Context) (template.HTML, error) {
	rates, err := s.api.Rates(ctx, "hour")
	if err != nil {
		if status, _ := api.StatusOf(err); status == http.StatusNotImplemented {
			return "", nil
		}
		return "", err
	}
	return graph.Draw("curve-hour", rates)
}

// aged is something that is made anew when it is old, or when what it depends on is
// another.
type aged[T any] struct {
	value T
	of    int
	made  time.Time
}

func (a *aged[T]) get(age time.Duration, of int, make func() (T, error)) (T, error) {
	if !a.made.IsZero() && time.Since(a.made) < age && a.of == of {
		return a.value, nil
	}
	v, err := make()
	if err == nil {
		a.value, a.of, a.made = v, of, time.Now()
	}
	return v, err
}

// Space looks at the file systems that the daemon writes to.
type Space interface {
	Look(ctx context.Context) []watch.Volume
}

// condition is what of the daemon's surroundings takes its time to be looked at.
type condition struct {
	Volumes []watch.Volume
	Reasons []watch.Reason // for operators
}

// conditions looks at them for all pages, and once at a time.
type conditions struct {
	mu      sync.Mutex
	last    condition
	looked  time.Time
	looking chan struct{} // closed when the look that goes on is over
}

// get returns what was seen last, and looks again when that is old. Only the first look
// is waited for: a file system that hangs holds up no page.
func (k *conditions) get(s *Site, ctx context.Context) condition {
	k.mu.Lock()
	if k.looking == nil && time.Since(k.looked) >= conditionAge && s.ctx.Err() == nil {
		done := make(chan struct{})
		k.looking = done
		s.busy.Go(func() { k.look(s, done) })
	}
	first, looking := k.looked.IsZero(), k.looking
	k.mu.Unlock()
	if first && looking != nil {
		select {
		case <-looking:
		case <-ctx.Done():
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	out := k.last
	if !access.FromContext(ctx).May(access.Operator) {
		out.Reasons = nil
	}
	return out
}

func (k *conditions) look(s *Site, done chan struct{}) {
	ctx, cancel := context.WithTimeout(s.ctx, conditionAge)
	defer cancel()
	var now condition
	if s.o.Space != nil {
		now.Volumes = s.o.Space.Look(ctx)
	}
	for _, r := range s.api.Ready(ctx) {
		if r.Check != watch.CheckVCenter { // shown with their jobs
			now.Reasons = append(now.Reasons, r)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if ctx.Err() == nil {
		k.last = now
	}
	k.looked, k.looking = time.Now(), nil
	close(done)
}

// full says how full a file system is.
func full(v watch.Volume) *bar {
	if v.Err != nil || v.Size <= 0 {
		return nil
	}
	p := 100 * float64(v.Size-v.Free) / float64(v.Size)
	return &bar{Known: true, Percent: p, Text: fmt.Sprintf("%.0f %% used", p)}
}
