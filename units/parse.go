// Package units reads and writes sizes and bandwidths, as people give them and as
// programs show them. There is one syntax for job files, flags, configuration and
// the lab: see [ParseSize] and [ParseRate].
package units

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// NoLimit is how a bandwidth without a bound is written.
const NoLimit = "none"

// ParseRate reads a bandwidth such as "200MB/s", "25 MiB/s", "1.5GB/s" or
// "1Gbit/s" and returns bytes per second. "/s" may be left out, units are those
// of [ParseSize] and also kbit, Mbit and Gbit. "", "0" and [NoLimit] are no limit
// and give 0. A rate below one byte per second is an error.
func ParseRate(s string) (int64, error) {
	text := strings.TrimSpace(s)
	if text == "" || text == NoLimit {
		return 0, nil
	}
	text = strings.TrimSpace(strings.TrimSuffix(text, "/s"))
	n, err := parseQuantity(text, rateUnits)
	if err != nil {
		return 0, fmt.Errorf("rate %q: %w; write it like 200MB/s or 25MiB/s", s, err)
	}
	return n, nil
}

// ParseSize reads a size such as "50MB", "64 KiB" or "1.5GiB" and returns
// bytes. kB, MB, GB, TB are powers of 1000; KiB, MiB, GiB, TiB are powers of
// 1024; a bare number or "B" is bytes. Case does not matter.
func ParseSize(s string) (int64, error) {
	n, err := parseQuantity(strings.TrimSpace(s), sizeUnits)
	if err != nil {
		return 0, fmt.Errorf("size %q: %w; write it like 50MB or 64KiB", s, err)
	}
	return n, nil
}

// sizeUnits returns the bytes in a unit given in lower case, or 0.
func sizeUnits(unit string) float64 {
	switch unit {
	case "", "b":
		return 1
	case "kb", "k":
		return 1e3
	case "mb", "m":
		return 1e6
	case "gb", "g":
		return 1e9
	case "tb", "t":
		return 1e12
	case "kib", "ki":
		return 1 << 10
	case "mib", "mi":
		return 1 << 20
	case "gib", "gi":
		return 1 << 30
	case "tib", "ti":
		return 1 << 40
	}
	return 0
}

func rateUnits(unit string) float64 {
	switch unit {
	case "kbit":
		return 1e3 / 8
	case "mbit":
		return 1e6 / 8
	case "gbit":
		return 1e9 / 8
	}
	return sizeUnits(unit)
}

func parseQuantity(s string, units func(string) float64) (int64, error) {
	end := strings.IndexFunc(s, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	if end < 0 {
		end = len(s)
	}
	number, unit := s[:end], strings.TrimSpace(s[end:])
	if number == "" {
		return 0, fmt.Errorf("it does not begin with a number")
	}
	factor := units(strings.ToLower(unit))
	if factor == 0 {
		return 0, fmt.Errorf("unknown unit %q", unit)
	}
	value, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a number", number)
	}
	bytes := math.Round(value * factor)
	if bytes >= math.MaxInt64 {
		return 0, fmt.Errorf("it is too large")
	}
	if bytes == 0 && value != 0 {
		return 0, fmt.Errorf("it is less than one byte")
	}
	return int64(bytes), nil
}
