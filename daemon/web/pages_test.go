package web_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
)

func TestTheOverviewTellsWhatRunsWhatWaitsAndWhatFailed(t *testing.T) {
	t.Parallel()
	d := startOpen(t)
	b := d.browser()
	d.await(d.submit("/dc/vm/fail-1"))
	for i := range 4 { // as many as run at once
		d.running(fmt.Sprintf("/dc/vm/slow-%d", i))
	}
	d.submit("/dc/vm/waits-1")
	d.submit("/dc/vm/waits-2")
	page := b.get("/ui/").body
	for _, want := range []string{
		"<strong>4</strong> running", "<strong>2</strong> waiting", `<strong class="bad">1</strong> failed`,
		"slow-3", "waits-1", "waiting for a free place: it is the next", "waiting for its turn: 1 before it", "2 × waiting for a free place",
		"no space left in the output directory", "Nothing is known of file systems",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("there is no %q in %s", want, page)
		}
	}
	for _, wrong := range []string{"unknown", `"0 %"`, ">0 %<"} {
		if strings.Contains(page, wrong) {
			t.Errorf("there is a %q", wrong)
		}
	}
}

func TestAJobsPageHasItsTimelineLogAndWhatIsNext(t *testing.T) {
	t.Parallel()
	d := startOpen(t)
	b := d.browser()
	id := d.submit("/dc/vm/ok-1")
	d.await(id)
	page := b.get("/ui/jobs/" + id).body
	for _, want := range []string{">completed<", "queued", "one retry", "disk-0.vmdk: ", "/out"} {
		if !strings.Contains(page, want) {
			t.Errorf("there is no %q in %s", want, page)
		}
	}
	if a := b.get("/ui/jobs/nothing"); a.status != http.StatusNotFound || !strings.Contains(a.body, "no such job") {
		t.Error(a.status, a.body)
	}
}

func TestTheListIsFilteredSearchedAndPaged(t *testing.T) {
	t.Parallel()
	d := startOpen(t)
	b := d.browser()
	var last string
	for i := range 60 {
		last = d.submit(fmt.Sprintf("/dc/vm/ok-%02d", i))
	}
	d.await(d.submit("/dc/vm/fail-it"))
	d.await(last)
	page := b.get("/ui/jobs").body
	if strings.Count(page, `name="job"`) != 50 || !strings.Contains(page, "50 of 61") {
		t.Errorf("the first page: %s", page)
	}
	older := link(t, page, `rel="next"`)
	if page := b.get(older).body; strings.Count(page, `name="job"`) != 11 || !strings.Contains(page, "The newest") {
		t.Errorf("the second page: %s", page)
	}
	for query, want := range map[string]int{"status=failed": 1, "q=OK-1": 10, "q=space+left": 1, "status=failed&q=ok": 0, "status=nonsense": 50} {
		if page := b.get("/ui/jobs?" + query).body; strings.Count(page, `name="job"`) != want {
			t.Errorf("%s: %d jobs, want %d", query, strings.Count(page, `name="job"`), want)
		}
	}
	if a := b.get("/ui/jobs?cursor=nonsense"); a.status != http.StatusBadRequest {
		t.Error(a.status)
	}
}

// link returns the address of the link with that attribute.
func link(t *testing.T, page, attribute string) string {
	t.Helper()
	before, _, found := strings.Cut(page, `" `+attribute)
	if !found {
		t.Fatalf("there is no link with %s", attribute)
	}
	return strings.ReplaceAll(before[strings.LastIndex(before, `"`)+1:], "&amp;", "&")
}

func TestMarkedJobsAreCancelledAfterOneIsSureAndQueuedAgain(t *testing.T) {
	t.Parallel()
	d, tokens := startSecured(t, access.SessionOptions{})
	b := d.as(tokens["operator"])
	one, two := d.running("/dc/vm/slow-1"), d.running("/dc/vm/slow-2")
	form := url.Values{"job": {one, two}, "back": {"/ui/jobs?status=running"}}
	if a := b.post("/ui/jobs", "/ui/jobs/cancel", form); a.status != http.StatusOK || !strings.Contains(a.body, "Cancel 2 jobs?") || !strings.Contains(a.body, "slow-2") {
		t.Fatal(a.status, a.body)
	}
	if j, err := d.Jobs.Get(t.Context(), one); err != nil || j.Cancelling || j.Status != models.StatusRunning {
		t.Fatal("cancelled before one was sure:", j.Status, err)
	}
	form.Set("sure", "yes")
	if a := b.post("/ui/jobs", "/ui/jobs/cancel", form); a.status != http.StatusSeeOther || a.header.Get("Location") != "/ui/jobs?status=running" {
		t.Fatal(a.status, a.body)
	}
	d.await(one)
	d.await(two)
	if a := b.post("/ui/jobs", "/ui/jobs/retry", url.Values{"job": {one}}); a.status != http.StatusSeeOther {
		t.Fatal(a.status, a.body)
	}
	if page := b.get("/ui/jobs").body; !strings.Contains(page, "1 job queued again.") {
		t.Errorf("it is not said: %s", page)
	}
	if page := b.get("/ui/jobs").body; strings.Contains(page, "1 job queued again.") {
		t.Error("it is said twice")
	}
	if a := b.post("/ui/jobs", "/ui/jobs/retry", url.Values{}); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, "No job was chosen") {
		t.Error(a.status, a.body)
	}
	if a := b.post("/ui/jobs", "/ui/jobs/retry", url.Values{"job": {"nothing"}}); a.status != http.StatusSeeOther {
		t.Error(a.status)
	}
	if page := b.get("/ui/jobs").body; !strings.Contains(page, "0 jobs queued again. 1 job not: retry: no such job.") {
		t.Errorf("it is not said why not: %s", page)
	}
	want := []string{"operator sessions.begin", "operator jobs.cancel", "operator jobs.retry", "operator jobs.retry"}
	if got := d.actions(); !slices.Equal(got, want) {
		t.Errorf("the audit log has %q, want %q", got, want)
	}
}

func TestAFailedJobIsChangedAndRunAsANewOne(t *testing.T) {
	t.Parallel()
	d := startOpen(t)
	b := d.browser()
	id := d.submit("/dc/vm/fail-1")
	d.await(id)
	edit := "/ui/jobs/" + id + "/edit"
	form := b.get(edit).body
	if !strings.Contains(form, "vm_path: /dc/vm/fail-1") || strings.Contains(form, "created_at") || strings.Contains(form, "\nid:") {
		t.Fatal(form)
	}
	for text, want := range map[string]string{
		"vm_path: x\noutput_path: relative":                 "output_path",
		"vm_path: x\nvm_paht: y":                            "vm_paht",
		"jobs: [{vm_path: a}, {vm_path: b}]":                "2 jobs",
		"vm_path: x\noutput_path: /o\npassword: s3cret\n: ": "",
		"": "",
	} {
		a := b.post(edit, edit, url.Values{"job": {text}})
		if a.status < 400 || !strings.Contains(a.body, want) || strings.Contains(a.body, "s3cret") {
			t.Errorf("%q: %d %s", text, a.status, a.body)
		}
	}
	a := b.post(edit, edit, url.Values{"job": {"vm_path: /dc/vm/ok-2\noutput_path: /out"}})
	if a.status != http.StatusSeeOther || !strings.HasPrefix(a.header.Get("Location"), "/ui/jobs/") {
		t.Fatal(a.status, a.body)
	}
	d.await(strings.TrimPrefix(a.header.Get("Location"), "/ui/jobs/"))
}

func TestAViewerSeesAndDoesNothing(t *testing.T) {
	t.Parallel()
	d, tokens := startSecured(t, access.SessionOptions{})
	b := d.as(tokens["viewer"])
	id := d.running("/dc/vm/slow-1")
	for _, path := range []string{"/ui/", "/ui/jobs", "/ui/jobs/" + id} {
		a := b.get(path)
		if a.status != http.StatusOK || strings.Contains(a.body, "Cancel") || strings.Contains(a.body, "Retry") || strings.Contains(a.body, "/edit") {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	for _, path := range []string{"/ui/jobs/cancel", "/ui/jobs/retry", "/ui/jobs/" + id + "/edit", "/ui/vcenters/resume"} {
		if a := b.post("/ui/", path, url.Values{"job": {id}, "sure": {"yes"}, "all": {"failed"}, "vcenter": {"x"}}); a.status != http.StatusForbidden {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	if j, err := d.Jobs.Get(t.Context(), id); err != nil || j.Cancelling || j.Status != models.StatusRunning {
		t.Error("something was done:", j.Status, err)
	}
	if got := d.actions(); len(got) != 1 {
		t.Errorf("the audit log has %q", got)
	}
}

func TestWhatAVMIsCalledIsNeverPartOfAPage(t *testing.T) {
	t.Parallel()
	d := startOpen(t)
	b := d.browser()
	for _, name := range []string{`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' onmouseover='alert(1)`, `</textarea><script>alert(1)</script>`, `{{.}}`, "`${alert(1)}`", `javascript:alert(1)`} {
		s, err := d.Jobs.Submit(t.Context(), []job.Definition{{Name: "x", VMPath: "/dc/vm/fail" + name, OutputPath: "/out/" + name}}, true)
		if err != nil || len(s.IDs) != 1 {
			t.Fatal(name, s, err)
		}
		id := s.IDs[0]
		for _, path := range []string{"/ui/", "/ui/jobs", "/ui/jobs?q=" + url.QueryEscape(name), "/ui/jobs/" + id, "/ui/jobs/" + id + "/edit", "/ui/jobs/" + url.PathEscape(name)} {
			a := b.get(path)
			for _, raw := range []string{"<script>alert", "<img src=x", "' onmouseover='", "</textarea><script"} {
				if strings.Contains(a.body, raw) {
					t.Errorf("%s has %s in it", path, raw)
				}
			}
			if a.header.Get("Content-Security-Policy") == "" {
				t.Errorf("%s has no policy", path)
			}
		}
	}
}

func TestNoPageHasASecretInIt(t *testing.T) {
	t.Parallel()
	d := startOpen(t)
	b := d.browser()
	const password = "s3cret-of-the-job"
	s, err := d.Jobs.Submit(t.Context(), []job.Definition{{
		VMPath: "/dc/vm/fail-1", OutputPath: "/out", VCenterURL: "https://vc.example.com/sdk", Username: "u", Password: password,
	}}, true)
	if err != nil || len(s.IDs) != 1 {
		t.Fatal(s, err)
	}
	d.await(s.IDs[0])
	for _, path := range []string{"/ui/", "/ui/jobs", "/ui/jobs/" + s.IDs[0], "/ui/jobs/" + s.IDs[0] + "/edit"} {
		if a := b.get(path); a.status != http.StatusOK || strings.Contains(a.body, password) {
			t.Errorf("%s: %d, with the password: %t", path, a.status, strings.Contains(a.body, password))
		}
	}
}

func TestLiveFragmentsFollowAJobToItsEnd(t *testing.T) {
	t.Parallel()
	d := startOpen(t)
	const vm = "/dc/vm/slow-1"
	id := d.running(vm)
	over, one, list := d.stream("/ui/live/overview"), d.stream("/ui/live/jobs/"+id), d.stream("/ui/live/jobs?q=slow")
	over.until("42.0 %")
	one.until("42.0 %")
	list.until("42.0 %")
	d.Runner.Verdict(vm) <- nil
	one.until("completed")
	list.until("completed")
	over.until("Nothing runs.")
	d.Runner.Verdict("/dc/vm/later") <- errors.New("the cable is out")
	d.submit("/dc/vm/later")
	over.until("the cable is out")
}
