package migrate_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// with902 is a lab whose hosts have port 902.
func with902(vm vspheretest.VM, faults ...string) vspheretest.Config {
	vm.Name = "guest1"
	return vspheretest.Config{NFC902: true, VMs: []vspheretest.VM{vm}, Faults: faults}
}

// running is a VM that is on.
var running = vspheretest.VM{PoweredOn: true}

// closed checks that nothing is open at port 902 of the lab's host.
func (b *bench) closed() {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := b.NFCDrained(ctx, 0); err != nil {
		b.t.Error(err)
	}
	if s := b.NFC(0); s.Files != 0 || s.Sessions != 0 {
		b.t.Errorf("left open at port 902: %+v", s)
	}
}

func TestDisksOfEveryShapeComeIdenticalOverPort902(t *testing.T) {
	t.Parallel()
	var disks []string
	for _, path := range shapes(t) {
		disks = append(disks, path)
	}
	for _, vm := range []vspheretest.VM{{}, running} {
		for _, format := range imageFormats {
			for _, verify := range []job.Verify{"", job.VerifyFull} {
				t.Run(fmt.Sprintf("on=%t %s verify=%q", vm.PoweredOn, format, verify), func(t *testing.T) {
					t.Parallel()
					b := newFlatBench(t, with902(vm), disks...)
					def := b.by(job.TransportNFC902, format)
					def.Options.Verify, def.Options.Snapshot = verify, vm.PoweredOn
					result := b.export(def)
					b.identical(result)
					b.clean()
					b.closed()
					want := job.BySize
					if verify != "" {
						want = job.BySecondRead
					}
					wantTransport(t, result, "nfc902", want)
					if n := len(b.Requests(vspheretest.NFC, vspheretest.Folder)); n > 0 {
						t.Errorf("%d requests went another way", n)
					}
					if told := strings.Contains(strings.Join(result.Notes, "\n"), "no checksum"); told != (verify == "") {
						t.Errorf("notes %q", result.Notes)
					}
				})
			}
		}
	}
}

func TestOverPort902HolesAreNeitherReadNorWritten(t *testing.T) {
	t.Parallel()
	disk := rawDisk(t, 256*mib, extent{0, mib, true}, extent{mib + 128*kib, 64 * kib, false}, extent{200 * mib, 2 * mib, false})
	b := newFlatBench(t, with902(vspheretest.VM{}), disk)
	result := b.export(b.by(job.TransportNFC902, job.FormatRaw))
	b.identical(result)
	const step = 64 * kib
	asked := map[int64]bool{} // a slow machine has the same asked for twice
	for _, r := range b.Requests(vspheretest.NFC902) {
		var from, to int64
		if _, err := fmt.Sscanf(r.Range, "bytes=%d-%d", &from, &to); err != nil {
			t.Fatal(err)
		}
		for at := from / step; at <= to/step; at++ {
			asked[at] = true
		}
	}
	if n := int64(len(asked)) * step; n > 4*mib {
		t.Errorf("%d bytes were asked for of a disk that holds 3 MiB", n)
	}
	if served := b.BytesServed("guest1", 0); served > 16*mib {
		t.Errorf("%d bytes were served of a disk that holds 3 MiB", served)
	}
	if kb := diskUsage(t, result.Disks[0].File); kb > 8*1024 {
		t.Errorf("3 MiB of data take %d KiB on disk", kb)
	}
}

func TestDisksWithSnapshotsComeIdenticalOverPort902(t *testing.T) {
	t.Parallel()
	disks := twoDisks(t)
	for _, vm := range []vspheretest.VM{{Snapshots: []string{"before"}}, {Snapshots: []string{"before", "after"}}, {Snapshots: []string{"before"}, PoweredOn: true}} {
		for _, verify := range []job.Verify{"", job.VerifyFull} {
			t.Run(fmt.Sprintf("on=%t %v verify=%q", vm.PoweredOn, vm.Snapshots, verify), func(t *testing.T) {
				t.Parallel()
				b := newFlatBench(t, with902(vm), disks...)
				def := b.by(job.TransportNFC902, job.FormatQcow2)
				def.Options.Verify, def.Options.Snapshot = verify, vm.PoweredOn
				result, tracker, err := b.run(context.Background(), def)
				if err != nil {
					t.Fatal(err)
				}
				b.identical(result)
				b.closed()
				if left := b.Snapshots("guest1"); !slices.Equal(left, vm.Snapshots) || len(b.Leases()) > 0 {
					t.Errorf("snapshots %v, leases %v", left, b.Leases())
				}
				if !strings.Contains(events(tracker), "chain of snapshots") {
					t.Errorf("it is read as one link:\n%s", events(tracker))
				}
			})
		}
	}
}

func TestAHostThatDoesNotTellItsBlocksIsReadWhole(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"no-blocks", "few-blocks", "all-blocks"} {
		b := newFlatBench(t, with902(vspheretest.VM{}, "nfc902:how="+how), rawDisk(t, 16*mib, extent{0, mib, true}, extent{9 * mib, mib, false}))
		result := b.export(b.by(job.TransportNFC902, job.FormatQcow2))
		b.identical(result)
		if b.Struck()["nfc902"] != 1 {
			t.Errorf("%s did not strike", how)
		}
		b.closed()
	}
}

func TestAPassingFaultOfPort902IsOutlived(t *testing.T) {
	t.Parallel()
	disks := twoDisks(t)
	faults := []string{
		"cut:at=3MB", "cut:at=7500KB,times=3", "cut:at=0,times=2", "stall:at=3MB", "expire:at=3MB", "session:at=3MB", "session:at=3MB,keep=true",
		"down:plane=hosts,at=3MB,for=50ms", "down:plane=hosts,how=reset,at=3MB,for=50ms",
	}
	for _, how := range []string{
		"busy,times=3", "close", "expired,times=2", "refuse-vpxa", "late-36", "refuse-52", "no-buffers,times=2", "memory,times=4", "memory-open",
		"foreign", "reversed", "uneven,times=5", "small", "code-raw,times=3", "overlap", "gap", "wrong-op", "huge-fragment", "bad-runs",
		"read-error", "read-memory,times=2", "drop-in-message,times=3", "reordered", "no-host", "certificate",
	} {
		faults = append(faults, "nfc902:how="+how)
	}
	for i, fault := range faults {
		vm, format := []vspheretest.VM{{}, running}[i%2], imageFormats[i/2%2]
		t.Run(fmt.Sprintf("%s on=%t %s", fault, vm.PoweredOn, format), func(t *testing.T) {
			t.Parallel()
			b := newFlatBench(t, with902(vm), disks...)
			b.addFault(fault)
			b.stalls(fault)
			if strings.Contains(fault, "gap") {
				b.m.StallTimeout = 2 * time.Second // a fragment that does not come is a stall
			}
			def := b.by(job.TransportNFC902, format)
			def.Options.Snapshot = vm.PoweredOn
			result := b.export(def)
			b.identical(result)
			b.clean()
			b.closed()
			wantTransport(t, result, "nfc902", job.BySize)
			kind, _, _ := strings.Cut(fault, ":")
			if b.Struck()[kind] == 0 {
				t.Error("it did not strike")
			}
		})
	}
}

func TestAFaultOfPort902ThatLastsEndsInItsReasonWithNothingLeft(t *testing.T) {
	t.Parallel()
	disks := twoDisks(t)
	for how, want := range map[string]string{
		"no-sha256": `does not announce "SHA256 supported"`, "no-nfcssl": `does not announce "NFCSSL supported"`,
		"version-2": "version 2", "clear": "unencrypted", "wrong-thumbprint": "certificate", "no-thumbprint": "certificate",
		"other-identity": "certificate", "wrong-sha256": "certificate", "locked": "holds the file", "foreign": "permission check failed",
		"capacity": "bytes, and not the", "busy": "Resource temporarily unavailable", "expired": "does not accept the ticket",
		"memory": "no memory left", "read-error": "NfcAioReadFile failed",
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			b := newFlatBench(t, with902(running, "nfc902:times=always,how="+how), disks...)
			def := b.by(job.TransportNFC902, job.FormatQcow2)
			def.Options.Snapshot = true
			_, tracker, err := b.run(context.Background(), def)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v\n%s", err, events(tracker))
			}
			if migrate.Permanent(err) && migrate.Hint(err) == "" {
				t.Errorf("no advice with %v", err)
			}
			b.clean()
			b.closed()
			if left := b.visible(); left != nil {
				t.Errorf("%v have final names", left)
			}
		})
	}
}

func TestAutoTakesPort902ForARunningVMAndSaysWhy(t *testing.T) {
	t.Parallel()
	b := newFlatBench(t, with902(running), twoDisks(t)...)
	def := b.by(job.TransportAuto, job.FormatQcow2)
	def.Options.Snapshot = true
	result, tracker, err := b.run(context.Background(), def)
	if err != nil {
		t.Fatal(err)
	}
	b.identical(result)
	b.clean()
	wantTransport(t, result, "nfc902", job.BySize)
	for _, text := range []string{"not from the datastore: ", "over port 902", "temporary snapshot has frozen"} {
		if !strings.Contains(events(tracker), text) {
			t.Errorf("%q is not in\n%s", text, events(tracker))
		}
	}
}

func TestAutoTakesTheLeaseWhereNeitherDatastoreNorPort902ServesAndSaysWhy(t *testing.T) {
	t.Parallel()
	disks := twoDisks(t)
	for how, why := range map[string]string{
		"no-sha256": "SHA256 supported", "close": "port 902", "locked": "holds the file", "wrong-thumbprint": "certificate",
		"expired": "does not accept the ticket", "refuse-52": "expected message 52",
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			b := newFlatBench(t, with902(running, "nfc902:times=always,how="+how), disks...)
			def := b.by(job.TransportAuto, job.FormatRaw)
			def.Options.Snapshot = true
			result, tracker, err := b.run(context.Background(), def)
			if err != nil {
				t.Fatalf("%v\n%s", err, events(tracker))
			}
			b.identical(result)
			b.clean()
			b.closed()
			wantTransport(t, result, "stream", job.ByManifest)
			for _, text := range []string{events(tracker), strings.Join(result.Notes, "\n")} {
				if !strings.Contains(text, "through the export lease") || !strings.Contains(text, why) {
					t.Errorf("the reason, %s, is not in:\n%s", why, text)
				}
			}
		})
	}
}

func TestAutoTakesTheLeaseWhenPort902RefusesInTheMiddle(t *testing.T) {
	t.Parallel()
	b := newFlatBench(t, with902(running), rawDisk(t, 32*mib, extent{0, 32 * mib, false}))
	b.OnByte("guest1", 0, 2*mib, func() {
		b.addFault("nfc902:how=locked,times=always")
		b.addFault("cut:at=30MB,plane=nfc902,disk=0")
	})
	def := b.by(job.TransportAuto, job.FormatRaw)
	def.Options.Snapshot, def.Options.ParallelDownloads = true, 1
	result := b.export(def)
	b.identical(result)
	b.clean()
	if got := result.Disks[0].Transport; got != "stream" {
		t.Errorf("the disk came by %s", got)
	}
}

func TestPort902AloneIsRefusedBeforehandWhereItCannotBe(t *testing.T) {
	t.Parallel()
	disks := twoDisks(t)
	b := newFlatBench(t, with902(vspheretest.VM{}), disks...)
	def := b.by(job.TransportNFC902, job.FormatQcow2)
	def.Options.Verify = job.VerifyManifest
	_, _, err := b.run(context.Background(), def)
	var preflight *migrate.PreflightError
	if !errors.As(err, &preflight) || preflight.Obstacles[0].Code != migrate.CodeNFC902 || exists(b.out) {
		t.Errorf("error %v", err)
	}
	b = newFlatBench(t, vspheretest.Config{}, disks...) // without port 902
	if _, _, err := b.run(context.Background(), b.by(job.TransportNFC902, job.FormatRaw)); !errors.Is(err, migrate.ErrNFC902) || !migrate.Permanent(err) {
		t.Errorf("error %v", err)
	}
	b.clean()
}

func TestAReadingOverPort902GoesOnInTheMiddleOfADisk(t *testing.T) {
	t.Parallel()
	disk := rawDisk(t, 64*mib, extent{mib, 40 * mib, false})
	for _, format := range imageFormats {
		for _, verify := range []job.Verify{"", job.VerifyFull} {
			t.Run(fmt.Sprintf("%s verify=%q", format, verify), func(t *testing.T) {
				t.Parallel()
				b := newFlatBench(t, with902(vspheretest.VM{}), disk)
				def := b.by(job.TransportNFC902, format)
				def.Options.Verify = verify
				def.Options.ParallelDownloads = 1 // little is read ahead, and lost
				b.cancelAt(def, 0, 36*mib, job.ErrShutdown)
				b.clean()
				b.closed()
				before := b.BytesServed("guest1", 0)
				result := b.export(def)
				b.identical(result)
				if !result.Disks[0].Resumed {
					t.Error("the second run began again")
				}
				if again := b.BytesServed("guest1", 0) - before; verify == "" && again >= 40*mib {
					t.Errorf("%d bytes were served to the second run", again)
				}
			})
		}
	}
}

func TestADiskThatIsAnotherOneIsNotGoneOnWithOverPort902(t *testing.T) {
	t.Parallel()
	before, after := rawDisk(t, 64*mib, extent{mib, 40 * mib, false}), rawDisk(t, 64*mib, extent{2 * mib, 40 * mib, false}, extent{50 * mib, mib, true})
	b := newFlatBench(t, with902(vspheretest.VM{}), before)
	def := b.by(job.TransportNFC902, job.FormatQcow2)
	def.Options.ParallelDownloads = 1
	b.cancelAt(def, 0, 36*mib, job.ErrShutdown)
	b.Touch("guest1") // it has run
	if err := b.SetDisk("guest1", 0, after); err != nil {
		t.Fatal(err)
	}
	b.raw = []string{after}
	b.identical(b.export(def))
}

func TestASecondReadingOverPort902FindsAByteThatTheWireChanged(t *testing.T) {
	t.Parallel()
	b := newFlatBench(t, with902(vspheretest.VM{}, "corrupt:at=3MB,disk=0"), twoDisks(t)...)
	def := b.by(job.TransportNFC902, job.FormatQcow2)
	def.Options.Verify = job.VerifyFull
	result, tracker, err := b.run(context.Background(), def)
	if err != nil {
		t.Fatal(err)
	}
	b.identical(result)
	if text := events(tracker); !strings.Contains(text, "fetching the disk again") {
		t.Errorf("nobody noticed:\n%s", text)
	}
}

func TestConnectionsToPort902StayWithinTheLimitsOfTheHost(t *testing.T) {
	t.Parallel()
	b := newFlatBench(t, with902(vspheretest.VM{}), rawDisk(t, 48*mib, extent{0, 48 * mib, false}))
	b.m.Limits = &migrate.Limits{DisksPerHost: 3}
	var mu sync.Mutex
	most := 0
	for at := int64(mib); at < 48*mib; at += mib {
		b.OnByte("guest1", 0, at, func() {
			mu.Lock()
			defer mu.Unlock()
			most = max(most, b.NFC(0).Sessions)
		})
	}
	def := b.by(job.TransportNFC902, job.FormatRaw)
	def.Options.ParallelDownloads = 8
	b.identical(b.export(def))
	b.closed()
	if most < 1 || most > 3 {
		t.Errorf("%d sessions were open at a time where 3 may be", most)
	}
	if release, ok := b.m.Limits.TryAcquire("another", "another"); !ok {
		t.Error("no place is free")
	} else {
		release()
	}
}

func TestACancelledReadingOverPort902LeavesNothingBehind(t *testing.T) {
	t.Parallel()
	for _, vm := range []vspheretest.VM{{}, running} {
		b := newFlatBench(t, with902(vm), twoDisks(t)...)
		def := b.by(job.TransportNFC902, job.FormatQcow2)
		def.Options.Snapshot = vm.PoweredOn
		b.cancelAt(def, 0, 3*mib, job.Cancelled{})
		b.clean()
		b.closed()
		if s := b.NFC(0); s.Abandoned != 0 {
			t.Errorf("%+v", s)
		}
		if exists(b.out) {
			t.Errorf("left: %v, %v", b.visible(), b.hidden())
		}
	}
}
