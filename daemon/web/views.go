package web

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/units"
)

//go:embed templates/*.html
var templateFiles embed.FS

// views are the pages' templates by file name, each with layout.html and parts.html.
type views map[string]*template.Template

// loadViews parses all. A template that is wrong is a bug, and panics.
func loadViews(a assets) views {
	shared := template.Must(template.New("layout.html").Funcs(functions(a)).ParseFS(templateFiles, "templates/layout.html", "templates/parts.html"))
	entries, err := templateFiles.ReadDir("templates")
	if err != nil {
		panic(err) // they are embedded
	}
	all := make(views)
	for _, e := range entries {
		if name := e.Name(); name != "layout.html" && name != "parts.html" {
			all[name] = template.Must(template.Must(shared.Clone()).ParseFS(templateFiles, path.Join("templates", name)))
		}
	}
	return all
}

// functions are what templates can call beside what html/template has.
func functions(a assets) template.FuncMap {
	return template.FuncMap{
		"asset": a.url,
		"bytes": units.Bytes,
		"rate":  units.FormatRate,
		"full":  full,
		"words": func(s string) string { return strings.ReplaceAll(s, "_", " ") },
		"time":  func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
		"iso":   func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	}
}

// layout is what layout.html is given.
type layout struct {
	Title   string
	Who     access.Principal
	Session bool // that can be ended
	Menu    []menuItem
	Told    string // what the page before has done
	CSRF    string // mark of this browser's forms
	Version string
	Data    any // of the page
}

// menuItem is a line of the menu.
type menuItem struct {
	Path, Name string
	Here       bool
}

// layout returns what goes around a page.
func (c *call) layout(title string, data any) layout {
	l := layout{
		Title: title, Who: access.FromContext(c.r.Context()), Told: c.takeTold(),
		CSRF: c.o.Sessions.Mark(c.binding()), Version: c.o.Version, Data: data,
	}
	name, _ := api.SessionCookie(c.r)
	_, err := c.r.Cookie(name)
	l.Session = err == nil && l.Who.Role > access.Nobody
	for _, n := range c.nav {
		if n.needs == public || c.may(n.needs) {
			l.Menu = append(l.Menu, menuItem{n.Path, n.Name, n.Path == c.at})
		}
	}
	return l
}

// show answers with a page: the template's "content", which is given [layout].
func (c *call) show(view, title string, data any) error {
	return c.write(http.StatusOK, view, "layout", c.layout(title, data))
}

// fragment answers with a part of a page: the template defined under that name in view.
func (c *call) fragment(view, name string, data any) error {
	return c.write(http.StatusOK, view, name, data)
}

// write answers with a template, once all of it is made.
func (c *call) write(status int, view, name string, data any) error {
	page, err := c.views.render(view, name, data)
	if err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	c.w.WriteHeader(status)
	_, _ = c.w.Write(page) // an error is a client that has gone
	return nil
}

// render makes a template.
func (v views) render(view, name string, data any) ([]byte, error) {
	t, ok := v[view]
	if !ok {
		return nil, fmt.Errorf("there is no template %s", view)
	}
	var b bytes.Buffer
	if err := t.ExecuteTemplate(&b, name, data); err != nil {
		return nil, fmt.Errorf("template %s: %w", view, err)
	}
	return b.Bytes(), nil
}
