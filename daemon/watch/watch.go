// Package watch knows whether the daemon can do its work, and says what is wrong:
// for GET /health/ready, for systemd's status line, and for metrics.
//
// It asks others and keeps nothing but what it has said last.
package watch

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/units"
)

// Jobs is what is asked of a *jobs.Manager.
type Jobs interface {
	Health(ctx context.Context) (notes []string, err error)
	Stats(ctx context.Context) (jobs.Counts, error)
	VCenters(ctx context.Context) ([]jobs.VCenter, error)
}

// Certificate is one that the daemon shows to others, or that it shows itself by.
type Certificate struct {
	Name     string // for people and as a label
	NotAfter time.Time
	Trouble  error // why a newer one that is there cannot be used, or nil
}

// What is looked at, as a [Reason] names it.
const (
	CheckStore       = "store"
	CheckSpace       = "space"
	CheckVCenter     = "vcenter"
	CheckCertificate = "certificate"
)

// Reason is something that a person should see to.
type Reason struct {
	Check string // what was looked at: one of the Check constants
	Name  string // which one; may be empty
	// Fatal says that the daemon is not ready because of it: what it accepts now
	// could not be done.
	Fatal bool
	Text  string // what is wrong, and what to do
}

// Readiness looks whether work that is accepted now can be done. Fields that are
// zero are not looked at.
type Readiness struct {
	Jobs         Jobs
	VCenters     []string // names in the configuration
	Space        *Space
	StateDir     string // the one of Space's directories that holds the daemon's own state
	MinFree      int64  // bytes below which a file system that exports go to is full
	Certificates func() []Certificate
	Now          func() time.Time // nil is time.Now
}

// DefaultMinFree is for Readiness.MinFree: less than nearly every VM takes.
const DefaultMinFree = 1 << 30

// minState is how much room the daemon's own state needs at least, in bytes.
const minState = 64 << 20

// warnBefore is how long before a certificate expires that is said.
const warnBefore = 30 * 24 * time.Hour

// Check looks at everything and returns what is wrong, the worst first.
func (r *Readiness) Check(ctx context.Context) []Reason {
	var out []Reason
	if r.Jobs != nil {
		out = append(out, r.store(ctx)...)
		out = append(out, r.vcenters(ctx)...)
	}
	if r.Space != nil {
		out = append(out, r.space(ctx)...)
	}
	if r.Certificates != nil {
		out = append(out, r.certificates()...)
	}
	slices.SortStableFunc(out, func(a, b Reason) int {
		switch {
		case a.Fatal == b.Fatal:
			return 0
		case a.Fatal:
			return -1
		}
		return 1
	})
	return out
}

func (r *Readiness) store(ctx context.Context) []Reason {
	notes, err := r.Jobs.Health(ctx)
	var out []Reason
	if err != nil {
		out = append(out, Reason{Check: CheckStore, Fatal: true, Text: err.Error()})
	}
	for _, n := range notes {
		out = append(out, Reason{Check: CheckStore, Text: n})
	}
	return out
}

// vcenters names those that cannot be used. The daemon is ready as long as there is
// one that can: jobs for it are not held up by the others.
func (r *Readiness) vcenters(ctx context.Context) []Reason {
	away, err := r.Jobs.VCenters(ctx)
	if err != nil {
		return nil // the store tells why
	}
	unusable := 0
	for _, v := range away {
		if slices.Contains(r.VCenters, v.Name) {
			unusable++
		}
	}
	none := len(r.VCenters) > 0 && unusable == len(r.VCenters)
	var out []Reason
	for _, v := range away {
		out = append(out, Reason{
			Check: CheckVCenter, Name: vcenterName(v.Name), Fatal: none && slices.Contains(r.VCenters, v.Name),
			Text: fmt.Sprintf("%s since %s, %d jobs wait: %s", word(v.State), v.Since.UTC().Format(time.RFC3339), v.Waiting, v.Reason),
		})
	}
	return out
}

// space names the file systems without room. The daemon is not ready when that of its
// own state is one of them, or all that exports go to.
func (r *Readiness) space(ctx context.Context) []Reason {
	var out []Reason
	outputs, full := 0, 0
	for _, v := range r.Space.Look(ctx) {
		own := v.Path == r.StateDir
		least := r.MinFree
		if own {
			least = minState
		} else {
			outputs++
		}
		reason := Reason{Check: CheckSpace, Name: v.Path, Fatal: own}
		switch {
		case v.Err != nil:
			reason.Text = "cannot be looked at: " + v.Err.Error()
		case v.Free < least:
			reason.Text = fmt.Sprintf("%s free, less than %s: make room", units.Bytes(v.Free), units.Bytes(least))
		default:
			continue
		}
		if !own {
			full++
		}
		out = append(out, reason)
	}
	for i := range out {
		out[i].Fatal = out[i].Fatal || full == outputs
	}
	return out
}

func (r *Readiness) certificates() []Reason {
	now := time.Now
	if r.Now != nil {
		now = r.Now
	}
	var out []Reason
	for _, c := range r.Certificates() {
		left := c.NotAfter.Sub(now())
		switch {
		case left <= 0:
			out = append(out, Reason{Check: CheckCertificate, Name: c.Name, Fatal: true, Text: "expired at " + c.NotAfter.UTC().Format(time.RFC3339)})
		case left < warnBefore:
			out = append(out, Reason{Check: CheckCertificate, Name: c.Name,
				Text: fmt.Sprintf("expires in %d days, at %s", int(left.Hours()/24), c.NotAfter.UTC().Format(time.RFC3339))})
		}
		if c.Trouble != nil {
			out = append(out, Reason{Check: CheckCertificate, Name: c.Name, Text: "the newer one cannot be used, and the earlier one is: " + c.Trouble.Error()})
		}
	}
	return out
}

// Ready reports whether none of the reasons is fatal.
func Ready(reasons []Reason) bool {
	return !slices.ContainsFunc(reasons, func(r Reason) bool { return r.Fatal })
}

// Status is the daemon in one line, such as
// "4 running, 197 pending; vCenter prod: unreachable since 02:10".
func (r *Readiness) Status(ctx context.Context) string {
	var parts []string
	counts, err := r.Jobs.Stats(ctx)
	if err == nil {
		parts = append(parts, fmt.Sprintf("%d running, %d pending", counts.Running, counts.Pending))
		if counts.Failed > 0 {
			parts[0] += fmt.Sprintf(", %d failed", counts.Failed)
		}
	}
	if away, err := r.Jobs.VCenters(ctx); err == nil {
		for _, v := range away {
			parts = append(parts, fmt.Sprintf("vCenter %s: %s since %s", vcenterName(v.Name), word(v.State), v.Since.Local().Format("15:04")))
		}
	}
	for _, reason := range r.Check(ctx) {
		if reason.Check != CheckVCenter {
			parts = append(parts, strings.TrimSuffix(reason.Check+" "+reason.Name, " ")+": "+reason.Text)
		}
	}
	return oneLine(strings.Join(parts, "; "))
}

// maxStatus bounds a status line, in bytes.
const maxStatus = 400

// oneLine makes text fit a message to systemd, whose lines are variables.
func oneLine(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxStatus {
		text = strings.ToValidUTF8(text[:maxStatus], "") + "…"
	}
	return text
}

// statusEvery is how often the status is looked at.
const statusEvery = 5 * time.Second

// Announce calls tell with the status whenever it is another one, looking every few
// seconds, until ctx ends.
func (r *Readiness) Announce(ctx context.Context, tell func(status string)) error {
	tick := time.NewTicker(statusEvery)
	defer tick.Stop()
	said := ""
	for {
		if now := r.Status(ctx); ctx.Err() == nil && now != said {
			said = now
			tell(now)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func vcenterName(key string) string {
	if key == "" {
		return "(default)"
	}
	return key
}

// word is a state in words.
func word(s jobs.VCenterState) string { return strings.ReplaceAll(string(s), "_", " ") }
