// Package browsertest is Debian's Chromium, for tests of pages.
package browsertest

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// Patience bounds how long the browser may take for all that a test does, on a busy
// machine.
const Patience = 10 * time.Minute

// Options say what pages may do.
type Options struct {
	Own []string // what the addresses begin with that they may ask for
	// Passes reports whether an entry of the browser's log is no fault. Nil: each is one.
	Passes func(log.Entry) bool
}

// Browser is a Chromium with one tab, and what went on in it that should not.
type Browser struct {
	Ctx context.Context //nolint:containedctx // chromedp keeps the browser in it

	o     Options
	mu    sync.Mutex
	wrong []string
}

// Open starts the browser, with a profile of its own that goes with it. Without Chromium
// the test fails.
func Open(tb testing.TB, o Options) *Browser {
	tb.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(tb.Context(), Patience)
	tb.Cleanup(cancel)
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.WSURLReadTimeout(Patience),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"))
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	tb.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	tb.Cleanup(cancel)
	b := &Browser{Ctx: ctx, o: o}
	if err := chromedp.Listen(ctx, b.watch); err != nil {
		tb.Fatal(err)
	}
	return b
}

// watch notes requests to elsewhere, and what runs or complains.
func (b *Browser) watch(event any) {
	text := ""
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		u := e.Request.URL
		own := func(prefix string) bool { return strings.HasPrefix(u, prefix) }
		if u != "about:blank" && !slices.ContainsFunc(b.o.Own, own) {
			text = "request for " + u
		}
	case *runtime.EventConsoleAPICalled:
		text = fmt.Sprintf("console: %s", e.Type)
	case *runtime.EventExceptionThrown:
		text = "exception: " + e.ExceptionDetails.Text
	case *log.EventEntryAdded:
		if b.o.Passes == nil || !b.o.Passes(*e.Entry) {
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

// Wrong returns what has gone on that should not, and forgets it.
func (b *Browser) Wrong() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	wrong := b.wrong
	b.wrong = nil
	return wrong
}
