package vspheretest

import (
	"fmt"
	"strconv"
	"strings"
)

// ParseSize reads a number of bytes: "4096", "64KiB", "50MB", "2TiB". Units
// with an i are powers of 1024, the others of 1000, as on a disk's label.
func ParseSize(s string) (int64, error) {
	digits := strings.TrimRight(s, "KMGTiB")
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("size %q: want a number with B, KB, MB, GB, TB, KiB, MiB, GiB or TiB", s)
	}
	factor := map[string]float64{
		"": 1, "B": 1,
		"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
		"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
	}[s[len(digits):]]
	if factor == 0 {
		return 0, fmt.Errorf("size %q: unknown unit %q", s, s[len(digits):])
	}
	return int64(n * factor), nil
}

// ParseRate reads bytes per second: "25MB/s". The "/s" may be left out.
func ParseRate(s string) (int64, error) {
	return ParseSize(strings.TrimSuffix(s, "/s"))
}
