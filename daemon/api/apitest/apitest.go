// Package apitest runs a daemon inside a test: the real API and manager over
// an in-memory store, with runs that the test steers instead of exports. The
// product never imports it.
package apitest

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/audit"
	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/memory"
	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
)

// Daemon is a running daemon without its process.
type Daemon struct {
	URL    string
	API    *api.API
	Jobs   *jobs.Manager
	Runner *Runner
	// Throttle knows what bandwidth running jobs were given.
	Throttle *Throttle

	log *lockedBuffer
}

// Log returns what the daemon has logged so far, as JSON lines.
func (d *Daemon) Log() string { return d.log.String() }

// Start runs a daemon until the test ends. Version is 1.2.3 unless o says
// otherwise. Runs report progress every 10 ms, so that tests need not wait.
func Start(t testing.TB, o api.Options) *Daemon {
	t.Helper()
	return StartOn(t, memory.New(), o)
}

// StartOn is [Start] with a store of the test's own. Without o.Audit, the audit log
// is kept in memory.
func StartOn(t testing.TB, store jobs.Store, o api.Options) *Daemon {
	t.Helper()
	log := &lockedBuffer{}
	o.Logger = slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if o.Version == "" {
		o.Version = "1.2.3"
	}
	if o.Audit == nil {
		o.Audit = audit.New(&memory.Audit{}, "", o.Logger)
	}
	d := &Daemon{Runner: newRunner(), Throttle: &Throttle{limits: map[string]int64{}}, log: log}
	d.Jobs = jobs.New(store, d.Runner, jobs.Options{
		MaxJobs: 4, Sealer: xorSealer{}, Logger: o.Logger, Throttle: d.Throttle, VCenters: d.Runner,
		Sample: 10 * time.Millisecond, Poll: 20 * time.Millisecond,
	})
	d.API = api.New(d.Jobs, o)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Jobs.Run(ctx) }()
	srv := httptest.NewUnstartedServer(d.API)
	srv.Listener = api.Listener(srv.Listener)
	srv.Config = d.API.Server()
	srv.Start()
	d.URL = srv.URL
	t.Cleanup(func() {
		d.API.StopStreams()
		srv.Close()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("manager: %v", err)
		}
	})
	return d
}

// Runner is a jobs.Runner without vSphere. What becomes of a run depends on
// the last element of its VM's path: ok… completes, fail… fails for good, locked…
// completes once a login was forgiven that is refused before, and anything else
// runs until the test gives a verdict. It answers for its vCenters too.
type Runner struct {
	// Started gets the VM path of each run as it begins.
	Started chan string

	mu       sync.Mutex
	verdicts map[string]chan error
	forgiven bool
}

func newRunner() *Runner {
	return &Runner{Started: make(chan string, 10_000), verdicts: map[string]chan error{}}
}

// Verdict is where a test ends the run of the VM with this path: nil for a
// success, or the error it fails with.
func (r *Runner) Verdict(vm string) chan<- error { return r.verdict(vm) }

func (r *Runner) verdict(vm string) chan error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.verdicts[vm] == nil {
		r.verdicts[vm] = make(chan error, 1)
	}
	return r.verdicts[vm]
}

// Probe implements [jobs.VCenters].
func (r *Runner) Probe(_ context.Context, def job.Definition) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if strings.HasPrefix(path.Base(def.VMPath), "locked") && !r.forgiven {
		return &jobs.Unavailable{State: jobs.LoginRefused, Err: errors.New("login refused")}
	}
	return nil
}

// Forgive implements [jobs.VCenters].
func (r *Runner) Forgive(def job.Definition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgiven = r.forgiven || def.VCenter == ""
}

// CleanUp implements [jobs.Runner].
func (r *Runner) CleanUp(context.Context, job.Definition, bool, *progress.Tracker) (job.Result, error) {
	return job.Result{}, nil
}

// Run implements [jobs.Runner].
func (r *Runner) Run(ctx context.Context, def job.Definition, t *progress.Tracker) (job.Result, error) {
	t.SetPhase(progress.Connecting)
	if err := r.Probe(ctx, def); err != nil {
		return job.Result{}, err
	}
	t.SetPhase(progress.Exporting)
	f := t.AddFile("disk-0.vmdk", 1000)
	f.SetState(progress.Active)
	f.AddReceived(100)
	f.SetPosition(420)
	t.Event(progress.Warning, "disk-0.vmdk", "one retry")
	r.Started <- def.VMPath
	verdict := r.verdict(def.VMPath)
	switch name := path.Base(def.VMPath); {
	case strings.HasPrefix(name, "ok"), strings.HasPrefix(name, "locked"):
		verdict <- nil
	case strings.HasPrefix(name, "fail"):
		verdict <- errors.New("no space left in the output directory")
	}
	select {
	case <-ctx.Done():
		return job.Result{}, context.Cause(ctx)
	case err := <-verdict:
		if err != nil {
			return job.Result{}, fault.Permanent(err)
		}
	}
	f.SetPosition(1000)
	f.SetState(progress.Complete)
	return job.Result{VMName: "vm", OutputDir: def.OutputPath, Success: true, TotalSize: 1000, Duration: 1500 * time.Millisecond}, nil
}

// Throttle is a jobs.Throttle that remembers.
type Throttle struct {
	mu     sync.Mutex
	limits map[string]int64
}

// Set implements [jobs.Throttle].
func (t *Throttle) Set(id string, bytesPerSecond int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.limits[id] = bytesPerSecond
}

// Of returns what was last set for a job, in bytes per second.
func (t *Throttle) Of(id string) (bytesPerSecond int64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	bytesPerSecond, ok = t.limits[id]
	return bytesPerSecond, ok
}

// xorSealer seals without a key: enough to see whether it was called.
type xorSealer struct{}

func (xorSealer) Seal(b []byte) ([]byte, error) {
	out := make([]byte, len(b))
	for i := range b {
		out[i] = b[i] ^ 0x5a
	}
	return out, nil
}

func (s xorSealer) Open(b []byte) ([]byte, error) { return s.Seal(b) }

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
