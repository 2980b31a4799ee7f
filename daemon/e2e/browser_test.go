package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browserPatience bounds how long the browser may take for all that a test does, on a
// busy machine.
const browserPatience = 5 * time.Minute

// screens is the variable that names a directory for what the browser shows.
const screens = "HYPER2KVM_SCREENS"

// browser is a Chromium with one tab, and what went on in it that should not.
type browser struct {
	t    *testing.T
	ctx  context.Context
	base string // of the daemon

	mu    sync.Mutex
	wrong []string
}

// openBrowser starts Debian's Chromium, with a profile of its own that goes with it, for
// the pages of a daemon. Without it the test fails.
func openBrowser(t *testing.T, base string) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), browserPatience)
	t.Cleanup(cancel)
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.WSURLReadTimeout(browserPatience),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"))
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	b := &browser{t: t, ctx: ctx, base: base}
	if err := chromedp.Listen(ctx, b.watch); err != nil {
		t.Fatal(err)
	}
	b.do(chromedp.EmulateViewport(1280, 800))
	return b
}

// watch notes requests to elsewhere, and what a page complains of.
func (b *browser) watch(event any) {
	text := ""
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		if u := e.Request.URL; !strings.HasPrefix(u, b.base) && !strings.HasPrefix(u, "data:") && u != "about:blank" {
			text = "request for " + u
		}
	case *runtime.EventConsoleAPICalled:
		text = fmt.Sprintf("console: %s", e.Type)
	case *runtime.EventExceptionThrown:
		text = "exception: " + e.ExceptionDetails.Text
	case *log.EventEntryAdded:
		if e.Entry.Level != "verbose" && !strings.Contains(e.Entry.Text, "the server responded with a status of 4") { // which is looked at
			text = "log: " + e.Entry.Text
		}
	case *page.EventJavascriptDialogOpening:
		text = "a script ran: " + e.Message
	}
	if text != "" {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.wrong = append(b.wrong, text)
	}
}

// quiet wants nothing wrong to have gone on.
func (b *browser) quiet() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range b.wrong {
		b.t.Error(w)
	}
	b.wrong = nil
}

func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

// visit opens a page of the dashboard.
func (b *browser) visit(path string) {
	b.t.Helper()
	b.do(chromedp.Navigate(b.base + path))
}

// eval returns what a script on the page gives.
func eval[T any](b *browser, script string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%s: %v", script, err)
	}
	return v
}

// until waits until a condition holds on the page that is shown, which may be another
// one meanwhile.
func (b *browser) until(condition string) {
	b.t.Helper()
	script := `new Promise((done) => { const look = () => { if (` + condition + `) done(true); else setTimeout(look, 30); }; look(); })`
	ctx, cancel := context.WithTimeout(b.ctx, browserPatience/3)
	defer cancel()
	for {
		_, err := chromedp.Run(ctx, chromedp.Evaluate[bool](script, chromedp.EvalAwaitPromise))
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			b.screenshot("failed")
			b.t.Fatalf("%s never holds: %v; the page says:\n%s", condition, err, eval[string](b, "document.body.innerText"))
		}
	}
}

// script is a text as a script has it.
func script(s string) string {
	b, _ := json.Marshal(s) // of a text
	return string(b)
}

// sees waits until a text is on the page.
func (b *browser) sees(text string) {
	b.t.Helper()
	b.until(`document.body && document.body.innerText.includes(` + script(text) + `)`)
}

// click clicks on what a selector finds.
func (b *browser) click(selector string) {
	b.t.Helper()
	b.until(`document.querySelector(` + script(selector) + `)`)
	eval[bool](b, `(document.querySelector(`+script(selector)+`).click(), true)`)
}

// follow clicks on what leads to another page, and waits until that is there: a page
// that is left before would take its request with it.
func (b *browser) follow(selector string) {
	b.t.Helper()
	b.until(`document.querySelector(` + script(selector) + `)`)
	eval[bool](b, `(window.left = true)`)
	b.click(selector)
	b.until(`!window.left && document.readyState === "complete"`)
}

// fill sets a field as somebody who types does.
func (b *browser) fill(selector, text string) {
	b.t.Helper()
	b.until(`document.querySelector(` + script(selector) + `)`)
	eval[bool](b, `(() => { const f = document.querySelector(`+script(selector)+`); f.value = `+script(text)+`; f.dispatchEvent(new Event("input", {bubbles: true})); return true; })()`)
}

// looks are how pages are looked at.
var looks = []struct {
	name  string
	width int64
	dark  bool
}{{"", 1280, false}, {"-dark", 1280, true}, {"-narrow", 360, false}}

// judge holds the page that is shown against axe and its width, in light and dark and on
// a phone, and keeps what it looks like.
func (b *browser) judge(name string) {
	b.t.Helper()
	for _, l := range looks {
		scheme := "light"
		if l.dark {
			scheme = "dark"
		}
		b.do(chromedp.EmulateViewport(l.width, 800))
		_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
		}})
		if err != nil {
			b.t.Fatal(err)
		}
		b.screenshot(name + l.name)
		if beyond := eval[int](b, `document.documentElement.scrollWidth - innerWidth`); beyond > 0 {
			b.t.Errorf("%s%s is %d pixels wider than the window", name, l.name, beyond)
		}
		for _, v := range b.violations() {
			b.t.Errorf("%s%s: %s", name, l.name, v)
		}
	}
	b.do(chromedp.EmulateViewport(1280, 800))
	b.t.Logf("%s: %s", name, eval[string](b, `(() => {
  const nav = performance.getEntriesByType("navigation")[0], paint = performance.getEntriesByName("first-contentful-paint")[0];
  const all = [nav, ...performance.getEntriesByType("resource")];
  return `+"`first paint ${paint ? Math.round(paint.startTime) : \"?\"} ms, page ${nav.transferSize} bytes, in all ${all.reduce((n, e) => n + e.transferSize, 0)} bytes, ${document.querySelectorAll(\"*\").length} elements`"+`; })()`))
}

// violations are what axe finds on the page.
func (b *browser) violations() []string {
	b.t.Helper()
	if !eval[bool](b, `typeof window.axe === "object"`) {
		axe, err := os.ReadFile(filepath.Join("testdata", "axe", "axe.min.js"))
		if err != nil {
			b.t.Fatal(err)
		}
		eval[bool](b, string(axe)+"\n;true")
	}
	return eval[[]string](b, `axe.run(document, {resultTypes: ["violations"]}).then((r) => r.violations.map((v) => v.id + ": " + v.help + ": " + v.nodes.slice(0, 3).map((n) => n.html.slice(0, 200) + " " + n.failureSummary).join("; ")))`)
}

// screenshot keeps what the browser shows, where that is asked for.
func (b *browser) screenshot(name string) {
	b.t.Helper()
	dir := os.Getenv(screens)
	if dir == "" {
		return
	}
	shot, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "dashboard-"+name+".png"), shot, 0o644)
	}
	if err != nil {
		b.t.Error(err)
	}
}
