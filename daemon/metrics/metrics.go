// Package metrics counts for Prometheus what the daemon does: jobs, transfers,
// leases, verification, vCenters, requests, the store, and disk space.
//
// What happens is told by those who know: [Metrics] is a jobs.Observer and an
// api.Observer, and [Metrics.Store] wraps a store. What is, is asked at each scrape.
// Nothing is counted per byte, and nothing is kept in a global registry.
//
// Labels are bounded: vCenters have the names of the configuration, all others are
// "other"; routes are patterns; causes come from a small set. docs/monitoring.md
// lists every metric.
package metrics

import (
	"log/slog"
	"net/http"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/progress"
)

// namespace is the prefix of all names.
const namespace = "hyper2kvm"

// scrapeTimeout bounds what a scrape asks the store.
const scrapeTimeout = 5 * time.Second

// Metrics is everything that is counted. Make it with [New].
type Metrics struct {
	registry *prometheus.Registry
	handler  http.Handler
	log      *slog.Logger

	claims     *prometheus.CounterVec
	runs       *prometheus.CounterVec
	runTime    *prometheus.HistogramVec
	queueWait  prometheus.Histogram
	received   *prometheus.CounterVec
	written    *prometheus.CounterVec
	output     prometheus.Counter
	retries    *prometheus.CounterVec
	leases     prometheus.Counter
	renewals   *prometheus.CounterVec
	lost       prometheus.Counter
	verified   *prometheus.CounterVec
	mismatches prometheus.Counter
	requests   *prometheus.HistogramVec
	inFlight   prometheus.Gauge
	storeTime  *prometheus.HistogramVec
	storeFails *prometheus.CounterVec
}

// New returns metrics of a daemon of that version. What is only known later is
// added by [Metrics.Watch]. A nil log discards.
func New(version string, log *slog.Logger) *Metrics {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	m := &Metrics{registry: prometheus.NewRegistry(), log: log}
	m.makeJobs()
	m.makeTransfers()
	m.makeService()
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: namespace, Name: "build_info", Help: "1, with the version of the daemon and of Go as labels.",
	}, []string{"version", "goversion"})
	info.WithLabelValues(version, runtime.Version()).Set(1)
	// The process collector has it from the machine's /proc, which the unit hides.
	started := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: namespace, Name: "start_time_seconds", Help: "When the daemon started, in seconds since 1970.",
	})
	started.SetToCurrentTime()
	m.registry.MustRegister(info, started, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.handler = promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn), ErrorHandling: promhttp.ContinueOnError,
		MaxRequestsInFlight: 4, Timeout: 2 * scrapeTimeout,
	})
	return m
}

// ServeHTTP answers a scrape.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) { m.handler.ServeHTTP(w, r) }

func (m *Metrics) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help})
	m.registry.MustRegister(c)
	return c
}

func (m *Metrics) counters(name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
	m.registry.MustRegister(c)
	return c
}

func (m *Metrics) histograms(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets}, labels)
	m.registry.MustRegister(h)
	return h
}

// Outcomes of runs.
const (
	outcomeRetried    = "retried"     // failed, and is tried again
	outcomeHandedBack = "handed_back" // ended without fault: a shutdown, or a vCenter that is away
)

func (m *Metrics) makeJobs() {
	m.claims = m.counters("claims_total", "Claims of jobs; after=\"death\" took a job over from a daemon that died while it ran it.", "after")
	for _, after := range []string{"queue", "death"} {
		m.claims.WithLabelValues(after)
	}
	m.runs = m.counters("runs_total", "Runs of jobs that have ended, by what became of the job.", "outcome")
	m.runTime = m.histograms("run_duration_seconds", "How long runs of jobs took.",
		[]float64{1, 10, 60, 300, 900, 1800, 3600, 7200, 14400, 28800, 86400}, "outcome")
	for _, outcome := range []string{
		string(models.StatusCompleted), string(models.StatusFailed), string(models.StatusCancelled), outcomeRetried, outcomeHandedBack,
	} {
		m.runs.WithLabelValues(outcome)
		m.runTime.WithLabelValues(outcome)
	}
	m.queueWait = prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: namespace, Name: "queue_wait_seconds", Help: "For how long jobs waited from their submission to their first claim.",
		Buckets: []float64{0.1, 1, 10, 60, 300, 900, 3600, 14400, 43200, 86400, 259200},
	})
	m.registry.MustRegister(m.queueWait)
	m.verified = m.counters("disks_verified_total", "Disks of completed jobs, by what vouches for them.", "by")
	for _, by := range verifications {
		m.verified.WithLabelValues(string(by))
	}
	m.mismatches = m.counter("disk_mismatches_total", "Disks that were not what was sent, and were fetched again or given up.")
	m.output = m.counter("output_bytes_total", "Bytes of the files of completed jobs, as ls shows them.")
}

func (m *Metrics) makeTransfers() {
	m.received = m.counters("received_bytes_total", "Bytes off the wire, those fetched again included, by the route that they came.", "route")
	m.written = m.counters("written_bytes_total", "Bytes that disks took of their file system when they were whole, by the route that they came.", "route")
	m.retries = m.counters("transfer_retries_total", "Attempts after the first at a disk or a part of it.", "route", "cause")
	for _, route := range progress.Routes() {
		m.received.WithLabelValues(route.String())
		m.written.WithLabelValues(route.String())
		m.retries.WithLabelValues(route.String(), "other")
	}
	m.leases = m.counter("leases_opened_total", "Export leases that were opened.")
	m.renewals = m.counters("lease_renewals_total", "Renewals of export leases.", "result")
	for _, result := range []string{"ok", "failed"} {
		m.renewals.WithLabelValues(result)
	}
	m.lost = m.counter("leases_lost_total", "Export leases that ended before the download did.")
}

func (m *Metrics) makeService() {
	m.requests = m.histograms("http_request_duration_seconds", "How long requests of the API took; that of watchers is for how long they watched.",
		[]float64{0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30, 120}, "method", "route", "code")
	m.inFlight = prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: namespace, Name: "http_requests_in_flight", Help: "Requests of the API that are being answered.",
	})
	m.registry.MustRegister(m.inFlight)
	m.storeTime = m.histograms("store_operation_duration_seconds", "How long operations of the job store took.",
		[]float64{0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10}, "operation")
	m.storeFails = m.counters("store_errors_total", "Operations of the job store that failed, by what is wrong with it.", "trouble")
	for _, t := range troubles {
		m.storeFails.WithLabelValues(t)
	}
}

// Claimed implements [jobs.Observer].
func (m *Metrics) Claimed(c jobs.Claimed, queued time.Duration) {
	after := "queue"
	if c.Deaths > 0 {
		after = "death"
	}
	m.claims.WithLabelValues(after).Inc()
	if queued >= 0 {
		m.queueWait.Observe(queued.Seconds())
	}
}

// Counted implements [jobs.Observer].
func (m *Metrics) Counted(t progress.Tally) {
	for route, n := range t.Received {
		m.received.WithLabelValues(route.String()).Add(float64(n))
	}
	for route, n := range t.Written {
		m.written.WithLabelValues(route.String()).Add(float64(n))
	}
	for r, n := range t.Retries {
		m.retries.WithLabelValues(r.Route.String(), r.Cause).Add(float64(n))
	}
	for count, n := range t.Counts {
		if c := m.ofRun(count); c != nil {
			c.Add(float64(n))
		}
	}
}

// ofRun is the counter of something that runs count.
func (m *Metrics) ofRun(c progress.Count) prometheus.Counter {
	switch c {
	case progress.LeasesOpened:
		return m.leases
	case progress.LeaseRenewals:
		return m.renewals.WithLabelValues("ok")
	case progress.LeaseRenewalFailures:
		return m.renewals.WithLabelValues("failed")
	case progress.LeasesLost:
		return m.lost
	case progress.Mismatches:
		return m.mismatches
	}
	return nil
}

// Finished implements [jobs.Observer].
func (m *Metrics) Finished(o jobs.Outcome, took time.Duration) {
	outcome := string(o.Status)
	switch {
	case o.Status.Final():
	case o.Failed:
		outcome = outcomeRetried
	default:
		outcome = outcomeHandedBack
	}
	m.runs.WithLabelValues(outcome).Inc()
	m.runTime.WithLabelValues(outcome).Observe(took.Seconds())
	if o.Result == nil || o.Status != models.StatusCompleted {
		return
	}
	m.output.Add(float64(max(0, o.Result.TotalSize)))
	for _, d := range o.Result.Disks {
		by := string(d.Verified)
		if !d.Verified.Known() {
			by = "other"
		}
		m.verified.WithLabelValues(by).Inc()
	}
}

// Begin implements api.Observer.
func (m *Metrics) Begin() (end func(method, route string, status int, took time.Duration)) {
	m.inFlight.Inc()
	return func(method, route string, status int, took time.Duration) {
		m.inFlight.Dec()
		m.requests.WithLabelValues(methodLabel(method), route, strconv.Itoa(status)).Observe(took.Seconds())
	}
}

// methodLabel bounds what clients can make of a label.
func methodLabel(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions, http.MethodPatch:
		return method
	}
	return "other"
}
