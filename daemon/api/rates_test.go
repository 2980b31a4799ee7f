package api_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/daemon/rates"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/memory"
)

func TestTheRatesOfAllDaemonsAreGivenByHostAndStep(t *testing.T) {
	t.Parallel()
	store := &memory.Rates{}
	for i, writer := range []string{"one daemon", "another"} {
		for _, g := range rates.Grains() {
			err := store.Keep(t.Context(), writer, []rates.Sample{{
				Start: time.Now().Add(-2 * g.Span).Truncate(g.Span), Span: g.Span, Bytes: map[string]int64{"esx1": int64(i+1) << 30, "": 5},
			}})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	d := start(t, api.Options{Rates: store})
	for query, step := range map[string]int{"": 10, "?window=hour": 10, "?window=day": 240, "?window=month": 7200} {
		a := d.get("/rates" + query)
		if a.status != http.StatusOK {
			t.Fatalf("%s: %d %s", query, a.status, a.body)
		}
		got := decode[models.Rates](t, a)
		if got.StepSeconds != step || len(got.BytesPerSecond) != 360 || len(got.Hosts) != 2 {
			t.Fatalf("%s: %d steps of %d s, %d hosts", query, len(got.BytesPerSecond), got.StepSeconds, len(got.Hosts))
		}
		if h := got.Hosts[0]; h.Host != "esx1" || h.Bytes != 3<<30 || len(h.BytesPerSecond) != 360 {
			t.Errorf("%s: the first host is %s with %d bytes", query, h.Host, h.Bytes)
		}
	}
	if a := d.get("/rates?window=year"); a.status != http.StatusUnprocessableEntity {
		t.Errorf("a window that is none: %d %s", a.status, a.body)
	}
	if a := start(t, api.Options{}).get("/rates"); a.status != http.StatusNotImplemented {
		t.Errorf("a daemon without: %d", a.status)
	}
}
