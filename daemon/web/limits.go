package web

import (
	"context"
	"errors"
	"html/template"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/audit"
	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/daemon/rates"
	"github.com/hyper2kvm/hyper2kvm/daemon/web/graph"
)

// maxLimited is how many jobs the page of limits shows.
const maxLimited = 100

func (s *Site) limitPages() []page {
	return []page{
		{route: "GET throughput", needs: "GET /rates", menu: "Throughput", serve: (*call).throughput},
		{route: "GET throughput/live", needs: "GET /rates", serve: (*call).throughputLive},
		{route: "GET limits", needs: "GET /limits", menu: "Limits", serve: (*call).limits},
		{route: "GET live/limits", needs: "GET /limits", serve: func(c *call) error { return c.live("limits", c.sharesSource()) }},
		{route: "POST limits", needs: "PUT /limits", serve: (*call).setLimits},
		{route: "POST limits/job", needs: "PUT /jobs/{id}/limit", serve: (*call).setJobLimit},
		{route: "GET audit", needs: "GET /audit", menu: "Audit log", serve: (*call).auditLog},
		{route: "POST audit/verify", needs: "GET /audit", serve: (*call).verifyAudit},
	}
}

// throughputData is what throughput.html shows.
type throughputData struct {
	Window string
	Graph  template.HTML
}

// window is the one that the address names.
func (c *call) window() rates.Window {
	if w := rates.Window(c.r.URL.Query().Get("window")); slices.Contains(rates.Windows(), w) {
		return w
	}
	return rates.Hour
}

func (c *call) throughput() error {
	w := c.window()
	r, err := c.api.Rates(c.r.Context(), w)
	if err != nil {
		return err
	}
	g, err := graph.Draw("rates", r)
	if err != nil {
		return err
	}
	return c.show("throughput.html", "Throughput", throughputData{string(w), g})
}

// throughputLive streams the graph. A sample is there about every ten seconds, so the
// store is not asked more often.
func (c *call) throughputLive() error {
	w := c.window()
	return c.live("throughput "+string(w), c.ratesPart(w))
}

// ratesPart makes the graph for whoever watches, once in a sample's time.
func (c *call) ratesPart(w rates.Window) source {
	operations := c.api
	var last part
	var made time.Time
	return func(ctx context.Context) ([]part, error) {
		if time.Since(made) < rates.Grains()[0].Span/2 {
			return []part{last}, nil
		}
		r, err := operations.Rates(ctx, w)
		if err != nil {
			return nil, err
		}
		g, err := graph.Draw("rates", r)
		if err != nil {
			return nil, err
		}
		last, made = part{"rates", []byte(g)}, time.Now()
		return []part{last}, nil
	}
}

// limitsData is what limits.html shows.
type limitsData struct {
	models.Limits
	fragments
	Known     bool // there is one to be changed
	CanAll    bool // who looks may change that of all jobs
	CanJob    bool // or that of one
	Jobs      []models.Job
	Unlisted  int
	Timestamp time.Time
}

// Part is a part of the page.
func (d limitsData) Part(id string) any { return d.fragments[id] }

func (c *call) limits() error {
	data := limitsData{CanAll: c.may("PUT /limits"), CanJob: c.may("PUT /jobs/{id}/limit"), Timestamp: time.Now()}
	l, err := c.api.Limits(c.r.Context())
	switch status, _ := api.StatusOf(err); {
	case err == nil:
		data.Limits, data.Known = l, true
		if l.Shared {
			if data.fragments, err = c.first(c.sharesSource()); err != nil {
				return err
			}
		}
	case status != http.StatusNotImplemented:
		return err
	}
	for _, status := range []models.Status{models.StatusRunning, models.StatusPending} {
		page, err := c.api.Jobs(c.r.Context(), jobs.Query{Statuses: []models.Status{status}, Limit: maxLimited})
		if err != nil {
			return err
		}
		room := maxLimited - len(data.Jobs)
		data.Jobs = append(data.Jobs, page.Jobs[:min(room, len(page.Jobs))]...)
		data.Unlisted += page.Total - min(room, len(page.Jobs))
	}
	return c.show("limits.html", "Limits", data)
}

func (c *call) setLimits() error {
	l, err := c.api.SetLimits(c.r.Context(), models.SetLimit{Limit: c.r.PostForm.Get("limit")})
	if err != nil {
		return err
	}
	return c.back("/ui/limits", "The limit of all jobs together is %s.", l.Limit)
}

func (c *call) setJobLimit() error {
	limit := c.r.PostForm.Get("limit")
	if limit == "" {
		limit = "none"
	}
	j, err := c.api.SetJobLimit(c.r.Context(), c.r.PostForm.Get("id"), models.SetLimit{Limit: limit})
	if err != nil {
		return err
	}
	return c.back("/ui/limits", "The limit of %s is %s.", j.Definition.Name, j.Definition.Options.Limit)
}

// auditRows is how many entries a page of the audit log has.
const auditRows = 50

// auditData is what audit.html shows.
type auditData struct {
	Entries []api.AuditEntry
	Next    string // cursor of the page of older ones
	First   bool   // the page with the newest
	Verdict *verdict
}

// verdict is what a verification of the audit log came to.
type verdict struct {
	audit.Verdict
	At     time.Time
	Broken string // what is wrong; empty when nothing is
}

// verdicts are what verifications came to.
type verdicts struct {
	verifying sync.Mutex // held while one is made

	sync.Mutex
	last *verdict
}

func (c *call) auditLog() error {
	cursor := c.r.URL.Query().Get("cursor")
	p, err := c.api.AuditLog(c.r.Context(), cursor, auditRows)
	if err != nil {
		return err
	}
	c.verdicts.Lock()
	v := c.verdicts.last
	c.verdicts.Unlock()
	return c.show("audit.html", "Audit log", auditData{p.Entries, p.NextCursor, cursor == "", v})
}

// verifyAudit checks every hash of the audit log. It reads all of it, so people ask for
// it; one at a time is made.
func (c *call) verifyAudit() error {
	if c.o.Audit == nil {
		return problem{http.StatusNotImplemented, "This daemon keeps no audit log."}
	}
	if !c.verdicts.verifying.TryLock() {
		return problem{http.StatusConflict, "The audit log is being verified. Wait, and reload the page."}
	}
	defer c.verdicts.verifying.Unlock()
	found, err := c.o.Audit.Verify(c.r.Context())
	v := &verdict{Verdict: found, At: time.Now()}
	if broken := new(audit.BrokenError); errors.As(err, &broken) {
		v.Broken = broken.Error()
	} else if err != nil {
		return err
	}
	c.verdicts.Lock()
	c.verdicts.last = v
	c.verdicts.Unlock()
	c.redirect("/ui/audit")
	return nil
}
