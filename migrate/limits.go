package migrate

import (
	"cmp"
	"context"
	"sync"

	"golang.org/x/sync/semaphore"
)

// Defaults of [Limits]. An ESXi host serves about 50 disks and vCenter 52
// connections before requests fail (F-NFC-19); these stay well below.
const (
	DefaultDisksPerHost    = 16
	DefaultDisksPerVCenter = 32
)

// Places gives out places under limits, each by its name.
type Places interface {
	// Acquire waits for one of at most most places until ctx ends. Call release once.
	Acquire(ctx context.Context, name string, most int) (release func(), err error)
	// TryAcquire is Acquire without waiting: ok tells whether there was a place.
	TryAcquire(name string, most int) (release func(), ok bool)
}

// Limits bounds how many disks move at once through each ESXi host and each
// vCenter, over every run that shares it. A second connection of a disk over port 902
// counts as another disk. The zero value uses the defaults.
type Limits struct {
	DisksPerHost    int // 0 means DefaultDisksPerHost
	DisksPerVCenter int // 0 means DefaultDisksPerVCenter

	// Places are those of several processes together; nil is this process alone.
	Places Places
	// Moving is told of each disk that has its places, until end is called; nil is
	// nobody.
	Moving func() (end func())

	own places
}

// Acquire waits until a disk may move through both vCenter and host, or until
// ctx ends. Call the returned function once to give the places back.
func (l *Limits) Acquire(ctx context.Context, vcenter, host string) (release func(), err error) {
	name, most := l.host(vcenter, host)
	esxi, err := l.places().Acquire(ctx, name, most)
	if err != nil {
		return nil, err
	}
	name, most = l.center(vcenter)
	center, err := l.places().Acquire(ctx, name, most)
	if err != nil {
		esxi()
		return nil, err
	}
	return l.moving(esxi, center), nil
}

// TryAcquire is Acquire without waiting: ok tells whether there was a place.
func (l *Limits) TryAcquire(vcenter, host string) (release func(), ok bool) {
	name, most := l.host(vcenter, host)
	esxi, ok := l.places().TryAcquire(name, most)
	if !ok {
		return nil, false
	}
	name, most = l.center(vcenter)
	center, ok := l.places().TryAcquire(name, most)
	if !ok {
		esxi()
		return nil, false
	}
	return l.moving(esxi, center), true
}

func (l *Limits) places() Places {
	if l.Places != nil {
		return l.Places
	}
	return &l.own
}

func (l *Limits) moving(esxi, center func()) (release func()) {
	end := func() {}
	if l.Moving != nil {
		end = l.Moving()
	}
	return sync.OnceFunc(func() {
		end()
		center()
		esxi()
	})
}

// How the names of limits begin that a [Places] gets.
const (
	DisksOfHost    = "disks of host "
	DisksOfVCenter = "disks of vCenter "
)

// host is the limit of an ESXi host.
func (l *Limits) host(vcenter, host string) (name string, most int) {
	return DisksOfHost + host + " at " + vcenter, cmp.Or(max(0, l.DisksPerHost), DefaultDisksPerHost)
}

// center is the limit of a vCenter.
func (l *Limits) center(vcenter string) (name string, most int) {
	return DisksOfVCenter + vcenter, cmp.Or(max(0, l.DisksPerVCenter), DefaultDisksPerVCenter)
}

// places are those of one process. The zero value works.
type places struct {
	mu    sync.Mutex
	gates map[string]*semaphore.Weighted
}

func (p *places) Acquire(ctx context.Context, name string, most int) (release func(), err error) {
	g := p.gate(name, most)
	if err := g.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	return func() { g.Release(1) }, nil
}

func (p *places) TryAcquire(name string, most int) (release func(), ok bool) {
	g := p.gate(name, most)
	return func() { g.Release(1) }, g.TryAcquire(1)
}

func (p *places) gate(name string, most int) *semaphore.Weighted {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gates == nil {
		p.gates = make(map[string]*semaphore.Weighted)
	}
	g := p.gates[name]
	if g == nil {
		g = semaphore.NewWeighted(int64(most))
		p.gates[name] = g
	}
	return g
}
