package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/memory"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// vcenter is one whose answers are late, or never come.
type vcenter struct {
	mu sync.Mutex
	reply
	walks int
}

// reply is what a vCenter says.
type reply struct {
	delay time.Duration // negative: it never does
	vms   []models.VM
	err   error
	crash bool
}

// says has the vCenter answer otherwise from now on.
func (v *vcenter) says(r reply) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.reply = r
}

// walked is how often it was walked.
func (v *vcenter) walked() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.walks
}

func (v *vcenter) next(walks int) reply {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.walks += walks
	return v.reply
}

func (v *vcenter) VMs(ctx context.Context, _ string, seen func(int)) ([]models.VM, error) {
	r := v.next(1)
	for n := range 10 { // it comes in pages
		if err := late(ctx, r.delay, 10); err != nil {
			return nil, fmt.Errorf("read the inventory: %w", err)
		}
		seen(len(r.vms) * (n + 1) / 10)
	}
	if r.crash {
		panic("hunter2")
	}
	return r.vms, r.err
}

func (v *vcenter) Check(ctx context.Context, _ job.Definition) (models.CheckResult, error) {
	return models.CheckResult{}, late(ctx, v.next(0).delay, 1)
}

// late waits for a part of d.
func late(ctx context.Context, d time.Duration, part int) error {
	if d < 0 {
		<-ctx.Done()
		return ctx.Err()
	}
	select {
	case <-time.After(d / time.Duration(part)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// machines are VMs with these names.
func machines(names ...string) []models.VM {
	out := make([]models.VM, len(names))
	for i, name := range names {
		out[i] = models.VM{Name: name, Path: "/DC/vm/" + name, PowerState: "poweredOff"}
	}
	return out
}

// look is a dashboard over v, whose time a test moves on.
type look struct {
	t    *testing.T
	site *Site
	jobs *jobs.Manager
}

func lookAt(t *testing.T, v *vcenter) *look {
	t.Helper()
	m := jobs.New(memory.New(), nil, jobs.Options{})
	a := api.New(m, api.Options{Inventory: v})
	s := New(Options{API: a, Sessions: access.NewSessions(nil, access.SessionOptions{}), VCenters: []string{"lab", "other"}, Output: "/images"})
	t.Cleanup(s.Close)
	return &look{t, s, m}
}

// ask makes a request as an operator would, and says how long the answer took.
func (l *look) ask(r *http.Request) (*httptest.ResponseRecorder, time.Duration) {
	l.t.Helper()
	began := time.Now()
	w := httptest.NewRecorder()
	l.site.ServeHTTP(w, r.WithContext(access.WithPrincipal(l.t.Context(), access.Principal{Name: "o", Role: access.Operator})))
	return w, time.Since(began)
}

// page is one that must be there at once, with these texts.
func (l *look) page(path string, texts ...string) string {
	l.t.Helper()
	w, took := l.ask(httptest.NewRequest(http.MethodGet, path, nil))
	l.has(w, took, texts...)
	return w.Body.String()
}

// has wants an answer that came at once to be a page with these texts.
func (l *look) has(w *httptest.ResponseRecorder, took time.Duration, texts ...string) {
	l.t.Helper()
	if w.Code != http.StatusOK || took > quickWalk {
		l.t.Errorf("HTTP %d after %v", w.Code, took)
	}
	for _, text := range texts {
		if !strings.Contains(w.Body.String(), text) {
			l.t.Errorf("no %q in %s", text, w.Body)
		}
	}
}

var poll = regexp.MustCompile(`id="reading" hx-get="([^"]+)" hx-trigger="every (\d+)s"`)

// follow looks again as a script does, until there is nothing more to look for. It
// returns the last answer, how often it has looked, and how long it paused last.
func (l *look) follow(body string) (w *httptest.ResponseRecorder, looks int, every time.Duration) {
	l.t.Helper()
	for ; ; looks++ {
		m := poll.FindStringSubmatch(body)
		if m == nil {
			return w, looks, every
		}
		n, _ := strconv.Atoi(m[2])
		if next := time.Duration(n) * time.Second; next < every || next > mostEvery*time.Second {
			l.t.Errorf("it looks again after %v, %v before that", next, every)
		} else {
			every = next
		}
		time.Sleep(every)
		r := httptest.NewRequest(http.MethodGet, strings.ReplaceAll(m[1], "&amp;", "&"), nil)
		r.Header.Set("HX-Request", "true")
		var took time.Duration
		w, took = l.ask(r)
		l.has(w, took)
		body = w.Body.String()
	}
}

func TestAPageIsThereAtOnceAndIsFilledWhenALateVCenterAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := &vcenter{reply: reply{delay: 10 * time.Minute, vms: machines("a", "b", "c", "d", "e", "f", "g", "h", "i", "j")}}
		l := lookAt(t, v)
		body := l.page("/ui/vms?q=", "The inventory of vCenter lab is being read, since", "(0 s)", `class="unread"`, `<a href="/ui/vms?q=&amp;vcenter=lab">Look again</a>`)
		if strings.Contains(body, "have come") || strings.Contains(body, "No VM is found") {
			t.Errorf("it says more than is known: %s", body)
		}
		time.Sleep(5 * time.Minute)
		l.page("/ui/vms?q=a", "(5 min)", "5 VMs have come so far")
		l.page("/ui/vms?again=1", "(5 min)")
		if w, _ := l.ask(httptest.NewRequest(http.MethodGet, "/ui/vms/rows?from=0", nil)); w.Code != http.StatusServiceUnavailable {
			t.Errorf("rows of nothing: %d", w.Code)
		}
		w, looks, every := l.follow(body)
		if looks < 10 || looks > 120 || every != mostEvery*time.Second {
			t.Errorf("it looked %d times, every %v in the end", looks, every)
		}
		if w.Header().Get("HX-Retarget") != "#list" || strings.Count(w.Body.String(), "aria-rowindex=") != 10 || strings.Contains(w.Body.String(), "being read") {
			t.Errorf("%v %s", w.Header(), w.Body)
		}
		l.page("/ui/vms", "<strong>10</strong>")
		if v.walked() != 1 {
			t.Errorf("the vCenter was walked %d times", v.walked())
		}
	})
}

func TestAVCenterThatNeverAnswersIsGivenUpAndTriedAgainWhenOneAsks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := &vcenter{reply: reply{delay: -1}}
		l := lookAt(t, v)
		w, _, _ := l.follow(l.page("/ui/vms", "is being read"))
		l.has(w, 0, "could not be read, at", "did not give all of it within 15 min", `<a href="/ui/vms?again=1&amp;q=&amp;vcenter=lab">Try again</a>`)
		l.page("/ui/vms", "could not be read, at") // and is not asked at once again
		if v.walked() != 1 {
			t.Errorf("the vCenter was walked %d times", v.walked())
		}
		v.says(reply{vms: machines("a")})
		l.page("/ui/vms?again=1", "<strong>1</strong>", "/DC/vm/a")
		if body := l.page("/ui/vms"); strings.Contains(body, "could not") {
			t.Errorf("the failure is still said: %s", body)
		}
	})
}

func TestAnOldInventoryIsShownWithItsAgeWhileItIsReadAnew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := &vcenter{reply: reply{vms: machines("old")}}
		l := lookAt(t, v)
		if body := l.page("/ui/vms", "old", "read again"); strings.Contains(body, "being read") {
			t.Errorf("%s", body)
		}
		time.Sleep(inventoryKept - time.Second)
		l.page("/ui/vms")
		if v.walked() != 1 {
			t.Errorf("what is young was read again")
		}
		time.Sleep(10 * time.Minute)
		v.says(reply{delay: time.Minute, vms: machines("old", "new")})
		body := l.page("/ui/vms", "/DC/vm/old", "(11 min old), being read again", "is being read again, since")
		if strings.Contains(body, "unread") || strings.Contains(body, ">read again<") {
			t.Errorf("%s", body)
		}
		rows, took := l.ask(httptest.NewRequest(http.MethodGet, "/ui/vms/rows?from=0", nil))
		l.has(rows, took, "/DC/vm/old")
		w, _, _ := l.follow(body)
		if w.Header().Get("HX-Retarget") != "#list" {
			t.Errorf("%v", w.Header())
		}
		l.has(w, 0, "/DC/vm/new", "<strong>2</strong>")
		again, took := l.ask(httptest.NewRequest(http.MethodGet, "/ui/vms/rows?from=0", nil))
		if l.has(again, took, "/DC/vm/new"); rows.Header().Get("Inventory-Version") == again.Header().Get("Inventory-Version") {
			t.Error("a script cannot tell that the rows are of another inventory")
		}
		if v.walked() != 2 {
			t.Errorf("the vCenter was walked %d times", v.walked())
		}
	})
}

func TestAFailureIsShownWithItsReasonBesideWhatIsOlder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := &vcenter{reply: reply{vms: machines("old")}}
		l := lookAt(t, v)
		l.page("/ui/vms", "/DC/vm/old")
		time.Sleep(time.Hour)
		v.says(reply{delay: 10 * time.Second, err: errors.New("vc.example: <i>no route</i> to host")})
		w, _, _ := l.follow(l.page("/ui/vms", "(1 h 0 min old), being read again"))
		l.has(w, 0, "could not be read again, at", ": vc.example: &lt;i&gt;no route&lt;/i&gt; to host", "What is shown is older.", "Try again")
		l.page("/ui/vms", "/DC/vm/old", "no route", "Try again")
		if v.walked() != 2 {
			t.Errorf("the vCenter was walked %d times", v.walked())
		}
		time.Sleep(failurePause)
		l.page("/ui/vms", "being read again")
		time.Sleep(time.Minute)
		v.says(reply{crash: true})
		l.page("/ui/vms?again=1", "/DC/vm/old", "internal error", "What is shown is older.")
		v.says(reply{vms: machines("new")})
		l.page("/ui/vms?again=1", "/DC/vm/new")
	})
}

func TestAVCenterThatIsNotInTheConfigurationIsNotAsked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := &vcenter{reply: reply{delay: -1}}
		l := lookAt(t, v)
		for _, path := range []string{"/ui/vms?vcenter=x", "/ui/vms/reading?vcenter=x", "/ui/vms/rows?vcenter=x", "/ui/submit/reading?vcenter=x"} {
			if w, took := l.ask(httptest.NewRequest(http.MethodGet, path, nil)); w.Code != http.StatusNotFound || took > 0 {
				t.Errorf("%s: %d after %v", path, w.Code, took)
			}
		}
		l.page("/ui/vms?vcenter=other", "vCenter other is being read", `<option value="other" selected>`)
		if v.walked() != 1 || len(l.site.inventories.by) != 1 {
			t.Errorf("%d walks", v.walked())
		}
	})
}

func TestWhoHasNoRoleAnyMoreIsLedToTheSignIn(t *testing.T) {
	t.Parallel()
	s := lookAt(t, &vcenter{}).site
	for role, wanted := range map[access.Role]bool{access.Nobody: true, access.Viewer: false} {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequestWithContext(access.WithPrincipal(t.Context(), access.Principal{Name: "kim", Role: role, Via: access.ViaOIDC}), http.MethodGet, "/ui/audit", nil))
		if led := strings.Contains(w.Body.String(), `href="/ui/signin?to=%2Fui%2Faudit"`); w.Code != http.StatusForbidden || led != wanted {
			t.Errorf("%s: %d %s", role, w.Code, w.Body)
		}
	}
}

func TestAFormWaitsForTheInventoryWithoutLosingWhatWasChosen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := &vcenter{reply: reply{delay: time.Minute, err: errors.New("the cable is out")}}
		l := lookAt(t, v)
		form := url.Values{"vcenter": {"lab"}, "vm": {"/DC/vm/a", "/DC/vm/b"}, "output_path": {"/images/<x>"}, "format": {"raw"}, "step": {"submit"}}
		body := l.post("/ui/submit", form, "No job is submitted yet.", "is being read", `name="vm" value="/DC/vm/a"`, `name="vm" value="/DC/vm/b"`,
			`name="output_path" value="/images/&lt;x&gt;"`, `name="step" value="submit"`)
		if strings.Count(body, `name="csrf"`) != 1+strings.Count(body, "/ui/signout") {
			t.Errorf("%s", body)
		}
		w, _, _ := l.follow(body)
		l.has(w, 0, "could not be read", "the cable is out", `name="again" value="1"`)
		v.says(reply{delay: time.Minute, vms: machines("a", "b")})
		form.Set("again", "1")
		w, _, _ = l.follow(l.post("/ui/submit", form, "is being read"))
		l.has(w, 0, "The inventory is there: go on.")
		if w := l.send("/ui/submit", form); w.Code != http.StatusSeeOther {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		page, err := l.jobs.Query(t.Context(), jobs.Query{})
		if err != nil || len(page.Jobs) != 2 {
			t.Errorf("%d jobs, %v", len(page.Jobs), err)
		}
	})
}

// send sends a form of the dashboard's own; post wants the answer to be a page.
func (l *look) send(path string, form url.Values) *httptest.ResponseRecorder {
	l.t.Helper()
	form.Set(csrfField, l.site.o.Sessions.Mark("principal  o"))
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w, took := l.ask(r)
	if took > checksBound {
		l.t.Errorf("%s took %v", path, took)
	}
	return w
}

func (l *look) post(path string, form url.Values, texts ...string) string {
	l.t.Helper()
	w := l.send(path, form)
	l.has(w, 0, texts...)
	return w.Body.String()
}

func TestWhatCannotBeCheckedInTimeIsSaidOnTheForm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := &vcenter{reply: reply{vms: machines("a", "b", "c", "d", "e", "f")}}
		l := lookAt(t, v)
		l.page("/ui/vms", "/DC/vm/a")
		v.says(reply{delay: -1})
		const late = "vCenter did not answer within 50 s"
		form := url.Values{"vcenter": {"lab"}, "all": {"1"}, "output_path": {"/images"}, "format": {"raw"}, "step": {"check"}}
		if body := l.post("/ui/submit", form); strings.Count(body, late) != 6 {
			t.Errorf("%s", body)
		}
		s, err := l.jobs.Submit(t.Context(), []job.Definition{{VMPath: "a", OutputPath: "/out", VCenter: "lab"}}, true)
		if err != nil || len(s.IDs) != 1 {
			t.Fatal(s, err)
		}
		edit := "/ui/jobs/" + s.IDs[0] + "/edit"
		l.post(edit, url.Values{"job": {"vm_path: changed\noutput_path: /out"}, "check": {"yes"}}, "vm_path: changed", late)
	})
}
