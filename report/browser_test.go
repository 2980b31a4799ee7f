package report_test

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/hyper2kvm/hyper2kvm/internal/browsertest"
	"github.com/hyper2kvm/hyper2kvm/report"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// seen is what a page looks like.
type seen struct {
	Title, Text              string
	Rows, Scripts, Colours   int
	Width, Beyond, Hidden    int // of the window; of the page beyond it; cells whose text is cut off
	ScrollsInside            bool
	LastRowTop, WindowHeight float64
	StateRight               float64 // where the second column ends

	wrong []string // what went on
}

const look = `(() => {
  const cells = [...document.querySelectorAll("td, th")];
  const scroll = document.querySelector(".scroll");
  document.querySelector("tbody tr:last-child").scrollIntoView({inline: "start"});
  return {
    Title: document.title, Text: document.body.innerText,
    Rows: document.querySelectorAll("tbody tr").length,
    Scripts: document.querySelectorAll("script, iframe, object, embed, img, link, a[href]").length,
    Colours: new Set(cells.map(c => getComputedStyle(c).color)).size,
    Width: innerWidth, Beyond: document.documentElement.scrollWidth - innerWidth,
    Hidden: cells.filter(c => c.scrollWidth > c.clientWidth + 1).length,
    ScrollsInside: scroll.scrollWidth > scroll.clientWidth,
    LastRowTop: document.querySelector("tbody tr:last-child").getBoundingClientRect().top, WindowHeight: innerHeight,
    StateRight: document.querySelector("tbody tr td").getBoundingClientRect().right,
  };
})()`

// show opens a page as a person does, at a width, and returns what is seen.
func show(t *testing.T, b *browsertest.Browser, html string, width int64) seen {
	t.Helper()
	path := filepath.Join(t.TempDir(), "report of <all> #1.html")
	if err := os.WriteFile(path, []byte(html), 0o600); err != nil {
		t.Fatal(err)
	}
	address := (&url.URL{Scheme: "file", Path: path}).String()
	if err := chromedp.Do(b.Ctx, chromedp.EmulateViewport(width, 800), chromedp.Navigate(address)); err != nil {
		t.Fatal(err)
	}
	s, err := chromedp.Run(b.Ctx, chromedp.Evaluate[seen](look))
	if err != nil {
		t.Fatal(err)
	}
	s.wrong = b.Wrong()
	return s
}

func TestABrowserShowsTheReportsAndRunsNothingOfThem(t *testing.T) {
	t.Parallel()
	readiness := hostile()
	readiness.VMs[1].State, readiness.VMs[2].State = report.NeedsShutdown, report.NotExportable
	readiness.VMs = append(readiness.VMs,
		report.Judged{Name: `"><img src=http://198.51.100.1/x onerror=alert(1)>`, Path: "</td></tr></table><script>alert(2)</script>", Guest: "&lt;b&gt;", State: "ready\"><script>alert(3)</script>"},
		report.Judged{Name: strings.Repeat("long-", 30), Path: "/DC0/vm/" + strings.Repeat("longer", 30), State: report.NotExportable, VTPM: true, RDM: true,
			Obstacles: []vsphere.Obstacle{{Severity: vsphere.SeverityError, Text: "the VM has a virtual TPM", Hint: "javascript:alert(4)"}}})
	run := report.Run{Total: 2, Failed: 1, Done: 1, VMs: []report.VM{
		{Name: "<script>alert(5)</script>", Path: "/DC0/vm/<b>", Outcome: "failed", Error: "no </table> <img src=x onerror=alert(6)>", Hint: "again"},
		{Name: "plain", Outcome: "done"},
	}}
	b := browsertest.Open(t, browsertest.Options{Own: []string{"file://"}})
	if bad := show(t, b, `<title>bad</title><div class="scroll"><table><tr><td>x</table></div><img src="http://198.51.100.1/x"><script>console.log(1)</script>`, 800).wrong; len(bad) < 2 {
		t.Fatalf("of a page that loads and runs things, %q is noticed", bad)
	}
	for _, p := range []struct {
		name  string
		write func(*strings.Builder) error
		rows  int
		texts []string
	}{
		{"readiness", func(w *strings.Builder) error { return readiness.HTML(w) }, len(readiness.VMs), []string{
			"<script>alert(1)</script>", `"><img src=http://198.51.100.1/x onerror=alert(1)>`, "&lt;b&gt;", "=HYPERLINK", "the VM has a virtual TPM", "javascript:alert(4)", "vTPM\nRDM", "plain",
		}},
		{"run", func(w *strings.Builder) error { return run.HTML(w) }, 2, []string{"<script>alert(5)</script>", "no </table> <img", "Next: again", "1 of 2 VMs done"}},
	} {
		var html strings.Builder
		if err := p.write(&html); err != nil {
			t.Fatal(err)
		}
		for _, width := range []int64{1280, 360} {
			s := show(t, b, html.String(), width)
			for _, w := range s.wrong {
				t.Errorf("%s at %d pixels: %s", p.name, width, w)
			}
			if s.Rows != p.rows || s.Scripts != 0 || s.Title == "" || s.Colours < 2 {
				t.Errorf("%s at %d pixels: %d rows, %d things that load or lead elsewhere, title %q, %d colours", p.name, width, s.Rows, s.Scripts, s.Title, s.Colours)
			}
			for _, text := range p.texts {
				if !strings.Contains(s.Text, text) {
					t.Errorf("%s at %d pixels does not show %q:\n%s", p.name, width, text, s.Text)
				}
			}
			if int64(s.Width) != width || s.Beyond > 0 || s.Hidden > 0 {
				t.Errorf("%s at %d pixels: the window has %d, the page %d more, and %d cells are cut off", p.name, width, s.Width, s.Beyond, s.Hidden)
			}
			if width == 360 && (!s.ScrollsInside || s.StateRight > 360) {
				t.Errorf("%s: at 360 pixels the table scrolls by itself: %t, and the second column ends at %g", p.name, s.ScrollsInside, s.StateRight)
			}
			if s.LastRowTop < 0 || s.LastRowTop > s.WindowHeight {
				t.Errorf("%s at %d pixels: the last row cannot be reached", p.name, width)
			}
		}
	}
}
