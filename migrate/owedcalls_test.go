package migrate_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// Whatever becomes of the calls by which a VM is changed and put back, a run that
// is cancelled then ends in bounded time, and after a clean-up nothing is left.
func TestWhateverBecomesOfACallACancelledRunLeavesNothingForGood(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{
		"hang:call=CreateSnapshot_Task",
		"hang:call=CreateSnapshot_Task,effect=false",
		"lose:call=CreateSnapshot_Task",
		"late:call=CreateSnapshot_Task,after=3s",
		"hang:call=RemoveSnapshot_Task",
		"hang:call=RemoveSnapshot_Task,effect=false",
		"lose:call=RemoveSnapshot_Task",
		"lose:call=RemoveSnapshot_Task,effect=false",
		"hang:call=ReconfigVM_Task",
		"lose:call=ReconfigVM_Task",
		"lose:call=ReconfigVM_Task,effect=false",
		"hang:call=HttpNfcLeaseAbort",
		"lose:call=HttpNfcLeaseAbort,effect=false",
		"hang:call=HttpNfcLeaseAbort,effect=false,times=always",
		"fault:call=HttpNfcLeaseAbort,fault=NotAuthenticated",
		"task:call=ReconfigVM_Task,takes=3s",
		"task:call=CreateSnapshot_Task,takes=3s,cancel=ignore",
		"task:call=CreateSnapshot_Task,takes=1h,cancel=true",
		"task:call=RemoveSnapshot_Task,takes=3s",
		"task:call=RemoveSnapshot_Task,takes=1s,fault=SystemError",
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, vspheretest.Config{
				VMs: []vspheretest.VM{{Name: "guest1", PoweredOn: true, ISO: []byte("an ISO image")}}, Faults: []string{fault},
			}, rawDisk(t, 4*mib, extent{0, 4 * mib, false}))
			before := b.CDROM("guest1")
			b.m.Arrival = time.Second
			def := b.job(job.FormatRaw)
			def.Options.Snapshot, def.Options.RemoveCDROM = true, true
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			if strings.Contains(fault, "call=CreateSnapshot_Task") || strings.Contains(fault, "call=ReconfigVM_Task") {
				method, _, _ := strings.Cut(strings.SplitAfter(fault, "call=")[1], ",")
				b.OnCall(method, func() { cancel(job.Cancelled{}) })
			} else {
				b.OnByte("guest1", 0, mib, func() { cancel(job.Cancelled{}) })
			}
			_, tracker, err := b.run(ctx, def)
			var owed *migrate.OwedError
			if err == nil || !errors.As(err, &owed) && !errors.Is(err, context.Canceled) {
				t.Fatalf("error %v\n%s", err, events(tracker))
			}
			t.Logf("the run says %v", err)
			b.ClearFaults()
			b.Release()
			if err := b.cleanUp(def); err != nil {
				t.Errorf("the clean-up says %v", err)
			}
			if now := b.CDROM("guest1"); now != before {
				t.Errorf("the drive was %+v and is %+v", before, now)
			}
			b.clean()
			b.gone()
		})
	}
}
