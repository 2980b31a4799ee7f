package e2e

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// dashboard is a daemon with a token of each role, over a lab with many VMs.
type dashboard struct {
	*home
	*process
	tokens map[string]string
}

// bulk is how many VMs the lab has beside those that are exported.
const bulk = 10_000

func startDashboard(t *testing.T) *dashboard {
	t.Helper()
	d := &dashboard{tokens: map[string]string{}}
	source := rawDisk(t, 4*mib, mib/2, 7)
	slow := rawDisk(t, 128*mib, 96*mib, 8) // takes a quarter of an hour: it is there as long as one looks
	args := []string{"-vms", strconv.Itoa(bulk), "-hosts", "2", "-rate", "128KiB/s",
		"-fault", "late:call=CreateContainerView,after=3s"} // a page has something to wait for
	for i := range 3 {
		args = append(args, "-vm", fmt.Sprintf("erp-db-%d=%s;folder=prod;host=%d", i+1, source, i%2))
	}
	args = append(args, "-vm", fmt.Sprintf("archive <script>alert(1)</script>=%s;folder=prod", slow))
	d.home = newHomeAt(t, map[string]*url.URL{"lab": startLabProgram(t, args...)})
	state := filepath.Join(d.dir, "state")
	for _, role := range []string{"viewer", "operator", "admin"} {
		file := filepath.Join(d.dir, role+".token")
		hyper2kvmd(t, "token", "create", "-name", role, "-role", role, "-state-dir", state, "-o", file)
		token, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		d.tokens[role] = strings.TrimSpace(string(token))
	}
	d.process = d.start()
	return d
}

// signIn has the browser sign in with the token of a role, in place of who was before.
func (d *dashboard) signIn(b *browser, role string) {
	b.t.Helper()
	b.visit("/ui/signin")
	b.fill("#token", d.tokens[role])
	b.follow("main form button")
	b.until(`location.pathname === "/ui/" && document.querySelector(".who").innerText.includes(` + script(role) + `)`)
}

func TestTheDashboardIsUsedInABrowser(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	t.Parallel()
	d := startDashboard(t)
	b := openBrowser(t, "http://"+d.addr)

	b.visit("/ui/vms")
	b.sees("Sign in")
	b.fill("#token", "h2k_nonsense")
	b.follow("main form button")
	b.sees("no token of this daemon")
	b.judge("signin")
	d.signIn(b, "operator")
	b.judge("overview")
	d.inventory(b)
	d.submits(b)
	d.steers(b)
	d.refuses(b)
	b.quiet()
}

// inventory looks at the list of VMs.
func (d *dashboard) inventory(b *browser) {
	b.t.Helper()
	all := strconv.Itoa(bulk + 4)
	b.visit("/ui/vms")
	if eval[bool](b, `document.querySelector("#list.unread") !== null`) {
		b.judge("vms-reading")
	}
	b.until(`document.querySelector(".virtual[data-total='` + all + `']")`) // it comes without a reload
	b.judge("vms")
	// All rows can be scrolled to, and few are in the page.
	frames := eval[string](b, `new Promise((done) => {
  const list = document.querySelector(".virtual"); let steps = 0, last = performance.now(), longest = 0;
  const step = (now) => {
    longest = Math.max(longest, now - last); last = now;
    list.scrollTop += list.scrollHeight / 120;
    if (++steps < 120) requestAnimationFrame(step); else done(Math.round(longest) + " ms");
  };
  requestAnimationFrame(step);
})`)
	b.until(`(() => { const list = document.querySelector(".virtual"); list.scrollTop = list.scrollHeight; return document.querySelector(".rows tr:last-child").getAttribute("aria-rowindex") === ` + script(all) + `; })()`)
	if n := eval[int](b, `document.querySelectorAll(".rows tr").length`); n > 300 {
		b.t.Errorf("%d rows are in the page", n)
	}
	b.t.Logf("scrolling through %s VMs: the longest frame took %s", all, frames)
	// What is chosen stays chosen while one searches for something else.
	for i := range 3 {
		b.fill("[name=q]", fmt.Sprintf("erpdb%d", i+1))
		b.until(`document.querySelectorAll(".rows tr").length === 1`)
		b.click("input[name=vm]:not(:checked)")
		b.sees(fmt.Sprintf("%d chosen", i+1))
	}
	b.fill("[name=q]", "prod script")
	b.sees("archive <script>alert(1)</script>")
}

// submits sends the form of options for what is chosen.
func (d *dashboard) submits(b *browser) {
	b.t.Helper()
	b.follow("#choice .bar button")
	b.sees("Options for 3 VMs")
	out := eval[string](b, `document.querySelector("#output_path").value`)
	b.fill("#output_path", "relative")
	b.follow("button[value=submit]")
	b.until(`document.querySelector("#output_path-error")`)
	b.judge("submit-refused")
	b.fill("#output_path", filepath.Join(out, "dashboard"))
	b.follow("button[value=check]")
	b.sees("Nothing stands in the way of 3 of 3")
	b.judge("submit")
	b.follow("button[value=submit]")
	b.until(`location.pathname === "/ui/jobs"`)
}

// listed waits until a number of jobs have a status.
func (b *browser) listed(status string, n int) {
	b.t.Helper()
	b.visit("/ui/jobs?status=" + status)
	b.until(fmt.Sprintf(`document.querySelectorAll("#jobs-rows tr[id]").length === %d`, n))
}

// steers watches jobs to their end, cancels one, has it queued again, and changes its
// limit while it runs.
func (d *dashboard) steers(b *browser) {
	b.t.Helper()
	b.listed("completed", 3)
	b.judge("jobs")
	b.follow("#jobs-rows a")
	b.sees("Timeline")
	b.judge("job")

	b.visit("/ui/vms?q=archive")
	b.click("input[name=vm]")
	b.follow("#choice .bar button")
	b.sees("Options for 1 VM")
	b.follow("button[value=submit]")
	b.until(`location.pathname === "/ui/jobs"`)
	b.listed("running", 1)
	b.follow("#jobs-rows a")
	b.follow("#do-cancel")
	b.follow("main button.danger")
	b.listed("cancelled", 1)
	b.follow("#jobs-rows a")
	b.follow("#do-retry")
	b.listed("running", 1)

	b.visit("/ui/limits")
	b.judge("limits")
	b.fill("form[action='/ui/limits/job'] input[name=limit]", "1MiB/s")
	b.follow("form[action='/ui/limits/job'] button")
	b.sees("is 1MiB/s.")
	b.visit("/ui/throughput")
	b.judge("throughput")
}

// refuses looks at what a viewer may not do, and an administrator may.
func (d *dashboard) refuses(b *browser) {
	b.t.Helper()
	d.signIn(b, "viewer")
	b.listed("running", 1)
	b.follow("#jobs-rows a")
	b.sees("Timeline")
	if eval[bool](b, `document.querySelector("#do-cancel, input[name=job]") !== null`) {
		b.t.Error("a viewer is offered to cancel a job")
	}
	status := eval[int](b, `fetch("/ui/jobs/cancel", {method: "POST", body: new URLSearchParams(new FormData(document.querySelector("form[action='/ui/signout']")))}).then((r) => r.status)`)
	if status != 403 {
		b.t.Errorf("a viewer who cancels a job all the same is answered %d", status)
	}
	d.signIn(b, "admin")
	b.visit("/ui/audit")
	b.follow("form[action='/ui/audit/verify'] button")
	b.sees("none changed or missing")
	b.judge("audit")
}
