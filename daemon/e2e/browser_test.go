package e2e

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/chromedp"

	"github.com/hyper2kvm/hyper2kvm/internal/browsertest"
)

// screens is the variable that names a directory for what the browser shows.
const screens = "HYPER2KVM_SCREENS"

// browser is a Chromium at the pages of a daemon.
type browser struct {
	*browsertest.Browser
	t    *testing.T
	base string // of the daemon
}

func openBrowser(t *testing.T, base string) *browser {
	t.Helper()
	b := &browser{t: t, base: base, Browser: browsertest.Open(t, browsertest.Options{
		Own: []string{base, "data:"},
		Passes: func(e log.Entry) bool { // an answer with such a status is looked at
			return e.Level == "verbose" || strings.Contains(e.Text, "the server responded with a status of 4")
		},
	})}
	b.do(chromedp.EmulateViewport(1280, 800))
	return b
}

// quiet wants nothing wrong to have gone on.
func (b *browser) quiet() {
	b.t.Helper()
	for _, w := range b.Wrong() {
		b.t.Error(w)
	}
}

func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.Ctx, steps...); err != nil {
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
	ctx, cancel := context.WithTimeout(b.Ctx, browsertest.Patience/2)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
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
	ctx, cancel := context.WithTimeout(b.Ctx, browsertest.Patience/2)
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
		_, err := chromedp.Call(b.Ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
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
	shot, err := chromedp.Run(b.Ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "dashboard-"+name+".png"), shot, 0o644)
	}
	if err != nil {
		b.t.Error(err)
	}
}
