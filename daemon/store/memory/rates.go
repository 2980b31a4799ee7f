package memory

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/rates"
)

// Rates is a [rates.Store]. The zero value is empty and ready.
type Rates struct {
	mu  sync.Mutex
	all []ratesOf
}

type ratesOf struct {
	writer string
	rates.Sample
}

// Keep implements [rates.Store].
func (r *Rates) Keep(ctx context.Context, writer string, samples []rates.Sample) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range samples {
		s.Bytes = maps.Clone(s.Bytes)
		i := slices.IndexFunc(r.all, func(o ratesOf) bool {
			return o.writer == writer && o.Span == s.Span && o.Start.Equal(s.Start)
		})
		if i >= 0 {
			r.all[i].Sample = s
			continue
		}
		r.all = append(r.all, ratesOf{writer, s})
	}
	slices.SortStableFunc(r.all, func(a, b ratesOf) int { return a.Start.Compare(b.Start) })
	return nil
}

// Since implements [rates.Store].
func (r *Rates) Since(ctx context.Context, span time.Duration, from time.Time) ([]rates.Sample, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []rates.Sample
	for _, o := range r.all {
		if o.Span == span && !o.Start.Before(from) {
			o.Bytes = maps.Clone(o.Bytes)
			found = append(found, o.Sample)
		}
	}
	return found, ctx.Err()
}

// Forget implements [rates.Store].
func (r *Rates) Forget(ctx context.Context, span time.Duration, before time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = slices.DeleteFunc(r.all, func(o ratesOf) bool { return o.Span == span && o.Start.Before(before) })
	return ctx.Err()
}
