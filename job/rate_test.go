package job_test

import (
	"testing"

	"github.com/hyper2kvm/hyper2kvm/job"
)

func TestARateIsReadBackAsItIsWritten(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{
		0: "none", -5: "none", 1: "1B/s", 1500: "1500B/s", 2000: "2kB/s", 200_000_000: "200MB/s",
		25 << 20: "25MiB/s", 3_000_000_000: "3GB/s", 2 << 30: "2GiB/s", 125_000_000: "125MB/s",
	} {
		got := job.FormatRate(n)
		if got != want {
			t.Errorf("%d is written %q, want %q", n, got, want)
		}
		if back, err := job.ParseRate(got); err != nil || back != max(n, 0) {
			t.Errorf("%q is read as %d, %v; want %d", got, back, err, n)
		}
	}
	if _, err := job.ParseRate("fast"); err == nil {
		t.Error("a rate without a number is read")
	}
}
