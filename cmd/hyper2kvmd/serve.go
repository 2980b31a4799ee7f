package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/config"
	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/limits"
	"github.com/hyper2kvm/hyper2kvm/daemon/listen"
	"github.com/hyper2kvm/hyper2kvm/daemon/rates"
	"github.com/hyper2kvm/hyper2kvm/daemon/secret"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/sealer"
	"github.com/hyper2kvm/hyper2kvm/daemon/watch"
	"github.com/hyper2kvm/hyper2kvm/daemon/web"
	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
	"github.com/hyper2kvm/hyper2kvm/internal/terminal"
	"github.com/hyper2kvm/hyper2kvm/internal/version"
	"github.com/hyper2kvm/hyper2kvm/transfer"
)

// shutdownTimeout bounds how long requests may go on after a signal. Runs have
// a bound of their own in package jobs.
const shutdownTimeout = 15 * time.Second

// serve runs the daemon until ctx ends: store, manager, API, in that order,
// and down again in the other.
func serve(ctx context.Context, s settings, log *slog.Logger, p *terminal.Printer) (err error) {
	if err := hideMemory(s.getenv); err != nil {
		log.Warn("passwords may end up in a core dump", "error", err)
	}
	v := vcenters{config: s.config, getenv: s.getenv, logins: newLogins(), secrets: newSecrets(s.config, s.getenv, log), log: log}
	warnings, err := v.check(ctx)
	if err != nil {
		return cliargs.UsageError{Err: err}
	}
	for _, w := range warnings {
		log.Warn(w)
	}
	set, err := openListeners(ctx, s.listen, log)
	if err != nil {
		return err
	}
	defer set.Close() // the server has closed what it served
	reload := reloadOnHangup(set, log, p.ErrTTY)
	state, err := s.openState(ctx, v.secrets, log)
	if err != nil {
		return err
	}
	store := state.store
	defer func() { err = errors.Join(err, store.Close()) }()

	who, err := newAccess(ctx, s, store.Tokens(), v.secrets, log)
	if err != nil {
		return err
	}
	if err := wantAuthentication(ctx, set, who); err != nil {
		return err
	}
	auditLog := s.auditLog(store, log)
	ended, err := auditStart(ctx, auditLog, log)
	if err != nil {
		return err
	}
	defer func() { ended(err) }()

	exposed := set.Exposed() != "" || len(s.listen.AllowedHosts) > 0
	if v.policy, err = s.policy(ctx, v, who, exposed, log); err != nil {
		return err
	}
	bandwidth := transfer.NewLimiter(s.limit, nil)
	owner := uuid.NewString()
	hold, heartbeat := s.claims()
	shared := s.sharing(state, limits.Options{Owner: owner, Hold: hold, Every: heartbeat, Logger: log}, bandwidth)
	defer keepSharing(ctx, shared)()
	if shared != nil {
		v.logins.shared = &sharedLogins{turns: shared, refusals: store, log: log,
			hash: func(text string) [][]byte { return state.keys.Hashes("passwords that vCenters refused", text) }}
	}
	r := newRunner(v, bandwidth, shared)
	watched, err := newWatching(ctx, s, v, log)
	if err != nil {
		return cliargs.UsageError{Err: err}
	}
	recorder := rates.NewRecorder(store.Rates(), log)
	o := jobs.Options{
		Owner: owner, Hold: hold, Heartbeat: heartbeat,
		MaxJobs: s.jobs, PerVCenter: jobsPerVCenter(s), Sealer: state.keys, Logger: log, Throttle: r.migrator.JobLimits,
		Admit: v.policy.Admit, VCenters: r, MaxDeaths: int(s.config.Daemon.MaxDeaths),
		Secrets: store, KeepPasswords: s.keepPasswords(), Observer: jobs.Observers{watched.metrics, recorder},
		MaxQueued: cmp.Or(int(s.config.Limits.QueuedJobs), config.DefaultQueuedJobs), Room: watched.floor,
		Pruner: store, Daemons: store, Daemon: state.self, Notices: state.notices(), Retention: s.retention(), Forgetting: forgetting(auditLog),
	}
	if shared != nil {
		o.Limits, o.Outages = shared, store
	}
	manager := jobs.New(watched.metrics.Store(store), r, o)
	if err := manager.Enter(ctx); err != nil {
		return fmt.Errorf("the daemon cannot be entered in the store: %w", err)
	}
	watched.ready.Certificates = func() []watch.Certificate { return certificates(set) }
	watched.over(manager, shared)
	sessions := access.NewSessions(who, access.SessionOptions{})
	options := api.Options{
		Version: version.String(), Logger: log, ParallelDownloads: s.parallel,
		DefaultVCenter: v.config.DefaultVCenter(),
		KnownHost:      set.KnownHost,
		Inventory:      inventory{vcenters: v, engine: r.engine}, Bandwidth: bandwidth,
		Access: who, Sessions: sessions, Audit: auditLog,
		Pace:  access.NewPace(cmp.Or(int(s.config.Limits.Requests), config.DefaultRequests)),
		Ready: watched.ready, Metrics: watched.metrics, Observer: watched.metrics, Rates: store.Rates(),
	}
	if shared != nil {
		options.Shares = shared
	}
	handler := api.New(manager, options)
	if s.config.Dashboard.On() {
		site := web.New(web.Options{API: handler, Sessions: sessions, Audit: auditLog, Logger: log, Version: version.String(),
			VCenters: watched.ready.VCenters, Output: watched.output(), Space: watched.ready.Space, Address: s.config.Access.OIDC.PublicURL()})
		defer site.Close()
		handler.Mount(site)
	}
	log.Info("hyper2kvmd is listening", "addr", mainAddr(set), "urls", set.URLs(), "version", version.String(),
		"database", state.name, "new", store.New(), "jobs", countsText(state.known), "vcenters", v.names())
	if store.New() {
		log.Info("the database is new: there was none, or an empty one", "database", state.name)
	}
	banner(p, set.URLs())
	return supervise(ctx, set, handler, manager, log, reload, watched.run, watched.floor.Run, recorder.Run, func(ctx context.Context) error {
		state.keys.Watch(ctx, keyEvery, manager.Reseal)
		return nil
	})
}

// keyEvery is how often it is looked whether the key is a new one.
const keyEvery = 5 * time.Second

// state is what the daemon keeps on disk.
type state struct {
	keys  *sealer.Keyring // of the passwords in jobs
	store store
	name  string      // of the store
	known jobs.Counts // at the start
	self  jobs.Member // this daemon, among those on the store
}

// openState opens it, and makes what is not there yet. The store is to be closed.
func (s settings) openState(ctx context.Context, secrets *secret.Reader, log *slog.Logger) (st state, err error) {
	if err := s.makeStateDir(); err != nil {
		return st, err
	}
	keys, newKey, err := s.keyring(log)
	if err != nil {
		return st, cliargs.UsageError{Err: err}
	}
	if st.self, err = s.identity(); err != nil {
		return st, err
	}
	store, name, err := s.openStore(ctx, secrets, log)
	if err != nil {
		return st, err
	}
	if err = tellOfKey(ctx, newKey, keys, store, log); err == nil {
		st.known, err = store.Counts(ctx)
	}
	if err != nil {
		return st, errors.Join(err, store.Close())
	}
	st.keys, st.store, st.name = keys, store, name
	return st, nil
}

// notices is how daemons on the same store tell each other; nil where there is one only.
func (st state) notices() jobs.Notices {
	n, _ := st.store.(jobs.Notices)
	return n
}

// countsText is how the log counts jobs.
func countsText(c jobs.Counts) string {
	return fmt.Sprintf("%d pending, %d running, %d completed, %d failed, %d cancelled",
		c.Pending, c.Running, c.Completed, c.Failed, c.Cancelled)
}

// jobsPerVCenter are the configured limits of jobs at once, by the key under
// which the manager counts.
func jobsPerVCenter(s settings) map[string]int {
	limits := make(map[string]int)
	for name, c := range s.config.VCenters {
		limits[name] = int(c.Limits.Jobs)
	}
	if name := s.config.DefaultVCenter(); name != "" {
		limits[""] = limits[name]
	}
	return limits
}

// supervise runs manager, server, watchdog, and what else there is beside them as a
// group: when one fails, or ctx ends, all end.
func supervise(ctx context.Context, set *listen.Set, handler *api.API, manager *jobs.Manager, log *slog.Logger, beside ...func(context.Context) error) error {
	server := handler.Server()
	set.Attach(server)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return manager.Run(ctx) })
	for _, l := range set.Listeners() {
		group.Go(func() error {
			if err := server.Serve(api.Listener(l)); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serve %s: %w", l.URL(), err)
			}
			return nil
		})
	}
	group.Go(func() error {
		<-ctx.Done()
		notify(log, sd.SdNotifyStopping)
		log.Info("stopping: running jobs are handed back and go on at the next start")
		down, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		if err := server.Shutdown(down); err != nil {
			log.Warn("requests were cut off", "error", err)
			return server.Close()
		}
		return nil
	})
	group.Go(func() error { return manager.WatchStore(ctx) })
	group.Go(func() error { return watchdog(ctx, manager, log) })
	notify(log, sd.SdNotifyReady)
	for _, run := range beside { // what they tell systemd comes after that
		group.Go(func() error { return run(ctx) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	log.Info("stopped")
	return nil
}

// watchdog tells systemd twice per WatchdogSec that the daemon lives, which
// it does when the store answers.
func watchdog(ctx context.Context, manager *jobs.Manager, log *slog.Logger) error {
	interval, err := sd.SdWatchdogEnabled(false)
	if err != nil {
		return fmt.Errorf("watchdog: %w", err)
	}
	if interval == 0 {
		return nil
	}
	tick := time.NewTicker(interval / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		check, cancel := context.WithTimeout(ctx, interval/2)
		_, err := manager.Stats(check)
		cancel()
		if err != nil {
			log.Error("the store does not answer; the watchdog is not told", "error", err)
			continue
		}
		notify(log, sd.SdNotifyWatchdog)
	}
}

// notify speaks to systemd, if it is there.
func notify(log *slog.Logger, state string) {
	if _, err := sd.SdNotify(false, state); err != nil {
		log.Warn("notify systemd", "error", err)
	}
}

// banner shows people where to go. Into a pipe or journal goes nothing.
func banner(p *terminal.Printer, urls []string) {
	if !p.TTY {
		return
	}
	p.Heading("hyper2kvmd " + version.String())
	rows := [][]string{{"Method", "Path", "What"}}
	for _, e := range api.Endpoints() {
		rows = append(rows, []string{e.Method, e.Path, e.Summary})
	}
	_ = p.Table(rows, true) // a terminal that is gone is no reason to stop
	for _, u := range urls {
		p.Success("Listening on %s", u)
	}
}
