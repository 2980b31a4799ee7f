package transfer

import (
	"fmt"
	"testing"
	"time"
)

func FuzzParseContentRange(f *testing.F) {
	for _, seed := range []string{"bytes 0-0/1", "bytes 5-4/9", "bytes 0-9/*", "bytes 1-2/18446744073709551615", "bytes -1-2/3", "bytes 0-0/1 "} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		first, last, size, ok := parseContentRange(s)
		if !ok {
			return
		}
		if first < 0 || first > last || last >= size {
			t.Errorf("%q gives %d-%d/%d", s, first, last, size)
		}
		text := fmt.Sprintf("bytes %d-%d/%d", first, last, size)
		if a, b, c, ok := parseContentRange(text); !ok || a != first || b != last || c != size {
			t.Errorf("%q does not read back", text)
		}
	})
}

func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{"7", "-7", "99999999999999999999", "Fri, 31 Dec 1999 23:59:59 GMT", "soon"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d := retryAfter(s, time.Unix(0, 0)); d < 0 {
			t.Errorf("retryAfter(%q) = %v", s, d)
		}
	})
}

func TestRetryAfterReadsBothForms(t *testing.T) {
	t.Parallel()
	now := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-7": 0, "soon": 0,
		"Wed, 01 Jan 2020 00:01:00 GMT": time.Minute,
		"Tue, 31 Dec 2019 00:00:00 GMT": 0,
	} {
		if got := retryAfter(header, now); got != want {
			t.Errorf("retryAfter(%q) = %v, want %v", header, got, want)
		}
	}
}
