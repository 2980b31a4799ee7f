package main

import (
	"context"
	"sync"

	"github.com/hyper2kvm/hyper2kvm/daemon/limits"
	"github.com/hyper2kvm/hyper2kvm/transfer"
)

// sharing returns what keeps this daemon's part of the limits that hold for all daemons
// on the store, and nil where there can be one only. The bandwidth is that of the
// daemons of its site.
func (s settings) sharing(st state, o limits.Options, bandwidth *transfer.Limiter) *limits.Keeper {
	if !s.shared() {
		return nil
	}
	o.Store, o.Bandwidth, o.Rate, o.Limit = st.store, "bandwidth", bandwidth, s.limit
	if site := st.self.Labels["site"]; site != "" {
		o.Bandwidth += " of site " + site
	}
	return limits.New(o)
}

// keepSharing runs k until stop is called: beyond the end of ctx, because what still
// runs uses its part.
func keepSharing(ctx context.Context, k *limits.Keeper) (stop func()) {
	if k == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var over sync.WaitGroup
	over.Go(func() { _ = k.Run(ctx) }) // it ends with ctx, and only then
	return func() {
		cancel()
		over.Wait()
	}
}
