package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/job/fields"
)

const (
	// maxListed is how many VMs are named on the form; all of them are in it.
	maxListed = 20
	// maxChecked is how many VMs are checked at once on a form, and checksAtOnce how
	// many of these side by side: each asks vCenter.
	maxChecked   = 50
	checksAtOnce = 4
	// checksBound is how long the checks of a form may take: browsers, and what stands
	// between them and the daemon, wait for a minute.
	checksBound = 50 * time.Second
)

func (s *Site) submitPages() []page {
	return []page{
		{route: "POST submit", needs: "POST /jobs/submit", serve: (*call).submit},
		{route: "GET submit/reading", needs: "POST /jobs/submit", serve: (*call).submitReading},
	}
}

// submission is the form for jobs of the VMs that were chosen.
type submission struct {
	VCenter  string
	VMs      []models.VM
	Listed   []models.VM // the first of them
	Running  int         // of them, those that are not off
	Bytes    int64
	Output   string
	Asked    []asked
	More     []asked // that few ask for
	MoreOpen bool
	Errors   []string // about no field in particular
	Trouble  string   // of the output directory
	Checks   []check
	Checked  bool
}

// asked is one field of the form, with what was answered.
type asked struct {
	fields.Field
	Value   string
	Error   string
	Options []string // of a choice
}

// On reports whether a switch is on.
func (a asked) On() bool { return a.Value != "" }

// check is what stands in the way of one VM.
type check struct {
	Name     string
	Findings []models.Finding
	Error    string // why it could not be checked
}

// Unlisted is how many VMs are not named.
func (s submission) Unlisted() int { return len(s.VMs) - len(s.Listed) }

// submit shows the form of options for VMs that were chosen, checks them, or submits
// jobs for them: what the form's step says.
func (c *call) submit() error {
	st, err := c.stands(c.vcenter())
	if err != nil {
		return err
	}
	if st.last == nil {
		return c.wait(st)
	}
	s, err := c.chosen(st.last)
	if err != nil {
		return err
	}
	step := c.r.PostForm.Get("step")
	if step == "" { // from the list
		s.Output = c.o.Output
		s.ask(map[string]string{"format": fields.Of("format").Choices[0]}, nil)
		return c.show("submit.html", "Options", s)
	}
	s.Output = strings.TrimSpace(c.r.PostForm.Get("output_path"))
	defs, err := s.jobs(c.r.PostForm.Get)
	answers := make(map[string]string)
	for _, f := range fields.All() {
		answers[f.Key] = c.r.PostForm.Get(f.Key)
	}
	var invalid *job.ValidationError
	switch {
	case errors.As(err, &invalid):
		s.ask(answers, invalid)
		return c.write(http.StatusUnprocessableEntity, "submit.html", "layout", c.layout("Options", s))
	case err != nil:
		return err
	case step == "check":
		s.ask(answers, nil)
		s.check(c, defs)
		return c.show("submit.html", "Options", s)
	case len(s.Errors) > 0: // some were there when they were chosen: it is all of them or none
		s.ask(answers, nil)
		return c.write(http.StatusUnprocessableEntity, "submit.html", "layout", c.layout("Options", s))
	}
	result, err := c.api.Submit(c.r.Context(), defs, true)
	if err != nil {
		return err
	}
	if result.Accepted == 0 {
		s.ask(answers, nil)
		s.Errors = firstOf(result.Errors)
		return c.write(http.StatusUnprocessableEntity, "submit.html", "layout", c.layout("Options", s))
	}
	return c.back("/ui/jobs", "%s submitted.", plural(result.Accepted, "job"))
}

// firstOf are the first of many errors.
func firstOf(all []string) []string {
	if n := len(all); n > 10 {
		return append(slices.Clone(all[:10]), fmt.Sprintf("and %d more", n-10))
	}
	return all
}

// waiting is a form that cannot be answered before the inventory is there.
type waiting struct {
	Reading reading
	Kept    []answer // what is sent again
	Step    string
}

// answer is a field of a form with what was answered.
type answer struct{ Name, Value string }

// wait shows how it stands with the inventory, and keeps what the form has: nothing of
// it is done yet.
func (c *call) wait(st standing) error {
	w := waiting{Reading: st.reading(c.vcenter()), Step: c.r.PostForm.Get("step")}
	w.Reading.URL = c.waitingURL()
	for name, values := range c.r.PostForm {
		if name == csrfField || name == "step" || name == "again" {
			continue
		}
		for _, v := range values {
			w.Kept = append(w.Kept, answer{name, v})
		}
	}
	slices.SortStableFunc(w.Kept, func(a, b answer) int { return strings.Compare(a.Name, b.Name) })
	return c.show("waiting.html", "Options", w)
}

func (c *call) waitingURL() string {
	return "/ui/submit/reading?" + url.Values{"vcenter": {c.vcenter()}}.Encode()
}

// submitReading tells a script how it stands with the inventory that a form waits for.
func (c *call) submitReading() error {
	st, err := c.stands(c.vcenter())
	if err != nil {
		return err
	}
	r := st.reading(c.vcenter())
	r.URL = c.waitingURL()
	return c.fragment("waiting.html", "waiting", r)
}

// chosen are the VMs that the form names, or all that its search finds.
func (c *call) chosen(inv *inventory) (submission, error) {
	s := submission{VCenter: c.vcenter()}
	if c.r.PostForm.Get("all") != "" {
		s.VMs = inv.find(c.r.PostForm.Get("q"))
	} else {
		var missing int
		if s.VMs, missing = inv.byPath(c.r.PostForm["vm"]); missing > 0 {
			s.Errors = append(s.Errors, plural(missing, "VM")+" that you chose cannot be found any more.")
		}
	}
	if len(s.VMs) == 0 {
		return s, problem{http.StatusUnprocessableEntity, "No VM is chosen. Go back and choose at least one."}
	}
	s.Listed = s.VMs[:min(len(s.VMs), maxListed)]
	for _, vm := range s.VMs {
		s.Bytes += vm.DiskBytes
		if vm.PowerState != "poweredOff" {
			s.Running++
		}
	}
	return s, nil
}

// ask makes the fields, with answers and what is wrong with them.
func (s *submission) ask(answers map[string]string, invalid *job.ValidationError) {
	wrong := make(map[string]string)
	if invalid != nil {
		for _, p := range invalid.Problems {
			wrong[p.Field] = strings.TrimPrefix(wrong[p.Field]+"; "+p.Reason, "; ")
		}
	}
	s.Trouble = wrong["output_path"]
	delete(wrong, "output_path")
	for _, f := range fields.All() {
		a := asked{Field: f, Value: answers[f.Key], Error: wrong[f.Field()], Options: f.Choices}
		delete(wrong, f.Field())
		if f.Kind == fields.Number && f.Key == "parallel_downloads" && a.Value == "" {
			a.Value = strconv.Itoa(job.DefaultParallelDownloads)
		}
		if f.More {
			s.More = append(s.More, a)
			s.MoreOpen = s.MoreOpen || a.Error != "" || a.Value != "" && a.Value != "0"
		} else {
			s.Asked = append(s.Asked, a)
		}
	}
	for field, why := range wrong {
		s.Errors = append(s.Errors, field+" "+why)
	}
	slices.Sort(s.Errors)
}

// jobs makes a job for each VM. Of several, each goes to a directory of its own. What
// is wrong with the answers is a [*job.ValidationError].
func (s *submission) jobs(answer func(string) string) ([]job.Definition, error) {
	o, err := fields.Read(answer)
	if err != nil {
		return nil, err
	}
	if err := (job.Definition{VMPath: "vm", OutputPath: s.Output, Options: o}).WithDefaults().Validate(); err != nil {
		return nil, err
	}
	defs := make([]job.Definition, len(s.VMs))
	taken := make(map[string]bool)
	for i, vm := range s.VMs {
		d := job.Definition{Name: vm.Name, VMPath: vm.Path, OutputPath: s.Output, Options: o, VCenter: s.VCenter}
		if len(s.VMs) > 1 {
			d.OutputPath = path.Join(s.Output, folder(vm.Name, taken))
		}
		if vm.PowerState == "poweredOff" {
			d.Options.Snapshot = false
		}
		defs[i] = d
	}
	return defs, nil
}

// folder is the name of a VM's directory, unlike those that are taken; names that
// differ in case alone count as one.
func folder(name string, taken map[string]bool) string {
	base := job.FileBase(name)
	free := base
	for n := 2; taken[strings.ToLower(free)]; n++ {
		free = base + "-" + strconv.Itoa(n)
	}
	taken[strings.ToLower(free)] = true
	return free
}

// check finds out what stands in the way of each job, without moving a byte.
func (s *submission) check(c *call, defs []job.Definition) {
	s.Checked = true
	some := defs[:min(len(defs), maxChecked)]
	s.Checks = make([]check, len(some))
	ctx, cancel := context.WithTimeout(c.r.Context(), checksBound)
	defer cancel()
	var group errgroup.Group
	group.SetLimit(checksAtOnce)
	for i, d := range some {
		group.Go(func() error {
			s.Checks[i] = c.checked(ctx, d)
			return nil
		})
	}
	_ = group.Wait() // what cannot be checked says so
}

func (c *call) checked(ctx context.Context, d job.Definition) check {
	out := check{Name: d.Name}
	r, err := c.api.Check(ctx, d)
	if err != nil {
		out.Error = unchecked(ctx, err)
	}
	out.Findings = r.Findings
	return out
}

// unchecked is why a VM could not be checked, in words.
func unchecked(ctx context.Context, err error) string {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Sprintf("vCenter did not answer within %v. The job checks its VM before a byte moves.", span(checksBound))
	}
	return textOf(err)
}

// Unchecked is how many VMs are not checked because there are many.
func (s submission) Unchecked() int { return len(s.VMs) - len(s.Checks) }

// Clear is how many of the checked have nothing in their way: what is told for
// information does not count.
func (s submission) Clear() int {
	n := 0
	for _, c := range s.Checks {
		worse := slices.ContainsFunc(c.Findings, func(f models.Finding) bool { return f.Severity != models.SeverityInfo })
		if c.Error == "" && !worse {
			n++
		}
	}
	return n
}
