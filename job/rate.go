package job

import (
	"fmt"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/transfer"
)

// NoLimit is how a bandwidth without a bound is written.
const NoLimit = "none"

// ParseRate reads a bandwidth as job files and the API have it, such as
// "200MB/s" or "1Gbit/s", and returns bytes per second. "", "0" and [NoLimit]
// are no limit and give 0.
func ParseRate(s string) (int64, error) {
	if strings.TrimSpace(s) == NoLimit {
		return 0, nil
	}
	return transfer.ParseRate(s)
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
