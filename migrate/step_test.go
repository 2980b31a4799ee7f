package migrate_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// following is a bench whose exports are followed by what says in did what was asked of
// it.
type following struct {
	*bench
	set func() // has the bench's Migrator do what follows, as it is now
	did []string
}

// again runs the job, and returns what followed.
func (b *following) again(def job.Definition) ([]string, job.Result, error) {
	b.set()
	b.did = nil
	result, _, err := b.run(b.t.Context(), def)
	return b.did, result, err
}

// does fails the test unless the job succeeds, and is followed by just that.
func (b *following) does(def job.Definition, want ...string) job.Result {
	b.t.Helper()
	did, result, err := b.again(def)
	if err != nil || !result.Success || !slices.Equal(did, want) {
		b.t.Errorf("did %q, %v, %+v; want %q", did, err, result, want)
	}
	b.over()
	return result
}

// stepBench is followed by the steps "first" and "second".
type stepBench struct {
	following
	steps []migrate.TestStep
}

func newStepBench(t *testing.T) *stepBench {
	b := &stepBench{following: following{bench: newBench(t, vspheretest.Config{}, rawDisk(t, mib, extent{0, mib, true}))}}
	b.set = func() { b.m.SetSteps(b.steps...) }
	for _, name := range []string{"first", "second"} {
		b.steps = append(b.steps, migrate.TestStep{
			Name: name, Asked: "it",
			Do: func(context.Context, func(any) error) error {
				b.did = append(b.did, name)
				return nil
			},
			Settle: func(_ context.Context, notes string) (bool, error) {
				b.did = append(b.did, "settle "+name+" "+notes)
				return false, nil
			},
		})
	}
	return b
}

func TestStepsFollowAnExportOnceAndInTheirOrder(t *testing.T) {
	t.Parallel()
	b := newStepBench(t)
	def := b.job(job.FormatQcow2)
	b.identical(b.does(def, "first", "second"))
	served := b.BytesServed("guest1", 0)
	b.does(def)
	b.steps[1].Asked = "something else"
	b.does(def, "second")
	b.steps[0].Asked = "something else" // the second works on what the first leaves
	b.does(def, "first", "second")
	if n := b.BytesServed("guest1", 0) - served; n > 0 {
		t.Errorf("%d bytes were fetched again", n)
	}
	if h := b.hidden(); len(h) > 0 {
		t.Errorf("the work directory has %q", h)
	}
}

func TestAStepThatIsNotAskedForIsNotDone(t *testing.T) {
	t.Parallel()
	b := newStepBench(t)
	b.steps[0].Asked = ""
	b.does(b.job(job.FormatRaw), "second")
}

func TestAStepThatFailsLeavesTheExportAndIsWhereTheNextRunBegins(t *testing.T) {
	t.Parallel()
	for said, fail := range map[string]func() error{
		"no such pool":   func() error { return errors.New("no such pool") },
		"internal error": func() error { panic("a bug") },
	} {
		t.Run(said, func(t *testing.T) {
			t.Parallel()
			b := newStepBench(t)
			def := b.job(job.FormatQcow2)
			good := b.steps[1].Do
			b.steps[1].Do = func(_ context.Context, note func(any) error) error {
				return errors.Join(note("early"), note("late"), fail())
			}
			did, result, err := b.again(def)
			if err == nil || result.Success || !strings.Contains(err.Error(), "second") || !strings.Contains(err.Error(), said) ||
				!strings.Contains(migrate.Hint(err), "is finished") {
				t.Errorf("the run ends with %v (%s), %+v", err, migrate.Hint(err), result)
			}
			if want := []string{"first", `settle second "late"`}; !slices.Equal(did, want) {
				t.Errorf("did %q, want %q", did, want)
			}
			if h := b.hidden(); len(h) > 0 {
				t.Errorf("the work directory has %q", h)
			}
			served := b.BytesServed("guest1", 0)
			b.steps[1].Do = good
			b.identical(b.does(def, "second"))
			if n := b.BytesServed("guest1", 0) - served; n > 0 {
				t.Errorf("%d bytes were fetched again", n)
			}
		})
	}
}

func TestWhatIsInTheWayOfAStepIsSaidBeforeAByteMovesAndForAFinishedExportToo(t *testing.T) {
	t.Parallel()
	b := newStepBench(t)
	def := b.job(job.FormatQcow2)
	b.steps[1].Obstacles = func() []vsphere.Obstacle {
		return []vsphere.Obstacle{{Code: "pool", Severity: vsphere.SeverityError, Text: "there is no pool default"}}
	}
	refused := func(exported bool) {
		t.Helper()
		did, _, err := b.again(def)
		_, obstacles, cerr := b.m.Check(t.Context(), def)
		var e *migrate.PreflightError
		if !errors.As(err, &e) || e.Exported != exported || len(e.Obstacles) != 1 || !strings.Contains(err.Error(), "no pool") || len(did) > 0 {
			t.Errorf("did %q, and ends with %v", did, err)
		}
		if cerr != nil || len(obstacles) != 1 || obstacles[0].Code != "pool" {
			t.Errorf("the check says %v, %v", obstacles, cerr)
		}
	}
	refused(false)
	if n := b.BytesServed("guest1", 0); n > 0 {
		t.Errorf("%d bytes were fetched", n)
	}
	asked := b.steps
	b.steps = nil
	b.m.AcceptFinished = true
	if _, _, err := b.again(def); err != nil {
		t.Fatal(err)
	}
	b.steps = asked
	refused(true)
	b.steps[1].Obstacles = nil
	b.does(def, "first", "second")
}

// die takes the output directory as it is in the midst of the second step, as a
// process leaves it that dies there.
func (b *stepBench) die(def job.Definition) {
	b.t.Helper()
	left := filepath.Join(b.t.TempDir(), "left")
	good := b.steps[1].Do
	b.steps[1].Do = func(_ context.Context, note func(any) error) error {
		return errors.Join(note("begun"), os.CopyFS(left, os.DirFS(b.out)))
	}
	_, _, err := b.again(def)
	b.steps[1].Do = good
	if err := errors.Join(err, os.RemoveAll(b.out), os.Rename(left, b.out)); err != nil {
		b.t.Fatal(err)
	}
}

func TestAStepThatAProcessDiedInIsSettledByWhoeverComesNext(t *testing.T) {
	t.Parallel()
	const settle = `settle second "begun"`
	settled := func(b *stepBench) {
		b.t.Helper()
		if !slices.Equal(b.did, []string{settle}) || len(b.hidden()) > 0 {
			b.t.Errorf("did %q; the work directory has %q", b.did, b.hidden())
		}
		b.m.AcceptFinished = true
		b.does(b.job(job.FormatRaw), "second") // and the export is there
	}
	for name, comes := range map[string]func(*stepBench, job.Definition){
		"the next run": func(b *stepBench, def job.Definition) { b.does(def, settle, "second") },
		"the next run, of a step that turns out to be done": func(b *stepBench, def job.Definition) {
			b.steps[1].Settle = func(context.Context, string) (bool, error) { return true, nil }
			b.does(def)
		},
		"the end of the job": func(b *stepBench, def job.Definition) {
			if owes, err := b.m.Owes(def); err != nil || !owes {
				b.t.Errorf("owes: %t, %v", owes, err)
			}
			b.did = nil
			if err := b.cleanUp(def); err != nil {
				b.t.Error(err)
			}
			settled(b)
		},
		"clean": func(b *stepBench, def job.Definition) {
			b.did = nil
			for _, dry := range []bool{true, false} {
				c := b.m.NewCleaner(progress.New())
				found, ok := c.Settle(b.t.Context(), filepath.Join(b.out, ".hyper2kvm-guest1"), migrate.CleanOptions{DryRun: dry})
				if want := map[bool]migrate.CleanState{true: migrate.CleanOwed, false: migrate.CleanSettled}[dry]; !ok || found.State != want {
					b.t.Errorf("dry run %t: %+v", dry, found)
				}
			}
			settled(b)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newStepBench(t)
			def := b.job(job.FormatRaw)
			b.die(def)
			comes(b, def)
		})
	}
}

func TestWhatCannotBeSettledStaysWrittenDown(t *testing.T) {
	t.Parallel()
	b := newStepBench(t)
	def := b.job(job.FormatRaw)
	good := b.steps[1]
	b.steps[1].Do = func(_ context.Context, note func(any) error) error {
		return errors.Join(note("volume"), errors.New("libvirt is away"))
	}
	b.steps[1].Settle = func(context.Context, string) (bool, error) { return false, errors.New("libvirt is still away") }
	for range 2 {
		_, _, err := b.again(def)
		if err == nil || !strings.Contains(err.Error(), "libvirt is still away") || !slices.Contains(b.hidden(), "ledger.json") {
			t.Errorf("the run ends with %v and leaves %q", err, b.hidden())
		}
	}
	b.steps[1] = good
	b.does(def, `settle second "volume"`, "second")
}

func TestAStepThatIsCancelledIsSettledAndTheExportStays(t *testing.T) {
	t.Parallel()
	b := newStepBench(t)
	def := b.job(job.FormatRaw)
	ctx, cancel := context.WithCancelCause(t.Context())
	b.steps[0].Do = func(ctx context.Context, note func(any) error) error {
		cancel(job.Cancelled{})
		<-ctx.Done()
		return errors.Join(note("x"), ctx.Err())
	}
	b.steps[0].Settle = func(ctx context.Context, notes string) (bool, error) {
		b.did = append(b.did, fmt.Sprint(notes, ctx.Err()))
		return false, nil
	}
	b.m.SetSteps(b.steps...)
	_, _, err := b.run(ctx, def)
	if !errors.Is(err, context.Canceled) || !slices.Equal(b.did, []string{`"x"<nil>`}) {
		t.Errorf("ends with %v, did %q", err, b.did)
	}
	if v := b.visible(); len(v) != 3 || len(b.hidden()) > 0 {
		t.Errorf("there are %q, and %q in the work directory", v, b.hidden())
	}
}

func TestNothingAtVSphereWaitsForASeriesOfSteps(t *testing.T) {
	t.Parallel()
	b := newStepBench(t)
	if err := b.PowerOn("guest1"); err != nil {
		t.Fatal(err)
	}
	def := b.job(job.FormatRaw)
	def.Options.Snapshot = true
	b.steps[0].Do = func(context.Context, func(any) error) error {
		if s, l := b.Snapshots("guest1"), b.Leases(); len(s)+len(l) > 0 {
			t.Errorf("there are snapshots %v and leases %v", s, l)
		}
		return nil
	}
	b.does(def, "second")
}
