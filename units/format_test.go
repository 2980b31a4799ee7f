package units_test

import (
	"math"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/units"
)

func TestARateIsReadBackAsItIsWritten(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{
		0: "none", -5: "none", 1: "1B/s", 1500: "1500B/s", 2000: "2kB/s", 200_000_000: "200MB/s",
		25 << 20: "25MiB/s", 3_000_000_000: "3GB/s", 2 << 30: "2GiB/s", 125_000_000: "125MB/s",
	} {
		got := units.FormatRate(n)
		if got != want {
			t.Errorf("%d is written %q, want %q", n, got, want)
		}
		if back, err := units.ParseRate(got); err != nil || back != max(n, 0) {
			t.Errorf("%q is read as %d, %v; want %d", got, back, err, n)
		}
	}
	if _, err := units.ParseRate("fast"); err == nil {
		t.Error("a rate without a number is read")
	}
}

func TestSizesAndRatesAreWrittenForPeople(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{
		-1: "?", 0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 1<<20 - 1: "1.0 MiB",
		13207024435: "12.3 GiB", 2 << 40: "2.0 TiB", math.MaxInt64: "8.0 EiB",
	} {
		if got := units.Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
	for rate, want := range map[float64]string{0: "0 B/s", 26528973: "25.3 MiB/s", -5: "0 B/s", math.Inf(1): "4.0 EiB/s"} {
		if got := units.Rate(rate); got != want {
			t.Errorf("Rate(%v) = %q, want %q", rate, got, want)
		}
	}
	if got := units.Rate(math.NaN()); got != "0 B/s" {
		t.Errorf("Rate(NaN) = %q", got)
	}
}
