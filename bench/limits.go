package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
)

// Rows of bandwidth limits. The bytes are those that our program has counted off
// the wire; a limit is good when every span of ten seconds has as many as it
// allows, no more and no fewer.
const (
	limitData = 256 << 20 // bytes of data in a disk
	limitSpan = 10 * time.Second
	// A reading may come a moment less than ten seconds after the one that it
	// is compared with.
	limitEarly = 100 * time.Millisecond
	// For so long a limit holds at least: the first and the last of the
	// readings, which are up to two seconds apart, do not count.
	limitSeconds  = 15
	limitAccuracy = 2 // percent
)

// disksFor is how many disks are needed to have so many MB to move.
func disksFor(i image, megabytes int64) int {
	return int((megabytes*1e6 + i.size - 1) / i.size)
}

// limited is an export under a limit of so many MB/s, long enough to be judged.
func (b *bench) limited(i image, rate int64) row {
	disks := disksFor(i, rate*limitSeconds)
	flag := fmt.Sprintf("%dMB/s", rate)
	ours := b.export(disks, "-limit", flag, "-parallel", fmt.Sprint(disks))
	ours.deviation = func(out []byte) (float64, error) { return worstDeviation(out, rate*1e6) }
	return row{
		work: fmt.Sprintf("%d disks at a time, limit %s, over 10 s", disks, flag),
		lab:  vm("guest", i, disks), bytes: int64(disks) * i.size,
		ours: ours, runs: 1, wants: []want{{deviation, limitAccuracy}},
	}
}

// limitChanged is a job of a daemon whose limit is changed while the job runs.
func (b *bench) limitChanged(i image, from, to int64) row {
	disks := disksFor(i, (from+to)*limitSeconds)
	const script = `"$0" -json limit "$1"
(sleep "$2"; exec "$0" -json limit "$3") &
exec "$0" -json submit -vm guest -output "$4" -parallel "$5" -watch`
	ours := contender{
		name: "h2kvmctl limit",
		steps: func(dir string) [][]string {
			return [][]string{{"sh", "-c", script, b.program("h2kvmctl"), fmt.Sprintf("%dMB/s", from),
				fmt.Sprint(limitSeconds), fmt.Sprintf("%dMB/s", to), dir, fmt.Sprint(disks)}}
		},
		deviation: func(out []byte) (float64, error) { return worstDeviation(out, 0) },
	}
	return row{
		work: fmt.Sprintf("%d disks at a time, the daemon's limit changed from %d to %d MB/s, over 10 s of each", disks, from, to),
		lab:  vm("guest", i, disks), bytes: int64(disks) * i.size, before: b.daemon,
		ours: ours, runs: 1, wants: []want{{deviation, limitAccuracy}}, compare: b.same(i, "*.vmdk", "vmdk"),
	}
}

// reading is what had come off the wire at a moment.
type reading struct {
	at       time.Time
	received int64 // bytes; -1 when this is a change of the limit
	limit    int64 // bytes per second, for a change
}

// readings reads what hyper2kvm -json or h2kvmctl -json printed, in the order of
// time.
func readings(out []byte) ([]reading, error) {
	var all []reading
	for lines := json.NewDecoder(bytes.NewReader(out)); ; {
		var line struct {
			Type     string    // of hyper2kvm
			Time     time.Time //
			Received int64     //
			Event    *models.Event
			Limit    int64     `json:"bytes_per_second"` // of h2kvmctl limit
			Changed  time.Time `json:"timestamp"`
		}
		switch err := lines.Decode(&line); {
		case err == io.EOF:
			slices.SortStableFunc(all, func(x, y reading) int { return x.at.Compare(y.at) })
			return all, nil
		case err != nil:
			return nil, fmt.Errorf("read its progress: %w", err)
		case line.Limit > 0:
			all = append(all, reading{line.Changed, -1, line.Limit})
		case line.Type == "progress":
			all = append(all, reading{at: line.Time, received: line.Received})
		case line.Event != nil && line.Event.Progress != nil:
			all = append(all, reading{at: line.Event.Time, received: line.Event.Progress.BytesDownloaded})
		}
	}
}

// worstDeviation returns by how many percent the bandwidth was off the limit, in
// bytes per second, in the worst of all spans of ten seconds. Spans lie between
// the first and the last byte, and between changes of the limit, of which each
// must have one.
func worstDeviation(out []byte, limit int64) (float64, error) {
	all, err := readings(out)
	if err != nil {
		return 0, err
	}
	total := int64(0)
	for _, r := range all {
		total = max(total, r.received)
	}
	worst := 0.0
	for len(all) > 0 {
		if all[0].received < 0 {
			limit, all = all[0].limit, all[1:]
		}
		n := slices.IndexFunc(all, func(r reading) bool { return r.received < 0 })
		if n < 0 {
			n = len(all)
		}
		under := slices.DeleteFunc(slices.Clone(all[:n]), func(r reading) bool { return r.received == 0 || r.received == total })
		all = all[n:]
		w, err := worstSpan(under, limit)
		if err != nil {
			return 0, err
		}
		worst = max(worst, w)
	}
	if total == 0 {
		return 0, errors.New("it told no progress")
	}
	return worst, nil
}

// worstSpan is worstDeviation of readings under one limit.
func worstSpan(rs []reading, limit int64) (float64, error) {
	worst, spans := 0.0, 0
	for i, from := range rs {
		j := slices.IndexFunc(rs[i:], func(r reading) bool { return r.at.Sub(from.at) >= limitSpan-limitEarly })
		if j < 0 {
			break
		}
		to := rs[i+j]
		rate := float64(to.received-from.received) / to.at.Sub(from.at).Seconds()
		worst, spans = max(worst, math.Abs(rate/float64(limit)-1)*100), spans+1
	}
	if spans == 0 {
		return 0, fmt.Errorf("it was not under the limit of %d bytes/s for %v", limit, limitSpan)
	}
	return worst, nil
}

// daemon runs a hyper2kvmd for the lab and tells clients where it is.
func (b *bench) daemon(ctx context.Context, l *lab) (env []string, after func(), err error) {
	state := filepath.Join(b.o.work, "daemon")
	cmd := exec.CommandContext(ctx, b.program("hyper2kvmd"), "-addr", "127.0.0.1:0", "-config", os.DevNull, "-state-dir", state, "-log-format", "json")
	cmd.Env = append(os.Environ(), l.env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	log, err := cmd.StderrPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	after = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
		_ = cmd.Wait()
		_ = os.RemoveAll(state)
	}
	var said strings.Builder
	for lines := bufio.NewScanner(io.TeeReader(log, &said)); lines.Scan(); {
		var line struct{ Msg, Addr string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "hyper2kvmd is listening" {
			go func() { _, _ = io.Copy(io.Discard, log) }() // ends with the daemon
			return []string{"H2KVM_DAEMON=http://" + line.Addr}, after, nil
		}
	}
	after()
	return nil, nil, fmt.Errorf("hyper2kvmd did not start: %s", cmp.Or(said.String(), "it said nothing"))
}
