package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

const (
	benchRunning = 8                // jobs that move bytes while pages are open
	benchWindow  = 30 * time.Second // of a measurement: 60 updates of a page that is alive
)

// listener is an open page: what its stream has sent.
type listener struct {
	parts atomic.Int64 // fragments
	bytes atomic.Int64
	first chan struct{} // closed when one has come
	ended chan error    // how its stream ended
}

// listen opens the stream of a page, on a connection of its own as a browser has it.
func listen(ctx context.Context, addr, page string) *listener {
	l := &listener{first: make(chan struct{}), ended: make(chan error, 1)}
	go func() { l.ended <- l.run(ctx, "http://"+addr+page) }()
	return l
}

func (l *listener) run(ctx context.Context, url string) error {
	told := sync.OnceFunc(func() { close(l.first) })
	defer told()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	for r := bufio.NewReader(resp.Body); ; {
		line, err := r.ReadSlice('\n')
		l.bytes.Add(int64(len(line)))
		if strings.HasPrefix(string(line[:min(len(line), 11)]), "event: part") {
			l.parts.Add(1)
			told()
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}

// usage is what a daemon has used.
type usage struct {
	at         time.Time
	cpu        float64 // seconds
	rss        int64   // bytes, now
	statements float64 // operations of the store
}

// usage looks at the process and its metrics.
func (p *process) usage(b *testing.B) usage {
	b.Helper()
	proc := func(name string) string {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.cmd.Process.Pid, name))
		if err != nil {
			b.Fatal(err)
		}
		return string(text)
	}
	u := usage{at: time.Now()}
	stat := proc("stat")
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	for _, ticks := range fields[11:13] { // user, system
		n, _ := strconv.ParseFloat(ticks, 64) // the kernel writes numbers
		u.cpu += n / 100
	}
	pages, _ := strconv.ParseInt(strings.Fields(proc("statm"))[1], 10, 64)
	u.rss = pages * int64(os.Getpagesize())
	resp, err := http.Get("http://" + p.addr + "/metrics")
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "hyper2kvm_store_operation_duration_seconds_count") {
			n, _ := strconv.ParseFloat(strings.Fields(line)[1], 64) // the daemon writes numbers
			u.statements += n
		}
	}
	return u
}

// BenchmarkDashboard measures what open pages cost a daemon that moves eight disks and
// has 10,000 jobs behind it: CPU time, operations of its store, memory and what it sends,
// for half a minute, which is 60 updates. The clients are not in it.
func BenchmarkDashboard(b *testing.B) {
	disk := rawDisk(b, 256*mib, 192*mib, 7)
	cfg := vspheretest.Config{Hosts: 2, Rate: 256 << 10} // twelve minutes
	for i := range benchRunning {
		cfg.VMs = append(cfg.VMs, vspheretest.VM{Name: fmt.Sprint("vm", i), Host: i % 2, Disks: []vspheretest.Disk{{Path: disk}}})
	}
	h := newHome(b, startLab(b, cfg), "-jobs", strconv.Itoa(benchRunning))
	state := filepath.Join(h.dir, "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		b.Fatal(err)
	}
	fill(b, filepath.Join(state, "jobs.db"), 0)
	d := h.start()
	var ids []string
	for i := range benchRunning {
		r, err := d.Submit(b.Context(), []job.Definition{{VMPath: fmt.Sprint("vm", i), VCenter: "lab", OutputPath: h.out(fmt.Sprint(i)), Options: job.Options{Format: job.FormatRaw}}}, true)
		if err != nil {
			b.Fatal(err)
		}
		ids = append(ids, r.JobIDs...)
	}
	for _, id := range ids {
		for e, err := range d.Watch(b.Context(), id) {
			if err != nil {
				b.Fatal(err)
			}
			if e.Progress != nil && e.Progress.BytesDownloaded > 0 {
				break
			}
		}
	}
	overview := func(int) string { return "/ui/live/overview" }
	for _, c := range []struct {
		name  string
		pages int
		page  func(int) string
	}{
		{"none", 0, nil},
		{"overview-1", 1, overview},
		{"overview-100", 100, overview},
		{"jobs-100", 100, func(int) string { return "/ui/live/jobs" }},
		{"mixed-100", 100, func(i int) string {
			return []string{"/ui/live/overview", "/ui/live/jobs", "/ui/live/jobs?status=running", "/ui/live/jobs/" + ids[i%len(ids)]}[i/8%4]
		}},
		{"running-job-100", 100, func(i int) string { return "/ui/live/jobs/" + ids[i%len(ids)] }},
		{"ended-jobs-100", 100, func(i int) string { return fmt.Sprintf("/ui/live/jobs/finished-%06d", i) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				open(b, d, c.pages, c.page)
			}
			b.ReportMetric(0, "ns/op") // it lasts as long as it is meant to
		})
	}
}

// open has pages open for as long as the measurement lasts, and reports what they cost.
func open(b *testing.B, d *process, pages int, page func(int) string) {
	b.Helper()
	ctx, leave := context.WithCancel(b.Context())
	defer leave()
	all := make([]*listener, pages)
	for i := range all {
		all[i] = listen(ctx, d.addr, page(i))
	}
	for _, l := range all {
		<-l.first
		if l.parts.Load() == 0 {
			b.Fatal(<-l.ended)
		}
	}
	sent := func() (parts, bytes int64) {
		for _, l := range all {
			parts, bytes = parts+l.parts.Load(), bytes+l.bytes.Load()
		}
		return parts, bytes
	}
	parts, bytes := sent()
	from := d.usage(b)
	clock := time.NewTimer(benchWindow)
	defer clock.Stop()
	<-clock.C
	to := d.usage(b)
	partsNow, bytesNow := sent()
	b.ReportMetric(to.cpu-from.cpu, "cpu-s")
	b.ReportMetric(to.statements-from.statements, "statements")
	b.ReportMetric(float64(to.rss)/mib, "rss-MiB")
	b.ReportMetric(float64(partsNow-parts), "fragments")
	b.ReportMetric(float64(bytesNow-bytes)/1e6, "sent-MB")
	leave()
	for _, l := range all {
		if err := <-l.ended; !errors.Is(err, context.Canceled) {
			b.Error(err)
		}
	}
}
