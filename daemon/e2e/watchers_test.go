package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/client"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// manyWatchers is how many follow one job at a time.
const manyWatchers = 500

// follow lets n watchers follow a job. seen returns when each has had an event;
// ended when each has gone, and tells how many of them came to the job's end.
func follow(ctx context.Context, t testing.TB, d *process, id string, n int) (seen func(), ended func() int) {
	t.Helper()
	var first, all sync.WaitGroup
	var mu sync.Mutex
	finals := 0
	for range n {
		first.Add(1)
		all.Go(func() {
			c, err := client.New(d.BaseURL(), client.Options{}) // a connection each
			if err != nil {
				t.Error(err)
				first.Done()
				return
			}
			defer c.Close()
			told := sync.OnceFunc(first.Done)
			defer told()
			for e, err := range c.Watch(ctx, id) {
				if err != nil {
					if !errors.Is(err, context.Canceled) {
						t.Errorf("watch: %v", err)
					}
					return
				}
				told()
				if e.Status.Final() {
					mu.Lock()
					finals++
					mu.Unlock()
				}
			}
		})
	}
	return first.Wait, func() int {
		all.Wait()
		return finals
	}
}

// sockets counts a process's open files.
func sockets(t *testing.T, p *process) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	if err != nil {
		t.Fatalf("open files cannot be counted: %v", err)
	}
	return len(entries)
}

func TestManyWatchersSeeTheEndAndLeaveNothingInTheDaemon(t *testing.T) {
	t.Parallel()
	lab, _ := guest(t, vspheretest.Config{Faults: []string{"stall:at=1MiB,disk=1"}})
	reached := lab.ByteReached("guest", 1, mib)
	h := newHome(t, lab)
	h.env = append(h.env, "HYPER2KVM_DUMPABLE=1") // its /proc is looked into
	j := submit(t, lab, h, job.Options{Format: job.FormatRaw})
	j.at(t, reached)
	before := sockets(t, j.daemon)

	leaving, leave := context.WithCancel(t.Context())
	seen, left := follow(leaving, t, j.daemon, j.id, manyWatchers/2)
	stayed, ended := follow(t.Context(), t, j.daemon, j.id, manyWatchers/2)
	seen()
	stayed()
	if n := sockets(t, j.daemon); n < before+manyWatchers {
		t.Errorf("with %d watchers the daemon has %d open files, %d without", manyWatchers, n, before)
	}
	leave()
	if n := left(); n > 0 {
		t.Errorf("%d watchers that left saw the end of a job that runs", n)
	}
	began := time.Now()
	j.cancelled(t)
	t.Logf("cancelled in %v with %d watchers", time.Since(began).Round(time.Millisecond), manyWatchers/2)
	if n := ended(); n != manyWatchers/2 {
		t.Errorf("%d of %d watchers saw the job's end", n, manyWatchers/2)
	}
	for ; sockets(t, j.daemon) > before+10; pause() { // the test's time limit is the limit
		if _, err := j.daemon.Status(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// BenchmarkTransfer exports a VM of 1 GiB of noise as a raw image, with and
// without watchers. What is reported is the rate while the stream flows, the
// lab, the daemon and all watchers sharing the machine; compare within one run
// only.
func BenchmarkTransfer(b *testing.B) {
	const size = 1024 * mib
	lab := startLab(b, vspheretest.Config{VMs: []vspheretest.VM{{
		Name: "guest", Disks: []vspheretest.Disk{{Path: rawDisk(b, size, size, 7)}},
	}}})
	h := newHome(b, lab)
	d := h.start()
	jobs := 0
	for _, watchers := range []int{0, manyWatchers, 0, manyWatchers} {
		b.Run(fmt.Sprintf("watchers=%d", watchers), func(b *testing.B) {
			var flowing time.Duration
			for b.Loop() {
				jobs++
				def := job.Definition{
					ID: fmt.Sprint("job", jobs), VMPath: "guest", OutputPath: filepath.Join(h.out(""), fmt.Sprint(jobs)),
					Options: job.Options{Format: job.FormatRaw},
				}
				// The watchers come before the first byte: the job waits for them.
				reached, passed := make(chan struct{}), make(chan struct{})
				lab.OnByte("guest", 0, 64<<10, func() {
					close(reached)
					<-passed
				})
				whole := lab.ByteReached("guest", 0, lab.Stream("guest", 0).Size)
				if _, err := d.Submit(b.Context(), []job.Definition{def}, true); err != nil {
					b.Fatal(err)
				}
				<-reached
				seen, ended := follow(b.Context(), b, d, def.ID, watchers)
				seen()
				began := time.Now()
				close(passed)
				<-whole
				flowing += time.Since(began)
				for l := range d.lines {
					if l.Msg == "job released" && l.Job == def.ID {
						break
					}
				}
				ended()
				if err := os.RemoveAll(def.OutputPath); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(0, "ns/op") // it holds what is not measured
			b.ReportMetric(float64(b.N)*size/1e6/flowing.Seconds(), "MB/s")
		})
	}
}
