package migrate

import (
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

// Limits bounds how many disks move at once through each ESXi host and each
// vCenter, over every run that shares it. A second connection of a disk over port 902
// counts as another disk. The zero value uses the defaults.
type Limits struct {
	DisksPerHost    int // 0 means DefaultDisksPerHost
	DisksPerVCenter int // 0 means DefaultDisksPerVCenter

	mu    sync.Mutex
	gates map[string]*semaphore.Weighted
}

// Acquire waits until a disk may move through both vCenter and host, or until
// ctx ends. Call the returned function once to give the places back.
func (l *Limits) Acquire(ctx context.Context, vcenter, host string) (release func(), err error) {
	center := l.gate("vcenter "+vcenter, l.DisksPerVCenter, DefaultDisksPerVCenter)
	esxi := l.gate("host "+host, l.DisksPerHost, DefaultDisksPerHost)
	if err := esxi.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	if err := center.Acquire(ctx, 1); err != nil {
		esxi.Release(1)
		return nil, err
	}
	return sync.OnceFunc(func() {
		center.Release(1)
		esxi.Release(1)
	}), nil
}

// TryAcquire is Acquire without waiting: ok tells whether there was a place.
func (l *Limits) TryAcquire(vcenter, host string) (release func(), ok bool) {
	center := l.gate("vcenter "+vcenter, l.DisksPerVCenter, DefaultDisksPerVCenter)
	esxi := l.gate("host "+host, l.DisksPerHost, DefaultDisksPerHost)
	if !esxi.TryAcquire(1) {
		return nil, false
	}
	if !center.TryAcquire(1) {
		esxi.Release(1)
		return nil, false
	}
	return sync.OnceFunc(func() {
		center.Release(1)
		esxi.Release(1)
	}), true
}

func (l *Limits) gate(key string, n, def int) *semaphore.Weighted {
	if n <= 0 {
		n = def
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gates == nil {
		l.gates = make(map[string]*semaphore.Weighted)
	}
	g := l.gates[key]
	if g == nil {
		g = semaphore.NewWeighted(int64(n))
		l.gates[key] = g
	}
	return g
}
