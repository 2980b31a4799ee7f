package probe

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/panics"
	"github.com/hyper2kvm/hyper2kvm/probe/findings"
	"github.com/hyper2kvm/hyper2kvm/transfer"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// at is how many streams are measured at a time.
var at = []int{1, 2, 4, 8}

// rates measures each channel that serves.
func (p *run) rates(ctx context.Context) {
	limit := p.o.Limit + time.Duration(len(at))*(p.o.Limit+p.o.Measure)
	if p.folder != nil {
		p.within(ctx, "rate of the datastore", limit, p.folderRates)
	}
	if p.r.Port902.Opened == findings.Yes {
		p.within(ctx, "rate of port 902", limit, p.rates902)
	}
	if p.r.Lease.Opened == findings.Yes {
		p.within(ctx, "rate of the lease", limit, p.leaseRates)
	}
}

func (p *run) folderRates(ctx context.Context) error {
	source, done, err := p.folderSource()
	if err != nil {
		return err
	}
	defer done()
	packed := p.folder.list.Source(source, p.large.Capacity)
	for _, n := range at {
		p.measured(ctx, p.measure(ctx, findings.ByFolder, n, parts(packed, p.folder.list.Total(), n)))
	}
	return ctx.Err()
}

func (p *run) rates902(ctx context.Context) error {
	for _, n := range at {
		disk, err := p.open902(ctx, n, tries)
		if err != nil {
			return err
		}
		allowed, err := p.connections(ctx, disk, n)
		if err != nil {
			disk.Close()
			return err
		}
		found := p.areas902(ctx, disk)
		r := p.measure(ctx, findings.By902, n, parts(found.list.Source(disk, p.large.Capacity), found.list.Total(), n))
		if r.Served > 0 {
			r.Served = min(n, allowed)
		}
		disk.Close()
		p.measured(ctx, r)
	}
	return ctx.Err()
}

// leaseRates reads the streams of the VM's disks, and the same ones again where there
// are fewer disks than streams: to the host each is one more.
func (p *run) leaseRates(ctx context.Context) error {
	return p.withLease(ctx, func(ctx context.Context, l *vsphere.Lease) error {
		var sources []transfer.Source
		for _, item := range l.Items() {
			if item.Disk && (p.r.Lease.SecondDisk == findings.Served || item.DiskKey == p.large.Key) {
				sources = append(sources, l.Source(item))
			}
		}
		if len(sources) == 0 {
			return nil
		}
		for _, n := range at {
			p.measured(ctx, p.measure(ctx, findings.ByLease, n, func(ctx context.Context, i int) (io.ReadCloser, error) {
				return sources[i%len(sources)].Open(ctx, 0, -1)
			}))
		}
		return ctx.Err()
	})
}

// measured notes a rate. One that was interrupted says nothing.
func (p *run) measured(ctx context.Context, r findings.Rate) {
	if ctx.Err() == nil {
		p.r.Rates = append(p.r.Rates, r)
	}
}

// opener opens the i-th of several streams.
type opener func(ctx context.Context, i int) (io.ReadCloser, error)

// parts divides size bytes of a source among n streams.
func parts(s transfer.Source, size int64, n int) opener {
	return func(ctx context.Context, i int) (io.ReadCloser, error) {
		part := max(size/int64(n), 1)
		return s.Open(ctx, int64(i)*part%size, part)
	}
}

// measure reads n streams at a time, from when the last of them has brought something
// for as long as a measurement lasts, and no more than it may read. A stream that ends
// before that is opened again.
func (p *run) measure(ctx context.Context, channel findings.Answer, n int, open opener) findings.Rate {
	limited, cancel := context.WithTimeout(ctx, p.o.Limit)
	defer cancel()
	m := &meter{each: max(p.o.Bytes/int64(n), 1)}
	m.begun.Add(n)
	var streams sync.WaitGroup
	for i := range n {
		streams.Go(func() { _ = panics.Catch(func() error { m.read(limited, i, open); return nil }) })
	}
	m.begun.Wait()
	timer := time.AfterFunc(p.o.Measure, cancel)
	defer timer.Stop()
	streams.Wait()
	took := max(time.Since(m.first), time.Millisecond)
	total := m.total.Load()
	return findings.Rate{
		Channel: channel, Streams: n, Served: int(m.served.Load()), Bytes: total,
		PerSec: int64(float64(total) / took.Seconds()),
	}
}

// meter counts what several streams bring.
type meter struct {
	each   int64 // bytes that a stream may bring
	total  atomic.Int64
	served atomic.Int64 // streams that have brought something

	begun sync.WaitGroup // streams that have brought nothing yet, and may
	once  sync.Once
	first time.Time // when something came
}

// again is how often a stream is opened: a short disk must not become a flood of requests.
const again = 20

// read reads the i-th stream until ctx ends.
func (m *meter) read(ctx context.Context, i int, open opener) {
	s := stream{m: m, buf: make([]byte, 256<<10), left: m.each}
	s.settle = sync.OnceFunc(m.begun.Done)
	defer s.settle()
	for range again {
		body, err := openPatiently(ctx, func() (io.ReadCloser, error) { return open(ctx, i) })
		if err != nil {
			return
		}
		n := s.drain(body)
		_ = body.Close() // what came has been counted
		if n == 0 || s.left <= 0 || ctx.Err() != nil {
			return
		}
	}
}

// stream is one of those that a meter reads.
type stream struct {
	m      *meter
	buf    []byte
	left   int64
	some   bool // has come
	settle func()
}

// drain reads to the end of a body, or of what may come, and returns how much it was.
func (s *stream) drain(body io.Reader) (n int64) {
	for s.left > 0 {
		k, err := body.Read(s.buf)
		n += int64(k)
		s.left -= int64(k)
		s.m.total.Add(int64(k))
		if k > 0 && !s.some {
			s.some = true
			s.m.once.Do(func() { s.m.first = time.Now() })
			s.m.served.Add(1)
			s.settle()
		}
		if err != nil {
			break
		}
	}
	return n
}
