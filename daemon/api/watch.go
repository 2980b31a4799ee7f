package api

import (
	"context"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/daemon/watch"
)

// Observer counts requests.
type Observer interface {
	// Begin is called when a request comes, and end when it has been answered.
	// route is the pattern that it matched, such as /jobs/{id}, or "none".
	Begin() (end func(method, route string, status int, took time.Duration))
}

// unobserved is the Observer of an API that has none.
type unobserved struct{}

func (unobserved) Begin() func(string, string, int, time.Duration) {
	return func(string, string, int, time.Duration) {}
}

// Readiness says what keeps the daemon from work that it accepts now.
type Readiness interface {
	Check(ctx context.Context) []watch.Reason
}

// registerWatch adds the routes for those who watch over the daemon.
func (b builder) registerWatch(a *API) {
	ready := b.op("ready", "GET", "/health/ready", "Can the daemon do its work")
	ready.Description = "Looks at the store, at the space where exports go, at each vCenter of the configuration and at certificates. " +
		"503 when work that is accepted now could not be done. Reasons are for operators."
	ready.Responses["503"] = b.response("The daemon is not ready", "application/json", reflect.TypeFor[models.Readiness]())
	huma.Register(b.h, ready, a.ready)

	metrics := b.op("metrics", "GET", "/metrics", "Metrics for Prometheus")
	metrics.Description = "In the text format of Prometheus, for it to scrape."
	metrics.Responses["200"] = &huma.Response{Description: "Metrics", Content: map[string]*huma.MediaType{
		"text/plain": {Schema: &huma.Schema{Type: huma.TypeString}},
	}}
	huma.Register(b.h, metrics, a.metrics)
}

type readyReply struct {
	Status int
	Body   models.Readiness
}

func (a *API) ready(ctx context.Context, _ *struct{}) (*readyReply, error) {
	reasons := a.Ready(ctx)
	r := &readyReply{Status: http.StatusOK, Body: models.Readiness{Status: models.Ready, Timestamp: a.now()}}
	if !watch.Ready(reasons) {
		r.Status, r.Body.Status = http.StatusServiceUnavailable, models.NotReady
	}
	if !access.FromContext(ctx).May(access.Operator) {
		return r, nil
	}
	for _, reason := range reasons {
		severity := models.SeverityWarning
		if reason.Fatal {
			severity = models.SeverityError
		}
		r.Body.Reasons = append(r.Body.Reasons, models.Reason{
			Check: reason.Check, Name: reason.Name, Severity: severity, Message: reason.Text,
		})
	}
	return r, nil
}

// Ready is what GET /health/ready looks at. The reasons are for operators.
func (a *API) Ready(ctx context.Context) []watch.Reason { return a.o.Ready.Check(ctx) }

func (a *API) metrics(context.Context, *struct{}) (*huma.StreamResponse, error) {
	if a.o.Metrics == nil {
		return nil, failure(http.StatusNotImplemented, "metrics: this daemon counts nothing")
	}
	return &huma.StreamResponse{Body: func(h huma.Context) {
		r, w := humago.Unwrap(h)
		a.o.Metrics.ServeHTTP(w, r)
	}}, nil
}
