// Package web is the dashboard: pages for people, below /ui/ of the daemon's address.
//
// It decides nothing. What a page shows and does goes through the operations of package
// api, which judge the role of who asks and write the audit log, as the routes of REST
// do. What it adds is HTML made at the server (html/template), sign-in, forms that no
// other site can send, and live fragments (see [Site.live]).
//
// # Adding a page
//
// Write a function such as overviewPages that returns pages, add it to [Site.pages], and
// put a template into templates/, which defines "content". A handler gets a *call: it
// returns c.show(template, title, data), c.fragment(template, data) for a part of a page,
// or c.back(path, text) after something was done. An error that it returns is shown; one
// of package api keeps its status and text. A form has {{template "csrf" $}} in it, and
// its handler is not reached without.
//
// # Scripts and styles
//
// The Content-Security-Policy allows neither inline scripts nor inline styles, and no
// eval: a style is a class of static/app.css, a width an attribute of an SVG or progress
// element, behaviour is static/app.js. Pages work without scripts; with them they are
// alive.
//
// # Not promised
//
// Sessions are in the daemon's memory: a restart signs everybody out, and several daemons
// behind one address need a balancer that keeps a browser at one of them.
package web

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/audit"
	"github.com/hyper2kvm/hyper2kvm/job/jobfile"
)

// Options of a [Site].
type Options struct {
	API      *api.API         // whose operations the pages use; it must have the same Sessions
	Sessions *access.Sessions // of browsers
	Audit    *audit.Log       // has sign-ins and sign-outs; nil keeps none
	Logger   *slog.Logger     // nil discards
	Space    Space            // shown in the overview; nil is nothing
	Version  string           // shown at the foot of pages
	VCenters []string         // names in the configuration; "" is that of jobs that name none
	Output   string           // directory for images that the form of a new job begins with
	Address  string           // URL of the dashboard's host for browsers; empty is that which one asks for
}

// Site is the dashboard, an http.Handler for [api.API.Mount]. Make it with [New].
type Site struct {
	o      Options
	api    *api.API
	log    *slog.Logger
	mux    *http.ServeMux
	nav    []navigation
	views  views
	assets assets
	lives  lives

	inventories inventories
	verdicts    verdicts
	condition   conditions

	ctx  context.Context // ends with Close
	stop context.CancelFunc
	busy sync.WaitGroup // what goes on after its request was answered
}

// navigation is a line of the menu.
type navigation struct {
	Path, Name string
	needs      string
}

// maxForm bounds a form, in bytes: as many VMs can be chosen as a job file can have.
const maxForm = jobfile.MaxSize

// New returns the dashboard.
func New(o Options) *Site {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Site{o: o, api: o.API, log: o.Logger, mux: http.NewServeMux(), assets: loadAssets()}
	s.views = loadViews(s.assets)
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.lives.feeds = make(map[feedKey]*feed)
	for _, p := range s.pages() {
		s.add(p)
	}
	s.mux.HandleFunc("GET "+api.PagesPath+"static/{hash}/{name}", s.assets.serve)
	s.mux.HandleFunc(api.PagesPath, func(w http.ResponseWriter, r *http.Request) {
		c := &call{Site: s, w: w, r: r}
		c.failed(problem{http.StatusNotFound, "There is no such page."})
	})
	return s
}

// Close ends what goes on beside requests, and waits for it.
func (s *Site) Close() {
	s.stop()
	s.busy.Wait()
}

// pages are all there are, in the order of the menu.
func (s *Site) pages() []page {
	return slices.Concat(
		s.overviewPages(),
		s.inventoryPages(),
		s.submitPages(),
		s.jobPages(),
		s.limitPages(),
		s.signInPages(),
	)
}

// page is one route.
type page struct {
	route string // METHOD and path below /ui/, as "GET jobs/{id}"
	// needs is the route of REST, as "POST /jobs/cancel", of which one must have the
	// role for this one; or public.
	needs string
	menu  string // its name in the menu; empty is none
	serve func(*call) error
}

// public is what a page needs that is for everybody.
const public = "nothing"

// add registers a page. It panics when the page does not say who may see it.
func (s *Site) add(p page) {
	if p.needs == "" {
		panic("web: the page " + p.route + " does not say what it needs")
	}
	method, path, _ := strings.Cut(p.route, " ")
	path = api.PagesPath + path
	if p.menu != "" {
		s.nav = append(s.nav, navigation{Path: path, Name: p.menu, needs: p.needs})
	}
	pattern := path
	if strings.HasSuffix(path, "/") {
		pattern += "{$}"
	}
	s.mux.HandleFunc(method+" "+pattern, func(w http.ResponseWriter, r *http.Request) {
		c := &call{Site: s, w: w, r: r, at: path}
		if c.admitted(p) {
			if err := p.serve(c); err != nil {
				c.failed(err)
			}
		}
	})
}

// policy is the Content-Security-Policy of every page.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// ServeHTTP implements [http.Handler].
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin") // without any, browsers send Origin: null with our own forms
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	s.mux.ServeHTTP(w, r)
}
