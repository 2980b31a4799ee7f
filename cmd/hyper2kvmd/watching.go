package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/limits"
	"github.com/hyper2kvm/hyper2kvm/daemon/listen"
	"github.com/hyper2kvm/hyper2kvm/daemon/metrics"
	"github.com/hyper2kvm/hyper2kvm/daemon/watch"
	"github.com/hyper2kvm/hyper2kvm/internal/version"
	"github.com/hyper2kvm/hyper2kvm/migrate"
)

// watching is what counts what the daemon does, and knows whether it can do it.
type watching struct {
	metrics *metrics.Metrics
	ready   *watch.Readiness
	floor   *watch.Floor
	outputs []string // where images may go to
	log     *slog.Logger
	local   net.Listener // of metrics.addr; nil for none
}

// newWatching returns what watches over a daemon with these settings.
func newWatching(ctx context.Context, s settings, v vcenters, log *slog.Logger) (*watching, error) {
	state := filepath.Dir(s.db)
	outputs := s.config.OutputRoots
	if outputs == nil {
		outputs = []string{filepath.Join(state, imagesDir)}
	}
	names := v.config.Names()
	if v.config.DefaultVCenter() == "" && v.getenv("GOVC_URL") != "" {
		names = append(names, "") // the one of jobs that name none
	}
	w := &watching{outputs: outputs, log: log, metrics: metrics.New(version.String(), log), ready: &watch.Readiness{
		VCenters: names, Space: watch.NewSpace(append([]string{state}, outputs...)...), StateDir: state, MinFree: s.minFree(),
	}}
	w.floor = watch.NewFloor(w.ready.Space, state, w.ready.MinFree, log)
	if s.config.Metrics.Addr == "" {
		return w, nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", s.config.Metrics.Addr)
	if err != nil {
		return nil, fmt.Errorf("metrics.addr: %w", err)
	}
	if !listen.IsLoopback(l.Addr()) {
		return nil, errors.Join(fmt.Errorf("metrics.addr: %s is not loopback, and has no access control", s.config.Metrics.Addr), l.Close())
	}
	w.local = l
	log.Info("metrics are served", "addr", l.Addr().String())
	return w, nil
}

// output is the directory that a form for images begins with; "" where none is allowed.
func (w *watching) output() string {
	if len(w.outputs) == 0 {
		return ""
	}
	return w.outputs[0]
}

// over makes the manager's jobs what is watched, and what this daemon has of limits that
// several share; nil where there is one only.
func (w *watching) over(m *jobs.Manager, shared *limits.Keeper) {
	w.ready.Jobs = m
	s := metrics.Sources{Jobs: m, VCenters: w.ready.VCenters, Space: w.ready.Space, Certificates: w.ready.Certificates}
	if shared != nil {
		s.Shares = shared
		s.ShareKinds = []metrics.ShareKind{
			{Begins: migrate.DisksOfVCenter, Label: "vcenter_disks"}, {Begins: migrate.DisksOfHost, Label: "host_disks"}, {Begins: loginsOf, Label: "logins"},
		}
	}
	w.metrics.Watch(s)
}

// run tells systemd how the daemon is, and answers on metrics.addr, until ctx ends.
func (w *watching) run(ctx context.Context) error {
	if w.local == nil {
		return w.ready.Announce(ctx, w.status)
	}
	server := &http.Server{Handler: loopbackOnly(w.metrics), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		WriteTimeout: time.Minute, ErrorLog: slog.NewLogLogger(w.log.Handler(), slog.LevelWarn)}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() }) // a scrape that is cut off is repeated
	defer stop()
	told := make(chan error, 1)
	go func() { told <- w.ready.Announce(ctx, w.status) }()
	err := server.Serve(w.local)
	if errors.Is(err, http.ErrServerClosed) {
		return <-told
	}
	return fmt.Errorf("serve metrics: %w", err)
}

func (w *watching) status(text string) { notify(w.log, "STATUS="+text) }

// loopbackOnly answers GET /metrics, and keeps web pages from reading it under a
// name of their own that they have pointed here.
func loopbackOnly(h http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			http.Error(w, "the Host header does not name this machine: use localhost", http.StatusMisdirectedRequest)
			return
		}
		h.ServeHTTP(w, r)
	})
	return mux
}
