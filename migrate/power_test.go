package migrate_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// stopping is the export of toolsGuest that shuts it down.
func (b *bench) stopping() job.Definition {
	b.m.Arrival = time.Second
	def := b.job(job.FormatRaw)
	def.Options.Shutdown = true
	return def
}

// runs checks that the VM runs, and that nothing of an export is left.
func (b *bench) runs() {
	b.t.Helper()
	if p := b.PowerState("guest1"); p != vsphere.PoweredOn {
		b.t.Errorf("the VM is %s", p)
	}
	b.clean()
}

func TestAGuestIsShutDownThenExportedAndStaysOff(t *testing.T) {
	t.Parallel()
	for name, faults := range map[string][]string{
		"as a rule":                           nil,
		"the answer is lost":                  {"lose:call=ShutdownGuest"},
		"the call is lost":                    {"lose:call=ShutdownGuest,effect=false"},
		"its answer is lost, as by a proxy":   {"lose:call=ShutdownGuest,how=html"},
		"a call that is lost, as by a proxy":  {"lose:call=ShutdownGuest,effect=false,how=503"},
		"the first lease is refused":          {"fault:call=ExportVm,fault=TaskInProgress"},
		"the stream breaks, and comes again":  {"cut:at=200KB"},
		"the session ends in the midst of it": {"session:at=200KB,keep=true"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := toolsGuest(t, tools(), faults...)
			result := b.export(b.stopping())
			b.identical(result)
			if b.PowerState("guest1") != vsphere.PoweredOff || len(result.Owed) > 0 {
				t.Errorf("the VM is %s; owed %q", b.PowerState("guest1"), result.Owed)
			}
			if result.Network == nil || result.Network.HostName != "web1" {
				t.Errorf("what Tools said is %+v", result.Network)
			}
			b.clean()
			b.gone()
		})
	}
}

func TestAGuestThatDoesNotShutDownInTimeIsLeftRunning(t *testing.T) {
	t.Parallel()
	g := tools()
	g.ShutdownTakes = -1
	b := toolsGuest(t, g)
	def := b.stopping()
	def.Options.ShutdownTimeout = "1s"
	_, _, err := b.run(t.Context(), def)
	if !errors.Is(err, migrate.ErrStillOn) || !strings.Contains(migrate.Hint(err), "-power-off") {
		t.Errorf("error %v, hint %q", err, migrate.Hint(err))
	}
	if b.asked("PowerOffVM_Task") > 0 {
		t.Error("it was powered off")
	}
	b.runs()
	b.gone()
}

// The guest goes off when nobody waits for it any more.
func TestAGuestThatShutsDownTooLateIsPoweredOnAgain(t *testing.T) {
	t.Parallel()
	g := tools()
	g.ShutdownTakes = time.Hour
	b := toolsGuest(t, g)
	def := b.stopping()
	def.Options.ShutdownTimeout = "1s"
	b.m.Arrival = time.Minute
	b.whenSaid("may still do so", b.Release)
	if _, _, err := b.run(t.Context(), def); !errors.Is(err, migrate.ErrStillOn) {
		t.Error(err)
	}
	if b.asked("PowerOnVM_Task") != 1 {
		t.Error("it did not go off")
	}
	b.runs()
	b.gone()
}

func TestAGuestIsPoweredOffOnlyWhenThatIsAskedFor(t *testing.T) {
	t.Parallel()
	never := tools()
	never.ShutdownTakes = -1
	for name, c := range map[string]struct {
		guest   *vspheretest.Guest
		options job.Options
		faults  string
		ok      bool
	}{
		"no Tools":                              {nil, job.Options{Shutdown: true}, "", false},
		"no Tools, and it may be powered off":   {nil, job.Options{Shutdown: true, PowerOff: true}, "", true},
		"powered off at once":                   {never, job.Options{PowerOff: true}, "", true},
		"never goes off":                        {never, job.Options{Shutdown: true, ShutdownTimeout: "1s"}, "", false},
		"never goes off, and may be":            {never, job.Options{Shutdown: true, ShutdownTimeout: "1s", PowerOff: true}, "", true},
		"Tools refuse":                          {tools(), job.Options{Shutdown: true}, "fault:call=ShutdownGuest,fault=ToolsUnavailable", false},
		"Tools refuse, and it may":              {tools(), job.Options{Shutdown: true, PowerOff: true}, "fault:call=ShutdownGuest,fault=ToolsUnavailable", true},
		"the answer to the power-off is lost":   {nil, job.Options{PowerOff: true}, "lose:call=PowerOffVM_Task", true},
		"the power-off is lost":                 {nil, job.Options{PowerOff: true}, "lose:call=PowerOffVM_Task,effect=false,how=503", true},
		"the power-off takes long":              {nil, job.Options{PowerOff: true}, "task:call=PowerOffVM_Task,takes=2s", true},
		"the power-off takes long, unanswered":  {nil, job.Options{PowerOff: true}, "lose:call=PowerOffVM_Task task:call=PowerOffVM_Task,takes=2s", true},
		"the power-off fails":                   {nil, job.Options{PowerOff: true}, "task:call=PowerOffVM_Task,fault=SystemError,takes=1ms", false},
		"the power-off never gets an answer":    {nil, job.Options{PowerOff: true}, "lose:call=PowerOffVM_Task,effect=false,times=always", false},
		"neither, as it was before the options": {tools(), job.Options{}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := toolsGuest(t, c.guest, strings.Fields(c.faults)...)
			def := b.stopping()
			def.Options = c.options
			def.Options.Format = job.FormatRaw
			result, _, err := b.run(t.Context(), def)
			if (err == nil) != c.ok {
				t.Fatalf("error %v", err)
			}
			b.ClearFaults()
			if c.ok {
				b.identical(result)
				if b.PowerState("guest1") != vsphere.PoweredOff {
					t.Error("it runs")
				}
				b.clean()
				b.gone()
				return
			}
			if err := b.cleanUp(def); err != nil {
				t.Error(err)
			}
			b.runs()
			b.gone()
		})
	}
}

// failures are what ends an export after the VM was stopped.
var failures = map[string]string{
	"the lease is refused":       "fault:call=ExportVm,fault=SystemError,times=always",
	"the drives cannot come out": "task:call=ReconfigVM_Task,fault=SystemError,takes=1ms",
}

func TestAFailedExportLeavesTheSourceAsItWas(t *testing.T) {
	t.Parallel()
	for name, faults := range failures {
		for _, on := range []bool{true, false} {
			state := map[bool]string{true: " of a VM that ran", false: " of a VM that was off"}[on]
			t.Run(name+state, func(t *testing.T) {
				t.Parallel()
				b := newBench(t, vspheretest.Config{
					VMs: []vspheretest.VM{{Name: "guest1", PoweredOn: on, Guest: tools(), ISO: []byte("image")}}, Faults: strings.Fields(faults),
				}, rawDisk(t, mib, extent{0, mib, false}))
				def := b.stopping()
				def.Options.RemoveCDROM = true
				before := b.CDROM("guest1")
				if _, _, err := b.run(t.Context(), def); err == nil {
					t.Fatal("the export was to fail")
				}
				if (b.PowerState("guest1") == vsphere.PoweredOn) != on {
					t.Errorf("the VM is %s", b.PowerState("guest1"))
				}
				if on && b.asked("ShutdownGuest") != 1 {
					t.Error("it was never stopped")
				}
				if !on && b.asked("PowerOnVM_Task")+b.asked("ShutdownGuest") > 0 {
					t.Error("a VM that was off was powered on or shut down")
				}
				if after := b.CDROM("guest1"); after != before {
					t.Errorf("the drive was %+v and is %+v", before, after)
				}
				b.clean()
				b.ClearFaults()
				b.identical(b.export(def))
				b.gone()
			})
		}
	}
}

func TestAnAnswerToThePowerOnThatIsLostIsNoReasonToLeaveTheSourceOff(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{
		"lose:call=PowerOnVM_Task", "lose:call=PowerOnVM_Task,effect=false", "lose:call=PowerOnVM_Task,how=html",
		"task:call=PowerOnVM_Task,takes=2s", "lose:call=PowerOnVM_Task task:call=PowerOnVM_Task,takes=1s",
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			b := toolsGuest(t, tools(), append(strings.Fields(fault), "fault:call=ExportVm,fault=SystemError,times=always")...)
			def := b.stopping()
			if _, _, err := b.run(t.Context(), def); err == nil {
				t.Fatal("the export was to fail")
			}
			b.runs()
			b.gone()
		})
	}
}

func TestASourceThatCannotBePoweredOnIsOwedUntilItCan(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]string{
		"refused":  "fault:call=PowerOnVM_Task,fault=InsufficientResourcesFault,times=always",
		"no right": "fault:call=PowerOnVM_Task,fault=NoPermission,times=always",
		"fails":    "task:call=PowerOnVM_Task,fault=SystemError,takes=1ms,times=always",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := toolsGuest(t, tools(), fault, "fault:call=ExportVm,fault=SystemError,times=always")
			def := b.stopping()
			_, _, err := b.run(t.Context(), def)
			b.owes(err, "the VM ran and was stopped")
			b.ClearFaults()
			if err := b.cleanUp(def); err != nil {
				t.Error(err)
			}
			b.runs()
			b.gone()
		})
	}
}

// killed ends a run as kill -9 does, when the VM was stopped and a disk is underway.
func (b *bench) killed(def job.Definition) {
	b.t.Helper()
	b.cancelAt(def, 0, 200_000, job.ErrClaimLost)
	b.ExpireLeases()
	if b.PowerState("guest1") != vsphere.PoweredOff {
		b.t.Fatal("the VM was to be off")
	}
}

func TestTheSourceOfARunThatWasKilledIsPoweredOnAgain(t *testing.T) {
	t.Parallel()
	clean := func(b *bench, def job.Definition) {
		if err := b.cleanUp(def); err != nil {
			b.t.Error(err)
		}
	}
	for name, c := range map[string]struct {
		later func(*bench, job.Definition)
		runs  bool
	}{
		"by cleaning up":           {clean, true},
		"by a next run that fails": {func(b *bench, def job.Definition) { b.failing(def) }, true},
		"not by one that succeeds": {func(b *bench, def job.Definition) { b.identical(b.export(def)) }, false},
		"nor when somebody else did": {func(b *bench, def job.Definition) {
			if err := b.PowerOn("guest1"); err != nil {
				b.t.Error(err)
			}
			clean(b, def)
			if b.asked("PowerOnVM_Task") > 0 {
				b.t.Error("it was powered on twice")
			}
		}, true},
		"by hyper2kvm clean": {func(b *bench, _ job.Definition) {
			c := b.m.NewCleaner(progress.New())
			defer c.Close(context.Background())
			out, _ := c.Settle(context.Background(), filepath.Join(b.out, ".hyper2kvm-guest1"), migrate.CleanOptions{Parts: true})
			if out.Remains() || len(out.Settled) == 0 {
				b.t.Errorf("%+v", out)
			}
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := toolsGuest(t, tools())
			def := b.stopping()
			b.killed(def)
			c.later(b, def)
			if on := b.PowerState("guest1") == vsphere.PoweredOn; on != c.runs {
				t.Errorf("runs %t", on)
			}
			b.clean()
			b.gone()
		})
	}
}

// failing is a run that fails.
func (b *bench) failing(def job.Definition) {
	b.t.Helper()
	if err := b.AddFault("fault:call=ExportVm,fault=SystemError,times=always"); err != nil {
		b.t.Fatal(err)
	}
	if _, _, err := b.run(context.Background(), def); err == nil {
		b.t.Error("the export was to fail")
	}
	b.ClearFaults()
}

// What was fetched before the VM ran again is not what it holds now.
func TestNothingIsKeptOfAVMThatHasRunInBetween(t *testing.T) {
	t.Parallel()
	raw := []string{rawDisk(t, mib, extent{0, mib, false}), rawDisk(t, mib, extent{0, mib / 2, false})}
	b := newBench(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "guest1", PoweredOn: true, Guest: tools()}}}, raw...)
	def := b.stopping()
	def.Options.ParallelDownloads = 1
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	b.OnByte("guest1", 1, 100_000, func() { cancel(job.ErrShutdown) }) // the first disk is here
	if _, _, err := b.run(ctx, def); err == nil {
		t.Fatal("the run was to end early")
	}
	b.runs()
	b.raw[0] = rawDisk(t, mib, extent{mib / 2, mib / 2, false})
	if err := b.SetDisk("guest1", 0, stream(t, b.raw[0])); err != nil {
		t.Fatal(err)
	}
	b.identical(b.export(def))
	b.gone()
}

func TestAGuestThatWasShuttingDownWhenTheRunWasKilledIsPoweredOnAgain(t *testing.T) {
	t.Parallel()
	g := tools()
	g.ShutdownTakes = time.Hour
	b := toolsGuest(t, g)
	def := b.stopping()
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	b.whenSaid("waiting until the guest has shut down", func() { cancel(job.ErrClaimLost) })
	if _, _, err := b.run(ctx, def); !errors.Is(err, job.ErrClaimLost) {
		t.Error(err)
	}
	b.whenSaid("may still do so", b.Release)
	if err := b.cleanUp(def); err != nil {
		t.Error(err)
	}
	if b.asked("PowerOnVM_Task") != 1 {
		t.Error("nobody has waited for the guest to go off")
	}
	b.runs()
	b.gone()
}

func TestAnOutageWhileTheGuestShutsDownIsWaitedOut(t *testing.T) {
	t.Parallel()
	b := toolsGuest(t, tools())
	b.OnCall("ShutdownGuest", func() {
		if err := b.AddFault("down:for=1500ms,how=503,plane=control"); err != nil {
			t.Error(err)
		}
	})
	b.identical(b.export(b.stopping()))
	if b.PowerState("guest1") != vsphere.PoweredOff {
		t.Error("it runs")
	}
	b.clean()
	b.gone()
}

func TestARunThatIsKilledAtAnyCallOwesTheSourceAsItWas(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"ShutdownGuest", "PowerOffVM_Task", "ReconfigVM_Task", "ExportVm"} {
		for name, later := range map[string]func(*bench, job.Definition){
			"the next run fails": func(b *bench, def job.Definition) { b.failing(def) },
			"cleaning up": func(b *bench, def job.Definition) {
				if err := b.cleanUp(def); err != nil {
					b.t.Error(err)
				}
			},
		} {
			t.Run(method+", "+name, func(t *testing.T) {
				t.Parallel()
				b := newBench(t, vspheretest.Config{
					VMs: []vspheretest.VM{{Name: "guest1", PoweredOn: true, Guest: tools(), ISO: []byte("image")}}, LeaseTimeout: 2 * time.Second,
				}, rawDisk(t, mib, extent{0, mib, false}))
				def := b.stopping()
				def.Options.RemoveCDROM = true
				def.Options.Shutdown, def.Options.PowerOff = method != "PowerOffVM_Task", method == "PowerOffVM_Task"
				before := b.CDROM("guest1")
				_ = b.cancelOn(method, def, job.ErrClaimLost)
				b.ExpireLeases()
				later(b, def)
				if after := b.CDROM("guest1"); after != before {
					t.Errorf("the drive was %+v and is %+v", before, after)
				}
				b.runs()
			})
		}
	}
}

// stoppedFor is a bench whose VM is stopped for an export that the steps follow.
func stoppedFor(t *testing.T, steps ...migrate.TestStep) (*bench, job.Definition) {
	t.Helper()
	b := toolsGuest(t, tools())
	b.m.SetSteps(steps...)
	return b, b.stopping()
}

func TestTheSourceIsOffWhileStepsFollowAndStaysOffAfterThem(t *testing.T) {
	t.Parallel()
	var during string
	var b *bench
	b, def := stoppedFor(t, migrate.TestStep{Name: "landing", Asked: "it", Do: func(context.Context, func(any) error) error {
		during = string(b.PowerState("guest1"))
		return nil
	}})
	b.identical(b.export(def))
	if after := b.PowerState("guest1"); during != vsphere.PoweredOff || after != vsphere.PoweredOff {
		t.Errorf("the VM was %s during the step, and is %s", during, after)
	}
	b.clean()
	b.gone()
}

func fails(context.Context, func(any) error) error { return errors.New("the pool is full") }

func TestASourceWhoseExportCannotLandRunsAgainAndTheExportIsToldToBeOld(t *testing.T) {
	t.Parallel()
	b, def := stoppedFor(t, migrate.TestStep{Name: "landing", Asked: "it", Do: fails})
	_, _, err := b.run(t.Context(), def)
	if err == nil || !strings.Contains(err.Error(), "the pool is full") || !strings.Contains(migrate.Hint(err), "-overwrite") {
		t.Errorf("error %v, hint %q", err, migrate.Hint(err))
	}
	b.runs()
	b.gone()
	b.m.SetSteps(migrate.TestStep{Name: "landing", Asked: "it", Do: func(context.Context, func(any) error) error {
		t.Error("an old export has landed")
		return nil
	}})
	if _, _, err := b.run(t.Context(), def); !errors.Is(err, migrate.ErrExists) || !strings.Contains(err.Error(), "older") {
		t.Errorf("error %v", err)
	}
	b.runs()
	b.m.SetSteps()
	def.Options.Overwrite = true
	b.identical(b.export(def))
}

func TestASourceStaysOffWhenWhatBecameOfItMayRun(t *testing.T) {
	t.Parallel()
	done := func(context.Context, func(any) error) error { return nil }
	b, def := stoppedFor(t, migrate.TestStep{Name: "landing", Asked: "it", Do: done}, migrate.TestStep{Name: "finishing", Asked: "it", Do: fails})
	if _, _, err := b.run(t.Context(), def); err == nil {
		t.Error("the step was to fail")
	}
	if b.PowerState("guest1") != vsphere.PoweredOff {
		t.Error("both may run now")
	}
	b.clean()
	b.gone()
}

func TestASourceStaysOffWhileAStepIsNotSettled(t *testing.T) {
	t.Parallel()
	settled := errors.New("libvirt is away")
	b, def := stoppedFor(t, migrate.TestStep{
		Name: "landing", Asked: "it", Do: func(ctx context.Context, note func(any) error) error {
			return errors.Join(note("begun"), fails(ctx, note))
		},
		Settle: func(context.Context, string) (bool, error) { return false, settled },
	})
	_, _, err := b.run(t.Context(), def)
	b.owes(err, "the VM ran and was stopped")
	if b.PowerState("guest1") != vsphere.PoweredOff {
		t.Error("both may run now")
	}
	settled = nil
	if err := b.cleanUp(def); err != nil {
		t.Error(err)
	}
	b.runs()
	b.gone()
}

func TestAVMThatRunsIsExportedAgainWhenItIsToBeShutDown(t *testing.T) {
	t.Parallel()
	b := toolsGuest(t, tools())
	b.m.AcceptFinished = true
	def := b.job(job.FormatRaw)
	def.Options.Snapshot = true
	b.export(def)
	if result, _, err := b.run(t.Context(), b.stopping()); err == nil {
		t.Errorf("a copy of the running VM counts as one of it when it is off: %+v", result)
	}
	def = b.stopping()
	def.Options.Snapshot, def.Options.Overwrite = true, true // the snapshot is for a VM that runs on
	b.identical(b.export(def))
	if b.PowerState("guest1") != vsphere.PoweredOff || b.asked("CreateSnapshot_Task") != 1 {
		t.Errorf("the VM is %s", b.PowerState("guest1"))
	}
	b.clean()
}
