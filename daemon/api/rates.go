package api

import (
	"cmp"
	"context"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/daemon/rates"
)

type ratesInput struct {
	Window string `query:"window" enum:"hour,day,month" doc:"How far back: an hour in steps of 10 s, a day of 4 min, 30 days of 2 h; hour when left out"`
}

// registerRates adds the route that shows how fast bytes came.
func (b builder) registerRates(a *API) {
	op := b.op("get-rates", "GET", "/rates", "How fast bytes came, over time")
	op.Description = "Off the wire, in all and through each ESXi host, of all daemons on the store together."
	huma.Register(b.h, op, a.rates)
}

func (a *API) rates(ctx context.Context, in *ratesInput) (*reply[models.Rates], error) {
	return answered(a.Rates(ctx, rates.Window(in.Window)))
}

// Rates is the answer to GET /rates; no window is the last hour.
func (a *API) Rates(ctx context.Context, window rates.Window) (models.Rates, error) {
	if err := a.need(ctx, "GET /rates"); err != nil {
		return models.Rates{}, err
	}
	if a.o.Rates == nil {
		return models.Rates{}, failure(http.StatusNotImplemented, "rates: this daemon keeps none")
	}
	window = cmp.Or(window, rates.Hour)
	if !slices.Contains(rates.Windows(), window) {
		return models.Rates{}, failure(http.StatusUnprocessableEntity, "rates: the window must be hour, day or month")
	}
	s, err := rates.Read(ctx, a.o.Rates, window, time.Now())
	if err != nil {
		return models.Rates{}, a.fail(ctx, "rates", err)
	}
	out := models.Rates{
		Window: string(window), Start: s.Start, StepSeconds: int(s.Step.Seconds()), End: s.End,
		BytesPerSecond: whole(s.Total), Hosts: []models.HostRate{}, Timestamp: a.now(),
	}
	for _, h := range s.Hosts {
		out.Hosts = append(out.Hosts, models.HostRate{Host: h.Name, Bytes: h.Bytes, BytesPerSecond: whole(h.Rates)})
	}
	return out, nil
}

func whole(rates []float64) []int64 {
	out := make([]int64, len(rates))
	for i, r := range rates {
		out[i] = int64(math.Round(r))
	}
	return out
}
