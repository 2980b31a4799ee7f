package report

import (
	_ "embed" // pages
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"

	"github.com/hyper2kvm/hyper2kvm/progress/display"
	"github.com/hyper2kvm/hyper2kvm/units"
)

//go:embed page.html
var pageText string

// pages are the templates. html/template escapes what it puts in for where it goes.
var pages = template.Must(template.New("page").Funcs(template.FuncMap{
	"bytes":    units.Bytes,
	"duration": display.Duration,
	"safe":     display.SafeText,
	"join":     func(names []string) string { return display.SafeText(strings.Join(names, ", ")) },
	"lines":    func(lines []string) string { return strings.Join(lines, "\n") },
	"when":     func(t time.Time) string { return t.Format("2006-01-02 15:04:05 MST") },
}).Parse(pageText))

// HTML writes the run as one page.
func (r Run) HTML(w io.Writer) error { return page(w, "run", r) }

func page(w io.Writer, name string, data any) error {
	if err := pages.ExecuteTemplate(w, name, data); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}
