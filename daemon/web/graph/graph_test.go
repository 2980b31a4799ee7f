package graph_test

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/daemon/web/graph"
)

// rates are those of an hour with n hosts, the ith at i MiB/s in its second half.
func rates(n int) models.Rates {
	start := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	r := models.Rates{Window: "hour", Start: start, StepSeconds: 10, End: start.Add(time.Hour), BytesPerSecond: make([]int64, 360)}
	for i := 1; i <= n; i++ {
		h := models.HostRate{Host: fmt.Sprintf("esx%d.example.org", i), BytesPerSecond: make([]int64, 360)}
		for k := 180; k < 360; k++ {
			h.BytesPerSecond[k] = int64(i) << 20
			r.BytesPerSecond[k] += int64(i) << 20
		}
		r.Hosts = append(r.Hosts, h)
	}
	return r
}

func draw(t *testing.T, r models.Rates) string {
	t.Helper()
	html, err := graph.Draw("rate", r)
	if err != nil {
		t.Fatal(err)
	}
	d := xml.NewDecoder(strings.NewReader(string(html)))
	d.Entity = xml.HTMLEntity
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return string(html)
		} else if err != nil {
			t.Fatalf("%v\n%s", err, html)
		}
	}
}

func TestAGraphTellsWhatItShowsInWordsAndAsATable(t *testing.T) {
	t.Parallel()
	html := draw(t, rates(2))
	for _, want := range []string{
		`<title id="rate-title">Throughput in the last hour</title>`,
		`3.0 MiB/s now, 1.5 MiB/s on average, 3.0 MiB/s at most; through 2 hosts.`,
		`<th scope="col">esx1.example.org</th>`,
		`<th scope="row">03:55</th><td>3.0 MiB/s</td><td>1.0 MiB/s</td><td>2.0 MiB/s</td>`,
		`<th scope="row">03:00</th><td>0 B/s</td>`,
		`04:00 UTC`,
	} {
		if !strings.Contains(html, want) {
			t.Errorf("no %s in\n%s", want, html)
		}
	}
	if n := strings.Count(html, `scope="row"`); n != 12 {
		t.Errorf("the table has %d rows", n)
	}
	if strings.Contains(html, "style=") || strings.Contains(html, "<script") {
		t.Error("something that the dashboard's policy forbids is in it")
	}
}

func TestAQuietTimeIsSaidToBeOne(t *testing.T) {
	t.Parallel()
	html := draw(t, rates(0))
	if !strings.Contains(html, "No byte came in this time.") || strings.Contains(html, "graph-line") {
		t.Error(html)
	}
}

func TestManyHostsAndHostileNamesStayAPicture(t *testing.T) {
	t.Parallel()
	r := rates(40)
	r.Hosts[0].Host = `<script>alert(1)</script>`
	r.Hosts[1].Host = ""
	html := draw(t, r)
	if strings.Contains(html, "<script") || !strings.Contains(html, "host not known") || !strings.Contains(html, "and 35 more") {
		t.Error(html)
	}
	if len(html) > 8<<10 {
		t.Errorf("%d bytes", len(html))
	}
}

func TestEveryRateIsWithinThePicture(t *testing.T) {
	t.Parallel()
	for _, most := range []int64{0, 1, 1023, 1024, 1025, 1<<20 - 1, 117 << 20, 1 << 40, math.MaxInt64, -1} {
		r := rates(0)
		for i := range r.BytesPerSecond {
			r.BytesPerSecond[i] = most * int64(i%2)
		}
		if html := draw(t, r); strings.Contains(html, "NaN") || strings.Contains(html, "Inf") || strings.Contains(html, " -") {
			t.Errorf("%d: %s", most, html)
		}
	}
	if _, err := graph.Draw("rate", models.Rates{}); err != nil { // of an answer that is empty
		t.Error(err)
	}
}
