package web

import (
	"cmp"
	"fmt"
	"path"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/units"
)

// row is a job as a line of a page has it: everything in words.
type row struct {
	ID      string
	Name    string
	VMPath  string
	Output  string
	VCenter string
	Status  models.Status
	State   string // what it does or waits for now
	Error   string
	Ended   time.Time // zero while it has not
	Bar     *bar      // nil for a job that does not run

	CanCancel, CanRetry bool
}

// bar is how far something is.
type bar struct {
	Known   bool    // Percent can be told
	Percent float64 // 0..100
	Text    string  // the same in words; never "0 %" of what moves
	Detail  string  // bytes, rate, what is left
}

// phases are what a run does in each phase, in words.
var phases = map[string]string{
	"pending":     "starting",
	"running":     "starting",
	"connecting":  "connecting to vCenter",
	"discovering": "checking the VM",
	"preparing":   "preparing the VM",
	"exporting":   "copying disks",
	"verifying":   "verifying",
	"describing":  "writing the description",
	"landing":     "landing at libvirt",
	"finishing":   "marking the source",
	"done":        "done",
}

// phaseName is a phase in words; one that is not known is called as it is.
func phaseName(phase string) string { return cmp.Or(phases[phase], phase, "starting") }

// jobRow makes a line of a job. turn is how many of the queue are before it, negative
// when that is not known.
func jobRow(j models.Job, turn int, now time.Time) row {
	d := j.Definition
	r := row{
		ID: d.ID, Name: cmp.Or(d.Name, path.Base(d.VMPath)), VMPath: d.VMPath, Output: d.OutputPath,
		VCenter: d.VCenterKey(), Status: j.Status, State: stateOf(j, turn, now), Error: j.Error,
		CanCancel: !j.Status.Final() && !j.Cancelling,
		CanRetry:  j.Status == models.StatusFailed || j.Status == models.StatusCancelled,
	}
	if j.CompletedAt != nil && j.Status.Final() {
		r.Ended = *j.CompletedAt
	}
	if j.Status == models.StatusRunning {
		r.Bar = barOf(j.Progress)
	}
	return r
}

// stateOf says what a job does, or what it waits for.
func stateOf(j models.Job, turn int, now time.Time) string {
	switch {
	case j.Status.Final():
		return string(j.Status)
	case j.Cancelling:
		return cmp.Or(j.WaitingFor, "cancelling: undoing what was begun")
	case j.Status == models.StatusRunning && j.Progress == nil:
		return phaseName("")
	case j.Status == models.StatusRunning:
		return cmp.Or(j.Progress.Activity, phaseName(j.Progress.Phase))
	case j.WaitingFor != "":
		return j.WaitingFor
	case j.NextAttempt != nil && j.NextAttempt.After(now):
		return fmt.Sprintf("tried again in %v, after: %s", j.NextAttempt.Sub(now).Round(time.Second), cmp.Or(j.Error, "a failure"))
	case turn == 0:
		return "waiting for a free place: it is the next"
	case turn > 0:
		return fmt.Sprintf("waiting for its turn: %d before it", turn)
	}
	return "waiting for its turn"
}

// barOf says how far a run is. Before anything is to be moved, it is a bar that only
// shows that something goes on.
func barOf(p *models.Progress) *bar {
	if p == nil {
		return &bar{Text: phaseName("")}
	}
	b := &bar{Text: phaseName(p.Phase)}
	if p.TotalBytes > 0 || p.PercentComplete > 0 {
		b.Known, b.Percent = true, p.PercentComplete
		b.Text = percent(p.PercentComplete, p.BytesDownloaded > 0)
	}
	switch {
	case p.TotalBytes > 0:
		b.Detail = units.Bytes(p.BytesDownloaded) + " moved, of " + units.Bytes(p.TotalBytes)
	case p.BytesDownloaded > 0:
		b.Detail = units.Bytes(p.BytesDownloaded) + " moved"
	}
	if p.BytesPerSecond > 0 {
		b.Detail += ", " + units.Rate(float64(p.BytesPerSecond))
	}
	if left, err := time.ParseDuration(p.EstimatedRemaining); err == nil && left > 0 {
		b.Detail += ", about " + left.Round(time.Second).String() + " left"
	}
	return b
}

// percent writes a percentage so that neither what has begun is 0 %, nor what has not
// ended 100 %.
func percent(p float64, moved bool) string {
	switch {
	case p <= 0 && !moved:
		return "0 %"
	case p < 0.1:
		return "less than 0.1 %"
	case p < 100:
		return fmt.Sprintf("%.1f %%", min(p, 99.9))
	}
	return "100 %"
}
