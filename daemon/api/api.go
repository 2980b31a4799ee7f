// Package api is the daemon's REST interface: the routes of the contract and
// what was added to them, server-sent events, and the OpenAPI 3.1 description
// made from the same types.
//
// It decides nothing about jobs; that is package jobs'. What it adds is the
// outside of an HTTP service: bodies are bounded and decoded strictly, every
// error is JSON in the shape of RFC 9457 with the contract's "error" and
// "timestamp" and echoes no value of the request, panics become a 500, and web
// pages are kept from a daemon on loopback by checks of Host and Origin.
//
// Who asks is found out by package access, and what they may do stands in one
// table, leastRole. Every change of state is in the audit log before it is made.
package api

import (
	"context"
	"log/slog"
	"net/http"
	"reflect"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/audit"
	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/limits"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/daemon/rates"
	"github.com/hyper2kvm/hyper2kvm/daemon/watch"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/job/jobfile"
)

// DefaultMaxBody bounds a request's body, in bytes: the largest job file fits,
// and one byte more is refused.
const DefaultMaxBody = jobfile.MaxSize + 1

// inventoryTimeout bounds what is asked of a vCenter within a request.
const inventoryTimeout = 2 * time.Minute

// Inventory answers what only a vCenter knows. Its errors are shown to the
// caller, so they must hold no secret; [ErrUnknownVCenter] and
// [ErrNoInventory] become 404, anything else 502.
type Inventory interface {
	// VMs lists every VM of the vCenter that the configuration has under that
	// name; "" is the default one. seen is told how many have come so far, where
	// it is not nil; that may go down when the vCenter has to be asked anew.
	VMs(ctx context.Context, vcenter string, seen func(vms int)) ([]models.VM, error)
	// Check runs preflight on a validated job. Findings are no error.
	Check(ctx context.Context, def job.Definition) (models.CheckResult, error)
}

// Bandwidth is the limit of all jobs together, in bytes per second, where 0 is
// no limit.
type Bandwidth interface {
	Limit() int64
	SetLimit(bytesPerSecond int64)
}

// Shares are limits that hold for all daemons on the store together: a *limits.Keeper.
type Shares interface {
	// Limit is as that of [Bandwidth].
	Limit() int64
	SetLimit(ctx context.Context, bytesPerSecond int64) error
	// Holdings are what each daemon has of every limit now.
	Holdings(ctx context.Context) ([]limits.Holding, error)
}

// Options of an [API]. The zero value works.
type Options struct {
	Version   string       // shown by /status and in the OpenAPI description
	Logger    *slog.Logger // nil discards
	Inventory Inventory    // nil answers 501 to what needs one
	Bandwidth Bandwidth    // nil answers 501 to /limits
	Shares    Shares       // comes before Bandwidth; nil where no other daemon uses the store

	// Access finds out who asks. With nil, whoever is on this machine is the
	// administrator, and nobody else is let in.
	Access   *access.Authenticator
	Sessions *access.Sessions // of browsers, for mounted pages; nil is none
	Audit    *audit.Log       // nil keeps no audit log
	Ready    Readiness        // nil looks at the store alone
	Metrics  http.Handler     // answers /metrics; nil answers 501
	Observer Observer         // counts requests; nil is nobody
	Rates    rates.Store      // nil answers 501 to /rates
	Pace     *access.Pace     // how often each caller may ask; nil is without bound

	// DefaultVCenter is the name of the vCenter of jobs that name none; empty
	// leaves it to the runner.
	DefaultVCenter string

	// KnownHost reports whether a host, without port, is one under which clients may
	// ask for the daemon, beside the names of loopback. Nil knows no other.
	KnownHost func(host string) bool

	// ParallelDownloads is for submitted jobs that do not say; 0 leaves it to
	// package job.
	ParallelDownloads int

	MaxBody   int64         // bytes, 0 means DefaultMaxBody
	KeepAlive time.Duration // between comments on a quiet event stream, 0 means 15 s
}

// API is an http.Handler that serves the REST interface. Make it with [New].
type API struct {
	o       Options
	log     *slog.Logger
	access  *access.Authenticator
	jobs    *jobs.Manager
	mux     *http.ServeMux
	csrf    *http.CrossOriginProtection
	started time.Time
	queries chan struct{} // holds a token for each long answer on its way

	stopOnce sync.Once
	stopping chan struct{} // closed by StopStreams
}

var _ http.Handler = (*API)(nil)

// New returns the API over the jobs of m.
func New(m *jobs.Manager, o Options) *API {
	if o.MaxBody <= 0 {
		o.MaxBody = DefaultMaxBody
	}
	if o.KeepAlive <= 0 {
		o.KeepAlive = 15 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Ready == nil {
		o.Ready = &watch.Readiness{Jobs: m}
	}
	if o.Observer == nil {
		o.Observer = unobserved{}
	}
	if o.Version == "" {
		o.Version = "unknown"
	}
	if o.Access == nil {
		o.Access = access.New(access.Options{Logger: o.Logger})
	}
	a := &API{
		o:        o,
		log:      slog.New(requestHandler{o.Logger.Handler()}),
		access:   o.Access,
		jobs:     m,
		mux:      http.NewServeMux(),
		csrf:     http.NewCrossOriginProtection(),
		started:  time.Now(),
		queries:  make(chan struct{}, maxQueries),
		stopping: make(chan struct{}),
	}
	a.register(humago.New(guardedMux{a.mux, a}, a.config()))
	return a
}

// StopStreams cuts the event streams off, now and from now on, so that an
// http.Server can shut down; watchers come back to the next daemon. That of
// [API.Server] calls it.
func (a *API) StopStreams() { a.stopOnce.Do(func() { close(a.stopping) }) }

// now is the time for an answer's timestamp.
func (a *API) now() time.Time { return time.Now().UTC() }

func (a *API) config() huma.Config {
	const prefix = "#/components/schemas/"
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title:   "hyper2kvm",
				Version: a.o.Version,
				Description: "Exports virtual machines from vSphere to KVM. Sizes are bytes, times RFC 3339. " +
					"Every error is an RFC 9457 problem that also has `error` and `timestamp`.",
			},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry(prefix, schemaName),
			},
		},
		OpenAPIPath:   "/openapi",
		Formats:       map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat: "application/json",
		Transformers:  []huma.Transformer{a.asProblem},
	}
}

// schemaName is what a schema is called: the name of its Go type, but for those that
// have had another since before the type was called so, because programs are
// generated from the description.
func schemaName(t reflect.Type, hint string) string {
	if t.PkgPath() == reflect.TypeFor[audit.Entry]().PkgPath() {
		return "Audit" + t.Name() // there is another Job
	}
	switch huma.DefaultSchemaNamer(t, hint) {
	case "Definition":
		return "JobDefinition"
	case "Options":
		return "JobOptions"
	case "DaemonStatus":
		return "Status"
	}
	return huma.DefaultSchemaNamer(t, hint)
}

// Endpoint is one route, for people.
type Endpoint struct{ Method, Path, Summary string }

// Endpoints lists the routes as the daemon shows them at its start.
func Endpoints() []Endpoint {
	return []Endpoint{
		{"GET", "/health", "Is the daemon well"},
		{"GET", "/health/ready", "Can it do its work"},
		{"GET", "/metrics", "Metrics for Prometheus"},
		{"GET", "/status", "Version, uptime, job counts"},
		{"POST", "/jobs/submit", "Submit one job or a batch, JSON or YAML"},
		{"POST", "/jobs/query", "List jobs by id or status"},
		{"POST", "/jobs/check", "Run preflight on a job"},
		{"POST", "/jobs/cancel", "Cancel jobs"},
		{"GET", "/jobs/{id}", "One job"},
		{"GET", "/jobs/{id}/events", "Follow a job (server-sent events)"},
		{"POST", "/jobs/{id}/retry", "Queue a failed or cancelled job again"},
		{"POST", "/jobs/{id}/rollback", "Go back to the source of a job that has ended"},
		{"POST", "/jobs/retry", "Queue failed or cancelled jobs again, by id or status"},
		{"POST", "/vcenters/{name}/resume", "Try a vCenter again that jobs wait for"},
		{"PUT", "/jobs/{id}/limit", "Change a job's bandwidth, also while it runs"},
		{"DELETE", "/jobs/{id}", "Forget a finished job"},
		{"GET", "/limits", "Bandwidth of all jobs together"},
		{"PUT", "/limits", "Change the bandwidth of all jobs together"},
		{"GET", "/rates", "How fast bytes came, over time"},
		{"GET", "/daemons", "The daemons on the store, and what each runs"},
		{"POST", "/daemons/{id}/drain", "Have a daemon run no more jobs"},
		{"POST", "/daemons/{id}/resume", "Have a daemon run jobs again"},
		{"GET", "/vms", "VMs of a vCenter"},
		{"GET", "/audit", "Who changed what"},
		{"GET", "/openapi.yaml", "This interface as OpenAPI 3.1 (also .json)"},
	}
}
