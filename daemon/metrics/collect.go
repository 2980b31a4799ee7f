package metrics

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/limits"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/daemon/watch"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
)

// verifications are the ways in which disks are verified.
var verifications = []job.Verification{job.ByManifest, job.ByEndOfStream, job.ByGrains, job.BySize, job.BySecondRead}

// Jobs is what is asked at a scrape: a *jobs.Manager.
type Jobs interface {
	Stats(ctx context.Context) (jobs.Counts, error)
	Running() []jobs.Activity
	VCenters(ctx context.Context) ([]jobs.VCenter, error)
	Daemons(ctx context.Context) (all []jobs.Daemon, self string, err error)
	StoreTroubles() (n int, since time.Time)
}

// Shares is what this daemon has of limits that several share: a *limits.Keeper.
type Shares interface {
	Uses() []limits.Use
	Limit() int64
	Part() int64
}

// Sources are asked at each scrape. Those that are nil are left out.
type Sources struct {
	Jobs         Jobs
	VCenters     []string     // names in the configuration, "" for that of jobs that name none; others count as "other"
	Space        *watch.Space // of the file systems that exports go to
	Certificates func() []watch.Certificate
	Shares       Shares
	ShareKinds   []ShareKind // of the limits that are told of
}

// ShareKind are the limits of Shares whose names begin alike. They are counted together:
// the names have hosts and users in them, which are not bounded.
type ShareKind struct{ Begins, Label string }

// Watch adds what is asked at each scrape. It is to be called once.
func (m *Metrics) Watch(s Sources) {
	m.registry.MustRegister(&collector{Sources: s, metrics: m})
}

// phases are those that a run may be in.
var phases = []progress.Phase{
	progress.Pending, progress.Connecting, progress.Discovering, progress.Preparing,
	progress.Exporting, progress.Verifying, progress.Describing, progress.Converting, progress.Landing, progress.Finishing, progress.RollingBack, progress.Done,
}

// states of a vCenter, the first when it can be used.
var states = []string{"usable", string(jobs.Unreachable), string(jobs.Misconfigured), string(jobs.LoginRefused)}

// Labels of vCenters without a name in the configuration.
const (
	unnamed = "default" // that of jobs that name none
	other   = "other"   // all that jobs bring along
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(namespace+"_"+name, help, labels, nil)
}

var (
	jobsDesc     = desc("jobs", "Jobs in the store, by status.", "status")
	runningDesc  = desc("running_jobs", "Runs of this daemon, by the phase they are in.", "phase")
	stateDesc    = desc("vcenter_state", "1 for the state that the vCenter is in, 0 for the others.", "vcenter", "state")
	waitingDesc  = desc("vcenter_waiting_jobs", "Pending jobs that wait for a vCenter that cannot be used.", "vcenter")
	unusableDesc = desc("vcenters_unusable", "vCenters that cannot be used now, and whose jobs wait; those that jobs bring along are counted, too.")
	daemonsDesc  = desc("daemons", "Daemons on the store, by state; the same at each of them.", "state")
	troublesDesc = desc("store_outages_total", "Times that the job store could not be used any more.")
	outageDesc   = desc("store_outage_seconds", "For how long the job store has not been usable; 0 when it is.")
	usedDesc     = desc("shared_limit_used", "Places that this daemon uses of limits that hold for all daemons on the store.", "limit")
	queuedDesc   = desc("shared_limit_waiting", "What waits at this daemon for a place of limits that hold for all daemons on the store.", "limit")
	rateDesc     = desc("shared_bandwidth_limit_bytes_per_second", "Bandwidth of all daemons of the site together; 0 is no limit.")
	partDesc     = desc("shared_bandwidth_part_bytes_per_second", "What this daemon may move of the bandwidth of all; 0 where there is no limit, or nothing to move.")
	upDesc       = desc("store_up", "1 when the job store answered this scrape.")
	freeDesc     = desc("filesystem_free_bytes", "What the daemon may still write on the file system of a directory that exports go to.", "path")
	sizeDesc     = desc("filesystem_size_bytes", "Size of the file system of a directory that exports go to.", "path")
	readableDesc = desc("filesystem_up", "1 when the file system of a directory that exports go to answers.", "path")
	expiryDesc   = desc("certificate_not_after_timestamp_seconds", "When a certificate of the daemon expires, in seconds since 1970.", "name")
)

// collector asks the sources.
type collector struct {
	Sources
	metrics *Metrics
}

// Describe implements [prometheus.Collector].
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		jobsDesc, runningDesc, stateDesc, waitingDesc, upDesc, freeDesc, sizeDesc, readableDesc, expiryDesc,
		unusableDesc, daemonsDesc, troublesDesc, outageDesc, usedDesc, queuedDesc, rateDesc, partDesc,
	} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	send := func(d *prometheus.Desc, value float64, labels ...string) {
		for i, l := range labels {
			labels[i] = strings.ToValidUTF8(l, "\ufffd") // paths may be anything
		}
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	if c.Jobs != nil {
		c.collectJobs(ctx, send)
		c.collectVCenters(ctx, send)
		c.collectDaemons(ctx, send)
		n, since := c.Jobs.StoreTroubles()
		ch <- prometheus.MustNewConstMetric(troublesDesc, prometheus.CounterValue, float64(n))
		seconds := 0.0
		if !since.IsZero() {
			seconds = time.Since(since).Seconds()
		}
		send(outageDesc, seconds)
	}
	if c.Shares != nil {
		c.collectShares(send)
	}
	if c.Space != nil {
		for _, v := range c.Space.Look(ctx) {
			send(readableDesc, truth(v.Err == nil), v.Path)
			if v.Err == nil {
				send(freeDesc, float64(v.Free), v.Path)
				send(sizeDesc, float64(v.Size), v.Path)
			}
		}
	}
	if c.Certificates != nil {
		for _, cert := range c.Certificates() {
			send(expiryDesc, float64(cert.NotAfter.UnixMilli())/1000, cert.Name)
		}
	}
}

type sender func(d *prometheus.Desc, value float64, labels ...string)

func (c *collector) collectJobs(ctx context.Context, send sender) {
	counts, err := c.Jobs.Stats(ctx)
	send(upDesc, truth(err == nil))
	if err == nil { // else there is no number: 0 jobs would be a lie
		for _, s := range []models.Status{
			models.StatusPending, models.StatusRunning, models.StatusCompleted, models.StatusFailed, models.StatusCancelled,
		} {
			send(jobsDesc, float64(counts.Of(s)), string(s))
		}
	}
	running := make(map[string]int)
	for _, a := range c.Jobs.Running() {
		running[a.Phase]++
	}
	for _, p := range phases {
		send(runningDesc, float64(running[string(p)]), string(p))
	}
}

func (c *collector) collectVCenters(ctx context.Context, send sender) {
	away, err := c.Jobs.VCenters(ctx)
	if err != nil {
		return
	}
	send(unusableDesc, float64(len(away)))
	labels := map[string]string{"\x00": other} // a key that is no name
	for _, name := range c.VCenters {
		labels[name] = cmp.Or(name, unnamed)
	}
	state, waiting := make(map[string]string), make(map[string]int)
	for _, v := range away {
		label := cmp.Or(labels[v.Name], other) // the last one's state stands for all others
		state[label] = string(v.State)
		waiting[label] += v.Waiting
	}
	// A name may be that of one of the labels, too: they are one series then.
	for _, label := range slices.Compact(slices.Sorted(maps.Values(labels))) {
		is := cmp.Or(state[label], states[0])
		for _, s := range states {
			send(stateDesc, truth(s == is), label, s)
		}
		send(waitingDesc, float64(waiting[label]), label)
	}
}

// collectDaemons counts them as GET /daemons does.
func (c *collector) collectDaemons(ctx context.Context, send sender) {
	all, _, err := c.Jobs.Daemons(ctx)
	if err != nil {
		return
	}
	n := map[models.DaemonState]int{models.DaemonActive: 0, models.DaemonDraining: 0, models.DaemonDrained: 0, models.DaemonDead: 0}
	for _, d := range all {
		n[d.State()]++
	}
	for state, count := range n {
		send(daemonsDesc, float64(count), string(state))
	}
}

func (c *collector) collectShares(send sender) {
	used, waiting := make(map[string]int), make(map[string]int)
	for _, u := range c.Shares.Uses() {
		for _, k := range c.ShareKinds {
			if strings.HasPrefix(u.Name, k.Begins) {
				used[k.Label] += u.Used
				waiting[k.Label] += u.Waiting
			}
		}
	}
	for _, k := range c.ShareKinds {
		send(usedDesc, float64(used[k.Label]), k.Label)
		send(queuedDesc, float64(waiting[k.Label]), k.Label)
	}
	send(rateDesc, float64(c.Shares.Limit()))
	send(partDesc, float64(c.Shares.Part()))
}

func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
