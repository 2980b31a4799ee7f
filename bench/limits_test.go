package main

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
)

// told is the output of an export of ours that reports each second that so many
// MB came in it.
func told(start time.Time, megabytes ...int64) string {
	var out strings.Builder
	received := int64(0)
	for i, n := range megabytes {
		received += n * 1e6
		fmt.Fprintf(&out, `{"type":"progress","time":%q,"received":%d}`+"\n",
			start.Add(time.Duration(i)*time.Second).Format(time.RFC3339Nano), received)
	}
	return out.String()
}

// seconds is n seconds with the same number of MB.
func seconds(n int, megabytes int64) []int64 {
	all := make([]int64, n)
	for i := range all {
		all[i] = megabytes
	}
	return all
}

func wantOff(t *testing.T, out string, limit int64, want float64) {
	t.Helper()
	got, err := worstDeviation([]byte(out), limit)
	if err != nil || math.Abs(got-want) > 1e-6 {
		t.Errorf("off by %g %%, %v; want %g", got, err, want)
	}
}

func TestABandwidthIsJudgedByItsWorstTenSeconds(t *testing.T) {
	t.Parallel()
	start := time.Now()
	steady := seconds(30, 50)
	wantOff(t, told(start, steady...), 50e6, 0)
	wantOff(t, told(start, steady...), 40e6, 25)
	uneven := seconds(30, 50)
	uneven[15] = 60 // 510 MB in ten seconds
	wantOff(t, told(start, uneven...), 50e6, 2)
	uneven[15] = 0
	wantOff(t, told(start, uneven...), 50e6, 10)
}

func TestWhatComesBeforeTheFirstByteAndAfterTheLastIsNotJudged(t *testing.T) {
	t.Parallel()
	all := append(append(seconds(5, 0), seconds(14, 50)...), append([]int64{7}, seconds(4, 0)...)...)
	wantOff(t, told(time.Now(), all...), 50e6, 0)
}

func TestEachLimitIsJudgedOnItsOwn(t *testing.T) {
	t.Parallel()
	start := time.Now()
	change := func(after time.Duration, limit int64) string {
		return fmt.Sprintf("{\n \"limit\": \"x\",\n \"bytes_per_second\": %d,\n \"timestamp\": %q\n}\n", limit, start.Add(after).Format(time.RFC3339Nano))
	}
	var job strings.Builder // as h2kvmctl tells it
	received := int64(0)
	for i, n := range append(seconds(13, 25), seconds(13, 101)...) {
		received += n * 1e6
		fmt.Fprintf(&job, `{"job_id":"j","event":{"type":"progress","time":%q,"progress":{"bytes_downloaded":%d}}}`+"\n",
			start.Add(time.Duration(i)*time.Second).Format(time.RFC3339Nano), received)
	}
	// What was printed late is put where it belongs.
	out := change(-time.Second, 25e6) + job.String() + change(12500*time.Millisecond, 100e6)
	wantOff(t, out, 0, 1)
}

func TestAnExportTooShortForALimitIsNoFigure(t *testing.T) {
	t.Parallel()
	for name, out := range map[string]string{
		"nothing":    "",
		"no bytes":   told(time.Now(), seconds(20, 0)...),
		"five":       told(time.Now(), seconds(5, 50)...),
		"no JSON":    "what?",
		"never full": told(time.Now(), seconds(9, 50)...) + told(time.Now().Add(9*time.Second), seconds(9, 0)...),
	} {
		if got, err := worstDeviation([]byte(out), 50e6); err == nil {
			t.Errorf("%s: off by %g %%, want an error", name, got)
		}
	}
}

func TestADatastoreExportCountsOnlyWhenNoHoleWasRead(t *testing.T) {
	t.Parallel()
	line := func(transport string, transferred int) []byte {
		return fmt.Appendf(nil, `{"type":"result","result":{"success":true,"disks":[{"verified":"size","transport":%q,"transferred":%d}]}}`, transport, transferred)
	}
	if err := withoutHoles(line("datastore", 1000), 1000); err != nil {
		t.Errorf("all data from the datastore: %v", err)
	}
	if err := withoutHoles(line("datastore", 8000), 1000); err == nil {
		t.Error("a disk that was read with its holes counts")
	}
	if err := withoutHoles(line("stream", 1000), 1000); err == nil {
		t.Error("a disk that came through the lease counts")
	}
}
