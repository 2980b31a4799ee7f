package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/client"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// fleet is a lab with n small VMs, and a job for each.
func fleet(t *testing.T, n int, out string) (*vspheretest.Server, string, []job.Definition) {
	t.Helper()
	source := rawDisk(t, mib, 64<<10, 7)
	var cfg vspheretest.Config
	for i := range n {
		cfg.VMs = append(cfg.VMs, vspheretest.VM{Name: fmt.Sprintf("vm%03d", i), Disks: []vspheretest.Disk{{Path: source}}})
	}
	lab := startLab(t, cfg)
	var defs []job.Definition
	for _, vm := range cfg.VMs {
		defs = append(defs, job.Definition{
			ID: vm.Name, VMPath: lab.InventoryPath(vm.Name), OutputPath: filepath.Join(out, vm.Name),
			Options: job.Options{Format: job.FormatRaw},
		})
	}
	return lab, source, defs
}

// accept submits jobs that must be accepted.
func (p *process) accept(t *testing.T, defs []job.Definition) {
	t.Helper()
	if r, err := p.Submit(t.Context(), defs, true); err != nil || r.Accepted != len(defs) {
		t.Fatalf("submit: %+v, %v", r, err)
	}
}

// awaitTrouble waits until the daemon says that jobs wait for a vCenter.
func (p *process) awaitTrouble(t *testing.T) models.VCenter {
	t.Helper()
	for ; ; pause() {
		s, err := p.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(s.VCenters) > 0 {
			return s.VCenters[0]
		}
	}
}

// awaitCompleted waits until n jobs have ended, none of them other than completed.
// They may be handed back meanwhile.
func (p *process) awaitCompleted(t *testing.T, n int) {
	t.Helper()
	p.released(t, n, models.StatusCompleted, models.StatusPending)
}

// released waits until n jobs were released as want, and none as anything else but
// what may come in between.
func (p *process) released(t *testing.T, n int, want models.Status, between ...models.Status) {
	t.Helper()
	for n > 0 {
		l, ok := <-p.lines
		switch status := models.Status(l.Status); {
		case !ok:
			t.Fatal("the daemon died")
		case l.Msg != "job released":
		case status == want:
			n--
		case !slices.Contains(between, status):
			j, err := p.Job(t.Context(), l.Job)
			t.Fatalf("job %s is %s, want %s: %s (%v)", l.Job, status, want, j.Error, err)
		}
	}
}

// unharmed checks that all jobs are completed, that no attempt was counted, and
// that nothing is left at the lab.
func unharmed(t *testing.T, lab *vspheretest.Server, d *process, source string, defs []job.Definition) {
	t.Helper()
	for _, def := range defs {
		j, err := d.Job(t.Context(), def.ID)
		if err != nil {
			t.Fatal(err)
		}
		if j.Status != models.StatusCompleted || j.Attempts != 0 || j.WaitingFor != "" {
			t.Errorf("job %s is %s after %d failed attempts, and waits for %q", def.ID, j.Status, j.Attempts, j.WaitingFor)
		}
	}
	j, err := d.Job(t.Context(), defs[len(defs)/2].ID)
	if err != nil {
		t.Fatal(err)
	}
	identical(t, j, source)
	nothingIsLeft(t, lab)
}

func TestAVCenterThatIsAwayAtTheStartBurnsNoJob(t *testing.T) {
	t.Parallel()
	for _, how := range []vspheretest.Outage{vspheretest.Refuse, vspheretest.Unavailable, vspheretest.HTML, vspheretest.Reset} {
		t.Run(string(how), func(t *testing.T) {
			t.Parallel()
			out := t.TempDir()
			lab, source, defs := fleet(t, 44, out)
			up := lab.Down(vspheretest.Control, how)
			defer up()
			h := newHome(t, lab, "-jobs", "8")
			d := h.start()
			d.accept(t, defs)
			v := d.awaitTrouble(t)
			if v.Name != "lab" || v.State != "unreachable" || v.Reason == "" {
				t.Errorf("vCenter: %+v", v)
			}
			for ; ; pause() {
				s, err := d.Status(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if s.RunningJobs > 0 {
					continue // they are about to find out
				}
				if s.PendingJobs != len(defs) || s.VCenters[0].Waiting != len(defs) {
					t.Errorf("while the vCenter is away: %+v", s)
				}
				break
			}
			j, err := d.Job(t.Context(), defs[43].ID)
			if err != nil || !strings.HasPrefix(j.WaitingFor, "waiting for vCenter lab since ") {
				t.Errorf("a job that was never run waits for %q (%v)", j.WaitingFor, err)
			}
			up()
			d.awaitCompleted(t, len(defs))
			unharmed(t, lab, d, source, defs)
			if n := strings.Count(h.said(), "its jobs wait"); n != 1 {
				t.Errorf("the log says %d times that jobs wait, want once", n)
			}
			d.stop(t)
		})
	}
}

func TestAVCenterThatGoesAwayInTheMiddleBurnsNoJob(t *testing.T) {
	t.Parallel()
	lab, source, defs := fleet(t, 60, t.TempDir())
	d := newHome(t, lab, "-jobs", "8").start()
	d.accept(t, defs)
	d.awaitCompleted(t, 10)
	if err := lab.AddFault("down:plane=control,for=4s,how=503"); err != nil {
		t.Fatal(err)
	}
	d.awaitCompleted(t, len(defs)-10)
	unharmed(t, lab, d, source, defs)
	d.stop(t)
}

func TestAWrongPasswordIsTriedOnceAndHoldsTheJobsUntilItIsCorrected(t *testing.T) {
	t.Parallel()
	lab, source, defs := fleet(t, 100, t.TempDir())
	h := newHome(t, lab, "-jobs", "16")
	right, err := os.ReadFile(filepath.Join(h.dir, "password-lab"))
	if err != nil {
		t.Fatal(err)
	}
	h.write("password-lab", "wrong\n")
	d := h.start()
	d.accept(t, defs)
	if v := d.awaitTrouble(t); v.State != "login_refused" {
		t.Errorf("vCenter: %+v", v)
	}
	// Others ask with the same password.
	if _, err := d.VMs(t.Context(), "lab", 0, ""); err == nil || !strings.Contains(err.Error(), "not tried again") {
		t.Errorf("the inventory: %v, want a login that is not tried", err)
	}
	if _, err := d.Check(t.Context(), defs[0]); err == nil {
		t.Error("a check with a refused login found nothing")
	}
	s, err := d.Status(t.Context())
	if err != nil || s.FailedJobs != 0 || s.CompletedJobs != 0 {
		t.Errorf("status: %+v, %v", s, err)
	}
	// A person who says so gets one more.
	if _, err := d.Resume(t.Context(), "lab"); err != nil {
		t.Fatal(err)
	}
	for lab.Logins().Failed < 2 {
		pause()
	}
	h.write("password-lab", string(right))
	d.awaitCompleted(t, len(defs))
	unharmed(t, lab, d, source, defs)
	if n := lab.Logins().Failed; n != 2 {
		t.Errorf("%d logins were refused, want 2: the first, and the one that a person asked for", n)
	}
	d.stop(t)
}

func TestJobsThatBringTheSameWrongPasswordMakeOneLogin(t *testing.T) {
	t.Parallel()
	lab, _, defs := fleet(t, 40, t.TempDir())
	for i := range defs {
		defs[i].VCenterURL, defs[i].Insecure = "https://"+lab.URL().Host+"/sdk", true
		defs[i].Username, defs[i].Password = "alice", "wrong"
		defs[i].Options.Retries = 3
	}
	d := newHome(t, lab, "-jobs", "16").start()
	d.accept(t, defs)
	d.released(t, len(defs), models.StatusFailed) // at once: a password that a job brings does not change
	if n := lab.Logins(); n.Failed != 1 {
		t.Errorf("logins: %+v, want one refused for 40 jobs", n)
	}
	d.stop(t)
}

func TestACancelAtAHungVCenterIsBoundedAndSoIsTheShutdown(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	t.Parallel()
	lab, _ := guest(t, vspheretest.Config{Faults: []string{"stall:at=1MiB,times=always"}})
	reached := lab.ByteReached("guest", 1, 1*mib)
	j := submit(t, lab, newHome(t, lab), job.Options{Format: job.FormatQcow2})
	j.at(t, reached)
	up := lab.Down(vspheretest.Control, vspheretest.Hang)
	defer up()
	type answer struct {
		models.CancelResult
		err error
	}
	answered := make(chan answer, 1)
	go func() {
		r, err := j.daemon.Cancel(t.Context(), []string{j.id}, false)
		answered <- answer{r, err}
	}()
	for ; ; pause() {
		shown, err := j.daemon.Job(t.Context(), j.id)
		if err != nil {
			t.Fatal(err)
		}
		if shown.Cancelling {
			if !strings.HasPrefix(shown.WaitingFor, "cancelling: waiting for vCenter lab") {
				t.Errorf("the job waits for %q", shown.WaitingFor)
			}
			break
		}
	}
	if a := <-answered; a.err != nil || len(a.Cancelled) != 1 {
		t.Fatalf("cancel: %+v, %v", a.CancelResult, a.err)
	}
	shown, err := j.daemon.Job(t.Context(), j.id)
	if err != nil || shown.Status != models.StatusCancelled || !strings.Contains(shown.Error, "hyper2kvm clean") {
		t.Errorf("the job is %s: %q (%v), want it to tell what is owed", shown.Status, shown.Error, err)
	}
	if _, err := j.daemon.Retry(t.Context(), j.id); !errors.Is(err, client.ErrConflict) {
		t.Errorf("a retry while the run still undoes: %v, want a conflict", err)
	}
	began := time.Now()
	j.daemon.stop(t) // exits with 0
	t.Logf("stopped after %v", time.Since(began).Round(time.Millisecond))
}
