package e2e

import (
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
)

// self is a daemon as it sees itself among the others.
func (f *flotilla) self(daemon int) models.Daemon {
	f.t.Helper()
	all, err := f.daemons[daemon].Daemons(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	if len(all.Daemons) != len(f.daemons) {
		f.t.Errorf("there are %d daemons, want %d", len(all.Daemons), len(f.daemons))
	}
	for _, d := range all.Daemons {
		if d.Self {
			return d
		}
	}
	f.t.Fatalf("daemon %d does not see itself: %+v", daemon, all.Daemons)
	return models.Daemon{}
}

// A daemon that is drained, at the request of the other, hands its jobs over, and all VMs
// arrive as they are.
func TestADrainedDaemonHandsItsJobsToTheOther(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a quarter of a minute")
	}
	t.Parallel()
	f := newFlotilla(t, flotillaOptions{vms: 3, daemons: 2, jobs: 3, limit: 3})
	for i := range f.defs { // so that none ends before it is handed over
		f.defs[i].Options.Limit = "16KiB/s"
	}
	f.daemons[0].accept(t, f.defs)
	f.until(func() bool { return f.busiest() >= 0 })
	from := f.busiest()
	other := f.daemons[1-from]
	id := f.self(from).ID
	if _, err := other.Drain(t.Context(), id, false); err != nil {
		t.Fatal(err)
	}
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for f.self(from).State != models.DaemonDrained {
		<-look.C
	}
	for _, def := range f.defs {
		if _, err := other.SetJobLimit(t.Context(), def.ID, "none"); err != nil {
			t.Fatal(err)
		}
	}
	f.until(f.finished)
	d := f.self(from)
	if d.ID != id || d.State != models.DaemonDrained || d.Drain != "now" {
		t.Errorf("at the end the daemon is %+v", d)
	}
	if n := f.query(`SELECT count(*) FROM jobs WHERE epoch > 1`); n == 0 {
		t.Error("no job was handed over")
	}
	if _, err := other.ResumeDaemon(t.Context(), id); err != nil {
		t.Error(err)
	}
	f.judge()
}
