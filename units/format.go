package units

import (
	"fmt"
	"math"
)

// Bytes writes a size in bytes for people, in powers of 1024: "512 B",
// "12.3 GiB". A negative size is "?".
func Bytes(n int64) string {
	if n < 0 {
		return "?"
	}
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/1024, 0
	for math.Round(value*10)/10 >= 1024 && unit < len("KMGTPE")-1 {
		value /= 1024
		unit++
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGTPE"[unit])
}

// Rate writes bytes per second for people: "25.3 MiB/s".
func Rate(bytesPerSecond float64) string {
	if math.IsNaN(bytesPerSecond) || bytesPerSecond < 0 {
		bytesPerSecond = 0
	}
	return Bytes(int64(min(bytesPerSecond, math.MaxInt64/2))) + "/s"
}

// FormatRate is the inverse of [ParseRate], exact: bytes per second in the
// largest unit that gives a whole number, [NoLimit] for 0 or less.
func FormatRate(bytesPerSecond int64) string {
	if bytesPerSecond <= 0 {
		return NoLimit
	}
	for _, u := range []struct {
		bytes int64
		name  string
	}{{1 << 30, "GiB"}, {1e9, "GB"}, {1 << 20, "MiB"}, {1e6, "MB"}, {1 << 10, "KiB"}, {1e3, "kB"}} {
		if bytesPerSecond%u.bytes == 0 {
			return fmt.Sprintf("%d%s/s", bytesPerSecond/u.bytes, u.name)
		}
	}
	return fmt.Sprintf("%dB/s", bytesPerSecond)
}
