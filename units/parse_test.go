package units_test

import (
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/units"
)

func TestRatesAndSizesAreRead(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]int64{
		"": 0, "0": 0, " none ": 0, "1": 1, "200MB/s": 200e6, "200 MB/s": 200e6, "200mb": 200e6, "25MiB/s": 25 << 20,
		"1.5GB/s": 15e8, "1Gbit/s": 125e6, "8kbit/s": 1000, "64k": 64000, "64Ki/s": 64 << 10, "1TiB": 1 << 40,
	} {
		if got, err := units.ParseRate(in); err != nil || got != want {
			t.Errorf("ParseRate(%q) = %d, %v; want %d", in, got, err, want)
		}
	}
	for in, want := range map[string]int64{"50MB": 50e6, "50": 50, "10B": 10, "0.5KiB": 512, " 3 GiB ": 3 << 30, "2tb": 2e12} {
		if got, err := units.ParseSize(in); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", in, got, err, want)
		}
	}
}

func TestWhatIsNoRateIsRefusedWithAnExample(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"fast", "-5MB/s", "5 parsecs", "1e9999", "99999999999TB", "0.1B/s", "1.2.3MB", "MB/s", "5MB/min", "NaN", "+Inf"} {
		if n, err := units.ParseRate(in); err == nil || !strings.Contains(err.Error(), "200MB/s") {
			t.Errorf("ParseRate(%q) = %d, %v; want an error with an example", in, n, err)
		}
	}
	if _, err := units.ParseSize(""); err == nil {
		t.Error("an empty size is accepted")
	}
	if _, err := units.ParseSize("8kbit"); err == nil {
		t.Error("a size in bits is accepted")
	}
}

func FuzzParseRate(f *testing.F) {
	for _, seed := range []string{"200MB/s", "1Gbit/s", "", "9223372036854775807", "0.0000001TiB", "1..2"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := units.ParseRate(s); n < 0 || err != nil && n != 0 {
			t.Errorf("ParseRate(%q) = %d, %v", s, n, err)
		}
	})
}
