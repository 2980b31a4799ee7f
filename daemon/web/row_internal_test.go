package web

import (
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
)

func TestWhatMovesIsNeverAtZeroAndWhatGoesOnNeverAtAHundred(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		p    *models.Progress
		text string
		bar  bool // how far it is can be told
	}{
		"just begun":           {&models.Progress{Phase: "pending"}, "starting", false},
		"nothing reported yet": {nil, "starting", false},
		"checking":             {&models.Progress{Phase: "discovering"}, "checking the VM", false},
		"a phase of tomorrow":  {&models.Progress{Phase: "teleporting"}, "teleporting", false},
		"no byte yet":          {&models.Progress{Phase: "exporting", TotalBytes: 1 << 40}, "0 %", true},
		"the first bytes":      {&models.Progress{Phase: "exporting", TotalBytes: 1 << 40, BytesDownloaded: 1, PercentComplete: 1e-10}, "less than 0.1 %", true},
		"bytes, none counted":  {&models.Progress{Phase: "exporting", TotalBytes: 1 << 40, BytesDownloaded: 4096}, "less than 0.1 %", true},
		"some":                 {&models.Progress{Phase: "exporting", TotalBytes: 1000, PercentComplete: 42}, "42.0 %", true},
		"nearly all":           {&models.Progress{Phase: "exporting", TotalBytes: 1000, PercentComplete: 99.99}, "99.9 %", true},
		"size not known":       {&models.Progress{Phase: "exporting", BytesDownloaded: 5}, "copying disks", false},
	} {
		if b := barOf(c.p); b.Text != c.text || b.Known != c.bar {
			t.Errorf("%s: %+v", name, b)
		}
	}
}

func TestAJobThatWaitsSaysWhatFor(t *testing.T) {
	t.Parallel()
	now := time.Now()
	soon, past := now.Add(90*time.Second), now.Add(-time.Second)
	for want, c := range map[string]struct {
		j    models.Job
		turn int
	}{
		"waiting for vCenter prod since T: it is away":   {models.Job{Status: "pending", WaitingFor: "waiting for vCenter prod since T: it is away"}, 0},
		"waiting for a free place: it is the next":       {models.Job{Status: "pending"}, 0},
		"waiting for its turn: 3 before it":              {models.Job{Status: "pending"}, 3},
		"waiting for its turn":                           {models.Job{Status: "pending", NextAttempt: &past}, -1},
		"tried again in 1m30s, after: the host has gone": {models.Job{Status: "pending", NextAttempt: &soon, Error: "the host has gone"}, -1},
		"cancelling: undoing what was begun":             {models.Job{Status: "running", Cancelling: true, Progress: &models.Progress{Phase: "exporting"}}, -1},
		"cancelling: waiting for vCenter prod":           {models.Job{Status: "pending", Cancelling: true, WaitingFor: "cancelling: waiting for vCenter prod"}, -1},
		"waiting for vCenter since 12:03: timeout":       {models.Job{Status: "running", Progress: &models.Progress{Phase: "exporting", Activity: "waiting for vCenter since 12:03: timeout"}}, -1},
		"copying disks": {models.Job{Status: "running", Progress: &models.Progress{Phase: "exporting"}}, -1},
		"starting":      {models.Job{Status: "running"}, -1},
		"completed":     {models.Job{Status: "completed", WaitingFor: "x"}, -1},
	} {
		if got := jobRow(c.j, c.turn, now).State; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
