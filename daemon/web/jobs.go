package web

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
)

const jobsPath = api.PagesPath + "jobs"

// Bounds of the list of jobs.
const (
	jobsOnPage  = 50
	searchPage  = 200              // read at once in a search
	maxSearched = 20_000           // looked at for one page of a search
	maxSearch   = 200              // bytes of what is searched for
	searchAge   = 15 * time.Second // of the result of a search
)

// How long a cancel goes on, and how long its page waits for the end.
const (
	cancelTimeout = 15 * time.Minute
	cancelShown   = 2 * time.Second
)

func (s *Site) jobPages() []page {
	return []page{
		{route: "GET jobs", needs: "POST /jobs/query", menu: "Jobs", serve: (*call).jobList},
		{route: "GET live/jobs", needs: "POST /jobs/query", serve: (*call).liveJobs},
		{route: "POST jobs/cancel", needs: "POST /jobs/cancel", serve: (*call).cancel},
		{route: "POST jobs/retry", needs: "POST /jobs/retry", serve: (*call).retry},
		{route: "GET jobs/{id}", needs: "GET /jobs/{id}", serve: (*call).jobPage},
		{route: "GET live/jobs/{id}", needs: "GET /jobs/{id}", serve: (*call).liveJob},
		{route: "GET jobs/{id}/edit", needs: "POST /jobs/submit", serve: (*call).editForm},
		{route: "POST jobs/{id}/edit", needs: "POST /jobs/submit", serve: (*call).edit},
	}
}

// filter is which jobs the list has.
type filter struct {
	Status models.Status // "" is all
	Search string        // part of name, VM path or error; "" is all
	Cursor string        // of the page; "" is the first
}

// filterOf reads a filter from a query.
func filterOf(q url.Values) filter {
	f := filter{Status: models.Status(q.Get("status")), Search: strings.TrimSpace(q.Get("q")), Cursor: q.Get("cursor")}
	if !f.Status.Known() {
		f.Status = ""
	}
	if len(f.Search) > maxSearch {
		f.Search = strings.ToValidUTF8(f.Search[:maxSearch], "")
	}
	return f
}

// query is the filter as a query, always the same for the same.
func (f filter) query() string {
	q := url.Values{}
	for key, value := range map[string]string{"status": string(f.Status), "q": f.Search, "cursor": f.Cursor} {
		if value != "" {
			q.Set(key, value)
		}
	}
	return q.Encode()
}

// Link is the address of the list.
func (f filter) Link() string { return strings.TrimSuffix(jobsPath+"?"+f.query(), "?") }

// Live is the address of its stream.
func (f filter) Live() string {
	return strings.TrimSuffix(api.PagesPath+"live/jobs?"+f.query(), "?")
}

func (f filter) fits(j models.Job) bool {
	if f.Search == "" {
		return true
	}
	want := strings.ToLower(f.Search)
	for _, text := range []string{j.Definition.Name, j.Definition.VMPath, j.Definition.OutputPath, j.Definition.ID, j.Error} {
		if strings.Contains(strings.ToLower(text), want) {
			return true
		}
	}
	return false
}

// jobListData is what the parts of jobs.html are made of.
type jobListData struct {
	Filter filter
	Rows   []row
	Total  int // jobs that have the status
	Next   string
	First  string // the address of the first page; "" when this is it
	Short  bool   // the search was ended before its end
	Failed int
	May    bool // cancel and retry
}

// jobListSource returns what makes the parts of a list.
func (s *Site) jobListSource(f filter) source {
	var found aged[jobListData]
	age := time.Duration(0)
	if f.Search != "" {
		age = searchAge
	}
	return func(ctx context.Context) ([]part, error) {
		d, err := found.get(age, 0, func() (jobListData, error) { return s.findJobs(ctx, f) })
		if err != nil {
			return nil, err
		}
		if age > 0 { // the same jobs, as they are now
			if d.Rows, err = s.again(ctx, d.Rows); err != nil {
				return nil, err
			}
		}
		d.May = api.May(ctx, "POST /jobs/cancel")
		return s.views.parts("jobs.html", d, "jobs-rows", "jobs-foot", "jobs-all")
	}
}

// findJobs reads the page of the list.
func (s *Site) findJobs(ctx context.Context, f filter) (jobListData, error) {
	d := jobListData{Filter: f}
	q := jobs.Query{Limit: jobsOnPage, Cursor: f.Cursor}
	if f.Status != "" {
		q.Statuses = []models.Status{f.Status}
	}
	if f.Search != "" {
		q.Limit = searchPage
	}
	now := time.Now()
	for looked := 0; ; {
		page, err := s.api.Jobs(ctx, q)
		if err != nil {
			return d, err
		}
		d.Total = page.Total
		for _, j := range page.Jobs {
			if f.fits(j) {
				d.Rows = append(d.Rows, jobRow(j, -1, now))
			}
		}
		looked += len(page.Jobs)
		q.Cursor = page.Next
		if page.Next == "" || len(d.Rows) >= jobsOnPage || looked >= maxSearched {
			d.Short = looked >= maxSearched && page.Next != ""
			break
		}
	}
	if q.Cursor != "" {
		next := f
		next.Cursor = q.Cursor
		d.Next = next.Link()
	}
	if f.Cursor != "" {
		first := f
		first.Cursor = ""
		d.First = first.Link()
	}
	status, err := s.api.Status(ctx)
	d.Failed = status.FailedJobs
	return d, err
}

// again reads the jobs of rows anew.
func (s *Site) again(ctx context.Context, rows []row) ([]row, error) {
	ids := make([]string, len(rows))
	for i, r := range rows {
		ids[i] = r.ID
	}
	page, err := s.api.Jobs(ctx, jobs.Query{IDs: ids})
	var out []row
	for _, j := range page.Jobs {
		out = append(out, jobRow(j, -1, time.Now()))
	}
	return out, err
}

// jobListPage is what jobs.html shows.
type jobListPage struct {
	fragments
	Filter   filter
	Statuses []models.Status
	May      bool // cancel and retry
}

func (c *call) jobList() error {
	f := filterOf(c.r.URL.Query())
	parts, err := c.first(c.jobListSource(f))
	if err != nil {
		return err
	}
	return c.show("jobs.html", "Jobs", jobListPage{fragments: parts, Filter: f, May: c.may("POST /jobs/cancel"), Statuses: []models.Status{
		models.StatusPending, models.StatusRunning, models.StatusFailed, models.StatusCancelled, models.StatusCompleted,
	}})
}

// Part is a part of the page.
func (p jobListPage) Part(id string) any { return p.fragments[id] }

func (c *call) liveJobs() error {
	f := filterOf(c.r.URL.Query())
	return c.live("jobs?"+f.query(), c.jobListSource(f))
}

// marked returns the ids that a form has, each once.
func (c *call) marked() ([]string, error) {
	ids := slices.Compact(slices.Sorted(slices.Values(c.r.PostForm["job"])))
	if len(ids) == 0 {
		return nil, problem{http.StatusUnprocessableEntity, "No job was chosen: mark some first."}
	}
	return ids, nil
}

// origin is the page to go back to.
func (c *call) origin() string {
	if back := c.r.PostForm.Get("back"); back != "" {
		return localPath(back)
	}
	return jobsPath
}

// confirmData is what confirm.html shows.
type confirmData struct {
	Rows []row
	IDs  []string
	Back string
}

// cancel asks whether one is sure, and then cancels. A run may take its time to undo
// what it did: the page does not wait for that, and the audit log has the end all the
// same.
func (c *call) cancel() error {
	ids, err := c.marked()
	if err != nil {
		return err
	}
	if c.r.PostForm.Get("sure") != "yes" {
		rows := make([]row, 0, len(ids))
		for page := range slices.Chunk(ids, searchPage) {
			found, err := c.api.Jobs(c.r.Context(), jobs.Query{IDs: page})
			if err != nil {
				return err
			}
			for _, j := range found.Jobs {
				rows = append(rows, jobRow(j, -1, time.Now()))
			}
		}
		return c.show("confirm.html", "Cancel jobs", confirmData{Rows: rows, IDs: ids, Back: c.origin()})
	}
	ctx := context.WithoutCancel(c.r.Context())
	type outcome struct {
		models.CancelResult
		err error
	}
	ended := make(chan outcome, 1)
	c.busy.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, cancelTimeout)
		defer cancel()
		defer context.AfterFunc(c.ctx, cancel)()
		r, err := c.api.Cancel(ctx, models.Cancel{JobIDs: ids, KeepParts: c.r.PostForm.Get("keep_parts") == "yes"})
		ended <- outcome{r, err}
	})
	shown := time.NewTimer(cancelShown)
	defer shown.Stop()
	select {
	case o := <-ended:
		if o.err != nil {
			return o.err
		}
		return c.back(c.origin(), "%s", counted(len(o.Cancelled), "cancelled", o.Errors))
	case <-shown.C:
		return c.back(c.origin(), "Cancelling %s: what was begun at vSphere is undone first.", plural(len(ids), "job"))
	}
}

// retry queues jobs again, by id or all of a status.
func (c *call) retry() error {
	var r models.Retry
	if status := c.r.PostForm.Get("all"); status != "" {
		r.Status = []models.Status{models.Status(status)}
	} else {
		ids, err := c.marked()
		if err != nil {
			return err
		}
		r.JobIDs = ids
	}
	out, err := c.api.Retry(c.r.Context(), r)
	if err != nil {
		return err
	}
	return c.back(c.origin(), "%s", counted(len(out.Retried), "queued again", out.Errors))
}

// counted says what was done to how many jobs, and why not to others.
func counted(done int, what string, errs map[string]string) string {
	text := plural(done, "job") + " " + what + "."
	if len(errs) == 0 {
		return text
	}
	why := map[string]int{}
	for _, e := range errs {
		why[e]++
	}
	for _, e := range slices.Sorted(maps.Keys(why)) {
		text += fmt.Sprintf(" %s not: %s.", plural(why[e], "job"), e)
	}
	return text
}
