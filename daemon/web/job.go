package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/job/jobfile"
	"github.com/hyper2kvm/hyper2kvm/job/outcome"
)

// showLog is how much of a job's log its page has, in entries.
const showLog = 200

// jobData is what the parts of job.html are made of.
type jobData struct {
	Row      row
	Job      models.Job
	Files    []fileRow
	Unlisted int // files that are not among them
	Steps    []step
	Log      []models.Event // the newest first
	LogMore  int
	Disks    []diskRow
	Next     string // what one does with the result
	MayStop  bool
	MayGo    bool
}

// fileRow is a file of a run that goes on.
type fileRow struct {
	models.FileProgress
	Bar bar
}

// diskRow is a disk of a result.
type diskRow struct {
	job.DiskResult
	How string // it was verified
}

// step is a line of a job's timeline.
type step struct {
	At    time.Time
	What  string
	Error string
	Took  string // "" while that is not known
	Now   bool
}

// endedAge is how old the page of a job that has ended may be: it is another one only
// when somebody has the job tried again, and many such pages stay open.
const endedAge = 3 * time.Second

// jobSource returns what makes the parts of a job's page. It reads each event of the
// job's log once.
func (s *Site) jobSource(id string) source {
	var (
		events []models.Event
		last   int64
		made   aged[[]part]
		age    time.Duration
	)
	look := func(ctx context.Context) ([]part, error) {
		j, err := s.api.Job(ctx, id)
		if err != nil {
			return nil, err
		}
		news, err := s.api.Events(ctx, id, last)
		if err != nil {
			return nil, err
		}
		if len(news) > 0 {
			events, last = append(events, news...), news[len(news)-1].ID
		}
		var files []models.FileProgress
		var unlisted int
		if j.Status == models.StatusRunning {
			if files, unlisted, err = s.api.Files(ctx, id); err != nil {
				return nil, err
			}
		}
		age = 0
		if j.Status.Final() {
			age = endedAge
		}
		d := jobDataOf(j, events, files, time.Now())
		d.Unlisted = unlisted
		d.MayStop = d.Row.CanCancel && api.May(ctx, "POST /jobs/cancel")
		d.MayGo = d.Row.CanRetry && api.May(ctx, "POST /jobs/retry")
		return s.views.parts("job.html", d, "job-now", "job-disks", "job-steps", "job-result", "job-log")
	}
	return func(ctx context.Context) ([]part, error) {
		return made.get(age, 0, func() ([]part, error) { return look(ctx) })
	}
}

// jobDataOf puts what is known of a job into words.
func jobDataOf(j models.Job, events []models.Event, files []models.FileProgress, now time.Time) jobData {
	d := jobData{Row: jobRow(j, -1, now), Job: j, Steps: stepsOf(events, j.Status, now)}
	for _, f := range files {
		d.Files = append(d.Files, fileRow{f, fileBar(f)})
	}
	for i := len(events) - 1; i >= 0; i-- {
		switch {
		case events[i].Type != models.EventLog:
		case len(d.Log) == showLog:
			d.LogMore++
		default:
			d.Log = append(d.Log, events[i])
		}
	}
	if r := j.Result; r != nil {
		for _, disk := range r.Disks {
			d.Disks = append(d.Disks, diskRow{disk, outcome.Verified(disk)})
		}
		if j.Status == models.StatusCompleted {
			d.Next = strings.TrimPrefix(outcome.NextStep(*r), "Next: ")
		}
	}
	return d
}

// fileBar says how far a file is.
func fileBar(f models.FileProgress) bar {
	b := bar{Text: map[string]string{"waiting": "waiting for a place", "retrying": "waiting before the next try", "complete": "verified", "failed": "failed"}[f.State]}
	if f.Total > 0 {
		b.Known, b.Percent = true, f.PercentComplete
		if b.Text == "" {
			b.Text = percent(f.PercentComplete, f.Bytes > 0)
		}
	} else if b.Text == "" {
		b.Text = "copying"
	}
	return b
}

// stepsOf makes a timeline of a job's changes of state.
func stepsOf(events []models.Event, status models.Status, now time.Time) []step {
	var steps []step
	for _, e := range events {
		if e.Type != models.EventState {
			continue
		}
		s := step{At: e.Time, Error: e.Error}
		switch {
		case e.Status == models.StatusPending && len(steps) == 0:
			s.What = "queued"
		case e.Status == models.StatusPending && e.Error != "":
			s.What = "to be tried again"
		case e.Status == models.StatusPending:
			s.What = "queued again"
		case e.Status == models.StatusRunning:
			s.What = phaseName(e.Phase)
		default:
			s.What = string(e.Status)
		}
		if n := len(steps); n > 0 {
			steps[n-1].Took = took(steps[n-1].At, e.Time)
		}
		steps = append(steps, s)
	}
	if n := len(steps); n > 0 && !status.Final() {
		steps[n-1].Now, steps[n-1].Took = true, took(steps[n-1].At, now)
	}
	return steps
}

func took(from, to time.Time) string {
	return max(0, to.Sub(from)).Round(time.Second).String()
}

// jobPageData is what job.html shows.
type jobPageData struct {
	fragments
	Row     row
	Job     models.Job
	Options string // as JSON
	MayEdit bool
}

// Part is a part of the page.
func (p jobPageData) Part(id string) any { return p.fragments[id] }

func (c *call) jobPage() error {
	id := c.r.PathValue("id")
	j, err := c.api.Job(c.r.Context(), id)
	if err != nil {
		return err
	}
	parts, err := c.first(c.jobSource(id))
	if err != nil {
		return err
	}
	options, err := json.MarshalIndent(j.Definition, "", "  ")
	if err != nil {
		return err
	}
	r := jobRow(j, -1, time.Now())
	return c.show("job.html", r.Name, jobPageData{fragments: parts, Row: r, Job: j, Options: string(options), MayEdit: c.may("POST /jobs/submit")})
}

func (c *call) liveJob() error {
	id := c.r.PathValue("id")
	if _, err := c.api.Job(c.r.Context(), id); err != nil {
		return err
	}
	return c.live("job "+id, c.jobSource(id))
}

// editData is what edit.html shows.
type editData struct {
	ID       string
	Text     string // the job file
	Error    string
	User     bool // the job brings a user of its own, whose password is asked for
	Checked  bool
	OK       bool
	Findings []models.Finding
}

func (c *call) editForm() error {
	j, err := c.api.Job(c.r.Context(), c.r.PathValue("id"))
	if err != nil {
		return err
	}
	d := j.Definition.Redacted()
	d.ID, d.CreatedAt = "", time.Time{}
	text, err := yaml.Marshal(d)
	if err != nil {
		return err
	}
	return c.show("edit.html", "Change and run again", editData{ID: j.Definition.ID, Text: string(text), User: d.Username != ""})
}

// passwordLine is a line of a job file that has a password.
var passwordLine = regexp.MustCompile(`(?mi)(["']?password["']?\s*:).*$`)

// edit checks a job file, or submits it as a new job.
func (c *call) edit() error {
	old, err := c.api.Job(c.r.Context(), c.r.PathValue("id"))
	if err != nil {
		return err
	}
	text := c.r.PostForm.Get("job")
	d := editData{ID: old.Definition.ID, Text: passwordLine.ReplaceAllString(text, "$1 # give it in the field below"), User: old.Definition.Username != ""}
	def, err := c.edited(text)
	if err == nil && c.r.PostForm.Get("check") != "" {
		ctx, cancel := context.WithTimeout(c.r.Context(), checksBound)
		defer cancel()
		var result models.CheckResult
		if result, err = c.api.Check(ctx, def); err == nil {
			d.Checked, d.OK, d.Findings = true, result.OK, result.Findings
			return c.show("edit.html", "Change and run again", d)
		}
		if status, _ := api.StatusOf(err); status == http.StatusBadGateway || status == http.StatusGatewayTimeout {
			d.Error = "It could not be checked: " + unchecked(ctx, err) // the page is as it should be
			return c.show("edit.html", "Change and run again", d)
		}
	}
	if err == nil {
		var r models.SubmitResult
		if r, err = c.api.Submit(c.r.Context(), []job.Definition{def}, true); err == nil && len(r.JobIDs) == 1 {
			return c.back(jobsPath+"/"+r.JobIDs[0], "This is a new job, made of %s.", old.Definition.ID)
		}
		if err == nil {
			err = problem{http.StatusUnprocessableEntity, strings.TrimPrefix(strings.Join(r.Errors, "; "), "jobs[0]: ")}
		}
	}
	p := new(problem)
	if !errors.As(err, p) {
		p.status, p.text = api.StatusOf(err)
	}
	d.Error = p.text
	return c.write(p.status, "edit.html", "layout", c.layout("Change and run again", d))
}

// edited reads the job file of a form.
func (c *call) edited(text string) (job.Definition, error) {
	batch, err := jobfile.Decode(strings.NewReader(text), "application/yaml")
	if err != nil {
		return job.Definition{}, problem{http.StatusBadRequest, err.Error()}
	}
	if len(batch.Jobs) != 1 {
		return job.Definition{}, problem{http.StatusUnprocessableEntity, fmt.Sprintf("There are %d jobs in the text; it has to be one.", len(batch.Jobs))}
	}
	def := batch.Jobs[0]
	if password := c.r.PostForm.Get("password"); password != "" {
		def.Password = password
	}
	return def, nil
}
