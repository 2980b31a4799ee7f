package migrate_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi/object"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate/outdir"
	"github.com/hyper2kvm/hyper2kvm/migrate/workdir"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// changedGuest is a bench whose VM is changed by its export: a snapshot is made of
// it, and the CD in its drive ejected.
func changedGuest(t *testing.T, faults ...string) (*bench, job.Definition) {
	t.Helper()
	b := newBench(t, vspheretest.Config{
		VMs: []vspheretest.VM{{Name: "guest1", PoweredOn: true, ISO: []byte("an ISO image")}}, Faults: faults,
	}, rawDisk(t, mib, extent{0, mib, true}))
	b.m.Arrival = time.Second
	def := b.job(job.FormatRaw)
	def.Options.Snapshot, def.Options.RemoveCDROM = true, true
	return b, def
}

func TestAnExportGoesOnWhenTheAnswerToAChangeIsLost(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"CreateSnapshot_Task", "ReconfigVM_Task"} {
		for fault, asked := range map[string]int{
			"lose:call=M":                              1,
			"lose:call=M,how=503":                      1,
			"lose:call=M,how=html":                     1,
			"hang:call=M":                              1,
			"lose:call=M task:call=M,takes=2s":         1,
			"lose:call=M,effect=false":                 2,
			"lose:call=M,effect=false,how=html":        2,
			"lose:call=M,effect=false,how=503,times=2": 3,
			"hang:call=M,effect=false":                 2,
		} {
			fault = strings.ReplaceAll(fault, "=M", "="+method)
			t.Run(fault, func(t *testing.T) {
				t.Parallel()
				b, def := changedGuest(t, strings.Fields(fault)...)
				b.m.Endpoint = func(job.Definition) (vsphere.Config, error) {
					cfg := b.config()
					cfg.Timeouts.Change = 2 * time.Second
					return cfg, nil
				}
				b.identical(b.export(def))
				if n := b.asked(method); n != asked {
					t.Errorf("asked %d times, want %d", n, asked)
				}
				if cd := b.CDROM("guest1"); cd.Image != "" || cd.StartConnected {
					t.Errorf("the drive is %+v", cd)
				}
				b.Release() // calls that still hang
				b.clean()
				b.gone()
			})
		}
	}
}

func TestAnExportFailsWhenNoAnswerToAChangeEverComes(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"CreateSnapshot_Task", "ReconfigVM_Task"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			b, def := changedGuest(t, "lose:call="+method+",effect=false,times=always")
			_, _, err := b.run(t.Context(), def)
			if !errors.Is(err, vsphere.ErrPending) || !strings.Contains(err.Error(), "of "+b.InventoryPath("guest1")) {
				t.Errorf("error %v", err)
			}
			if n := b.asked(method); n < 3 {
				t.Errorf("asked %d times, want 3", n)
			}
			b.ClearFaults()
			if err := b.cleanUp(def); err != nil {
				t.Error(err)
			}
			b.clean()
			b.gone()
		})
	}
}

// left makes the ledger of a run that died, with what note adds to it, and no
// lease. It returns the name of the snapshot that the run had made.
func (b *bench) left(def job.Definition, note func(w *workdir.Dir, snapshot string) error) (snapshot string) {
	b.t.Helper()
	b.cancelAt(def, 0, mib/2, job.ErrClaimLost)
	b.ExpireLeases()
	w, err := workdir.Open(outdir.Roots{}, b.out, "guest1")
	if err != nil {
		b.t.Fatal(err)
	}
	snapshot = w.Owed().Snapshot
	if err := errors.Join(w.NoteLease(""), note(w, snapshot), w.Unlock()); err != nil {
		b.t.Fatal(err)
	}
	return snapshot
}

// nothing is what a run has written down that died between two changes.
func nothing(*workdir.Dir, string) error { return nil }

// whenSaid calls do, once, when the Migrator logs something with text in it.
func (b *bench) whenSaid(text string, do func()) (said func() bool) {
	h := &listener{Handler: slog.DiscardHandler, text: text, do: do}
	b.m.Log = slog.New(h)
	return func() bool { h.once.Do(func() {}); return h.heard }
}

type listener struct {
	slog.Handler
	text  string
	do    func()
	once  sync.Once
	heard bool
}

func (h *listener) Enabled(context.Context, slog.Level) bool { return true }
func (h *listener) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h *listener) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, h.text) {
		h.once.Do(func() { h.heard = true; h.do() })
	}
	return nil
}

// byHand makes a snapshot of that name, as a call that was repeated may.
func (b *bench) byHand(name string) {
	b.hands(func(ctx context.Context, vm *object.VirtualMachine) (*object.Task, error) {
		return vm.CreateSnapshot(ctx, name, "", false, false)
	})
}

func TestEverySnapshotOfTheNameIsRemoved(t *testing.T) {
	t.Parallel()
	for name, later := range map[string]func(*bench, job.Definition){
		"by the next run": func(b *bench, def job.Definition) { b.identical(b.export(def)) },
		"by cleaning up": func(b *bench, def job.Definition) {
			if err := b.cleanUp(def); err != nil {
				b.t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, def := runningGuest(t)
			b.byHand(b.left(def, nothing))
			if n := len(b.Snapshots("guest1")); n != 2 {
				t.Fatalf("%d snapshots", n)
			}
			later(b, def)
			b.clean()
			b.gone()
		})
	}
}

func TestASnapshotThatIsBeingMadeWithoutAWordInTheLedgerIsWaitedFor(t *testing.T) {
	t.Parallel()
	b, def := runningGuest(t)
	name := b.left(def, nothing)
	b.hands(func(ctx context.Context, vm *object.VirtualMachine) (*object.Task, error) {
		return vm.RemoveAllSnapshot(ctx, nil)
	})
	if err := b.AddFault("task:call=CreateSnapshot_Task,takes=1h"); err != nil {
		t.Fatal(err)
	}
	b.hands(func(ctx context.Context, vm *object.VirtualMachine) (*object.Task, error) { // what the run had asked for before it died
		_, err := vm.CreateSnapshot(ctx, name, "", false, false)
		return nil, err
	})
	heard := b.whenSaid("waiting for vSphere to make a snapshot", b.Release)
	if err := b.cleanUp(def); err != nil {
		t.Error(err)
	}
	if !heard() {
		t.Error("nobody has waited")
	}
	b.clean()
	b.gone()
}

// A process that dies while it asks may have sent the call at any time up to then,
// whenever it began to ask.
func TestACallOfARunThatDiedMayStillArrive(t *testing.T) {
	t.Parallel()
	long := vsphere.Wait{Task: vsphere.Task{What: "change the VM"}, Since: time.Now().Add(-time.Hour)}
	waits := "vSphere has not answered when it was asked to change the VM"
	t.Run("a snapshot", func(t *testing.T) {
		t.Parallel()
		b, def := runningGuest(t)
		b.m.Arrival = 2 * time.Second
		name := b.left(def, func(w *workdir.Dir, name string) error { return w.NoteSnapshot(name, long) })
		b.hands(func(ctx context.Context, vm *object.VirtualMachine) (*object.Task, error) {
			return vm.RemoveAllSnapshot(ctx, nil)
		})
		heard := b.whenSaid(waits, func() { b.byHand(name) })
		if err := b.cleanUp(def); err != nil || !heard() {
			t.Errorf("waited %t: %v", heard(), err)
		}
		b.clean()
		b.gone()
	})
	t.Run("drives, while the snapshot is there", func(t *testing.T) {
		t.Parallel()
		b, def := changedGuest(t)
		def.Options.RemoveCDROM = false
		b.m.Arrival = 2 * time.Second
		before := b.CDROM("guest1")
		plan := b.plan()
		b.left(def, func(w *workdir.Dir, _ string) error { return w.NoteDrives(plan, long) })
		heard := b.whenSaid(waits, b.eject)
		if err := b.cleanUp(def); err != nil || !heard() {
			t.Errorf("waited %t: %v", heard(), err)
		}
		if after := b.CDROM("guest1"); after != before {
			t.Errorf("the drive was %+v and is %+v", before, after)
		}
		b.clean()
		b.gone()
	})
}

// plan is what the ledger says of drives that are about to be changed.
func (b *bench) plan() (record json.RawMessage) {
	b.t.Helper()
	b.drives(func(ch *vsphere.CDROMChange) (err error) {
		record, err = json.Marshal(ch)
		return err
	})
	return record
}

// eject takes the CD out of the drive, as a call that arrives late does.
func (b *bench) eject() {
	b.drives(func(ch *vsphere.CDROMChange) error { return ch.Apply(context.Background()) })
}

func (b *bench) drives(do func(*vsphere.CDROMChange) error) {
	b.t.Helper()
	ctx := context.Background()
	c, err := vsphere.Dial(ctx, b.config())
	if err != nil {
		b.t.Fatal(err)
	}
	vm, err := c.Find(ctx, "guest1")
	if err != nil {
		b.t.Fatal(err)
	}
	ch, err := c.PlanCDROM(ctx, vm, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := errors.Join(do(ch), c.Close(ctx)); err != nil {
		b.t.Fatal(err)
	}
}
