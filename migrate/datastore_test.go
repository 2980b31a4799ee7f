package migrate_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

var imageFormats = []job.Format{job.FormatRaw, job.FormatQcow2}

// withCBT is a lab whose guest1 tracks changed blocks.
func withCBT(faults ...string) vspheretest.Config {
	return vspheretest.Config{VMs: []vspheretest.VM{{Name: "guest1", CBT: true}}, Faults: faults}
}

// newFlatBench is newBench with a lab that has the disks' raw data, which is
// what a datastore serves.
func newFlatBench(t testing.TB, cfg vspheretest.Config, disks ...string) *bench {
	t.Helper()
	if len(cfg.VMs) == 0 {
		cfg.VMs = []vspheretest.VM{{Name: "guest1"}}
	}
	for _, d := range disks {
		cfg.VMs[0].Disks = append(cfg.VMs[0].Disks, vspheretest.Disk{Path: d})
	}
	b := newBench(t, cfg)
	b.raw = disks
	for _, fault := range cfg.Faults {
		b.stalls(fault)
	}
	return b
}

// by is a job that reads disks the given way.
func (b *bench) by(way job.Transport, format job.Format) job.Definition {
	def := b.job(format)
	def.Options.Transport = way
	return def
}

// wantTransport checks how every disk came, and what verified it.
func wantTransport(t *testing.T, result job.Result, transport string, verified job.Verification) {
	t.Helper()
	for _, d := range result.Disks {
		if d.Transport != transport || d.Verified != verified {
			t.Errorf("%s came by %s and is verified by %s; want %s, %s", d.File, d.Transport, d.Verified, transport, verified)
		}
	}
}

func TestDisksOfEveryShapeComeIdenticalFromTheDatastore(t *testing.T) {
	t.Parallel()
	var disks, small []string
	for name, path := range shapes(t) {
		disks = append(disks, path)
		if name != "of 1.5 GiB" { // without tracking, all of it would be read
			small = append(small, path)
		}
	}
	for _, cbt := range []bool{false, true} {
		for _, format := range imageFormats {
			for _, verify := range []job.Verify{"", job.VerifyFull} {
				t.Run(fmt.Sprintf("%s cbt=%v verify=%q", format, cbt, verify), func(t *testing.T) {
					t.Parallel()
					of := small
					if cbt {
						of = disks
					}
					b := newFlatBench(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "guest1", CBT: cbt}}}, of...)
					def := b.by(job.TransportDatastore, format)
					def.Options.Verify = verify
					result := b.export(def)
					b.identical(result)
					b.clean()
					want := job.BySize
					if verify != "" {
						want = job.BySecondRead
					}
					wantTransport(t, result, "datastore", want)
					if n := len(b.Requests(vspheretest.NFC)); n > 0 {
						t.Errorf("%d requests went through the lease", n)
					}
					if told := strings.Contains(strings.Join(result.Notes, "\n"), "no checksum"); told != (verify == "") {
						t.Errorf("notes %q", result.Notes)
					}
				})
			}
		}
	}
}

func TestWithChangedBlockTrackingHolesAreNotRead(t *testing.T) {
	t.Parallel()
	disk := rawDisk(t, 256*mib, extent{0, mib, true}, extent{mib + 128*kib, 64 * kib, false}, extent{200 * mib, 2 * mib, false})
	b := newFlatBench(t, withCBT(), disk)
	result := b.export(b.by(job.TransportDatastore, job.FormatRaw))
	b.identical(result)
	if served := b.BytesServed("guest1", 0); served > 4*mib {
		t.Errorf("%d bytes were served of a disk that holds 3 MiB", served)
	}
	if kb := diskUsage(t, result.Disks[0].File); kb > 8*1024 {
		t.Errorf("3 MiB of data take %d KiB on disk", kb)
	}
}

func TestWithoutChangedBlockTrackingZerosAreReadButNotWritten(t *testing.T) {
	t.Parallel()
	disk := rawDisk(t, 64*mib, extent{0, mib, true}, extent{40 * mib, 2 * mib, false})
	b := newFlatBench(t, vspheretest.Config{}, disk)
	for _, format := range imageFormats {
		def := b.by(job.TransportDatastore, format)
		def.OutputPath += string(format)
		result := b.export(def)
		b.identical(result)
		if kb := diskUsage(t, result.Disks[0].File); kb > 8*1024 {
			t.Errorf("%s: 3 MiB of data take %d KiB on disk", format, kb)
		}
	}
}

func TestAPassingFaultOfTheDatastoreIsOutlived(t *testing.T) {
	t.Parallel()
	disks := twoDisks(t)
	for _, fault := range []string{
		"cut:at=3MB", "cut:at=13MB,times=3", "cut:at=0,times=2",
		"status:code=503,times=3",
		"stall:at=3MB", "truncate:at=3MB,times=2",
		"norange:disk=0", "change:disk=0",
		"expire:at=3MB", "session:at=3MB", "session:at=3MB,keep=true",
	} {
		for _, format := range imageFormats {
			t.Run(fault+" "+string(format), func(t *testing.T) {
				t.Parallel()
				b := newFlatBench(t, withCBT(), disks...)
				if strings.HasPrefix(fault, "norange") || strings.HasPrefix(fault, "change") {
					// Not at the probe, which is the first thing asked.
					b.OnByte("guest1", 0, 2*mib, func() { b.addFault(fault) })
				} else {
					b.addFault(fault)
				}
				result := b.export(b.by(job.TransportDatastore, format))
				b.identical(result)
				b.clean()
				wantTransport(t, result, "datastore", "size")
			})
		}
	}
}

// asked counts the calls of a method.
func (b *bench) asked(method string) int {
	n := 0
	for _, r := range b.Requests(vspheretest.SOAP) {
		if r.Method == method {
			n++
		}
	}
	return n
}

func TestTheAreasOfAFileThatHasChangedAreAskedForAgain(t *testing.T) {
	t.Parallel()
	for fault, want := range map[string]int{"": 1, "cut:at=3MB": 1, "change:disk=0": 2} {
		b := newFlatBench(t, withCBT(), twoDisks(t)[0])
		if fault != "" {
			b.OnByte("guest1", 0, 2*mib, func() { b.addFault(fault) })
		}
		result := b.export(b.by(job.TransportDatastore, job.FormatRaw))
		b.identical(result)
		if got := b.asked("QueryChangedDiskAreas"); got != want {
			t.Errorf("%q: asked %d times, want %d", fault, got, want)
		}
	}
}

func (b *bench) addFault(spec string) {
	if err := b.AddFault(spec); err != nil {
		b.t.Error(err)
	}
}

func TestAutoTakesTheDatastoreAndSaysWhy(t *testing.T) {
	t.Parallel()
	b := newFlatBench(t, withCBT(), twoDisks(t)...)
	result, tracker, err := b.run(context.Background(), b.by(job.TransportAuto, job.FormatQcow2))
	if err != nil {
		t.Fatal(err)
	}
	b.identical(result)
	wantTransport(t, result, "datastore", "size")
	if text := events(tracker); !strings.Contains(text, "since the VM is off and has no snapshots") {
		t.Errorf("events:\n%s", text)
	}
}

func TestAutoTakesTheLeaseWhereTheDatastoreDoesNotServeAndSaysWhy(t *testing.T) {
	t.Parallel()
	disks := twoDisks(t)
	for name, c := range map[string]struct {
		cfg    vspheretest.Config
		change func(*job.Options)
		why    string
	}{
		"vsan":                {cfg: vspheretest.Config{Profile: vspheretest.VSAN}, why: "404"},
		"a locked file":       {cfg: withCBT("status:code=500,plane=folder,times=always"), why: "500"},
		"refused":             {cfg: withCBT("status:code=403,plane=folder,times=always"), why: "403"},
		"no ranges":           {cfg: withCBT("norange:plane=folder,times=always"), why: "does not honour ranges"},
		"an OVF directory":    {change: func(o *job.Options) { o.Format = job.FormatOVF }, why: "OVF"},
		"a compressed image":  {change: func(o *job.Options) { o.Compress = true }, why: "compressed"},
		"a VM that runs":      {cfg: vspheretest.Config{VMs: []vspheretest.VM{{Name: "guest1", PoweredOn: true}}}, change: func(o *job.Options) { o.Snapshot = true }, why: "poweredOn"},
		"a VM with snapshots": {cfg: vspheretest.Config{VMs: []vspheretest.VM{{Name: "guest1", Snapshots: []string{"before"}}}}, why: "snapshots"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newFlatBench(t, c.cfg, disks...)
			def := b.by(job.TransportAuto, job.FormatQcow2)
			if c.change != nil {
				c.change(&def.Options)
			}
			result, tracker, err := b.run(context.Background(), def)
			if err != nil {
				t.Fatalf("%v\n%s", err, events(tracker))
			}
			b.identical(result)
			wantTransport(t, result, "stream", "manifest")
			for _, text := range []string{events(tracker), strings.Join(result.Notes, "\n")} {
				if !strings.Contains(text, "through the export lease") || !strings.Contains(text, c.why) {
					t.Errorf("the reason, %s, is not in:\n%s", c.why, text)
				}
			}
		})
	}
}

func TestAutoTakesTheLeaseWhenRangesEndInTheMiddle(t *testing.T) {
	t.Parallel()
	b := newFlatBench(t, withCBT(), twoDisks(t)...)
	b.OnByte("guest1", 0, 2*mib, func() { b.addFault("norange:plane=folder,disk=0,times=always") })
	result := b.export(b.by(job.TransportAuto, job.FormatRaw))
	b.identical(result)
	if result.Disks[0].Transport != "stream" || result.Disks[1].Transport != "datastore" {
		t.Errorf("disks came by %s and %s", result.Disks[0].Transport, result.Disks[1].Transport)
	}
}

func TestTheDatastoreAloneIsRefusedWithTheReasonWhereItDoesNotServe(t *testing.T) {
	t.Parallel()
	disks := twoDisks(t)
	t.Run("known beforehand", func(t *testing.T) {
		t.Parallel()
		b := newFlatBench(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "guest1", Snapshots: []string{"before"}}}}, disks...)
		_, _, err := b.run(context.Background(), b.by(job.TransportDatastore, job.FormatRaw))
		var preflight *migrate.PreflightError
		if !errors.As(err, &preflight) || preflight.Obstacles[0].Code != migrate.CodeDatastore {
			t.Fatalf("error %v", err)
		}
		if len(b.Requests(vspheretest.Folder)) > 0 || exists(b.out) {
			t.Error("something was read, or written")
		}
	})
	t.Run("seen when it is asked", func(t *testing.T) {
		t.Parallel()
		b := newFlatBench(t, vspheretest.Config{Profile: vspheretest.VSAN}, disks...)
		var opened atomic.Int32
		b.OnLease(func(e vspheretest.LeaseEvent) {
			if e.Kind == vspheretest.LeaseOpened {
				opened.Add(1)
			}
		})
		_, _, err := b.run(context.Background(), b.by(job.TransportDatastore, job.FormatRaw))
		if !errors.Is(err, migrate.ErrDatastore) || !migrate.Permanent(err) || !strings.Contains(migrate.Hint(err), "auto") {
			t.Fatalf("error %v, hint %q", err, migrate.Hint(err))
		}
		if n := opened.Load(); n != 1 {
			t.Errorf("%d leases were opened, although another one does not help", n)
		}
		b.clean()
		if left := b.visible(); left != nil {
			t.Errorf("%v have final names", left)
		}
	})
}

func TestAReadingFromTheDatastoreGoesOnInTheMiddleOfADisk(t *testing.T) {
	t.Parallel()
	disk := rawDisk(t, 64*mib, extent{mib, 40 * mib, false})
	for _, format := range imageFormats {
		for _, verify := range []job.Verify{"", job.VerifyFull} {
			t.Run(fmt.Sprintf("%s verify=%q", format, verify), func(t *testing.T) {
				t.Parallel()
				b := newFlatBench(t, withCBT(), disk)
				def := b.by(job.TransportDatastore, format)
				def.Options.Verify = verify
				def.Options.ParallelDownloads = 1 // little is read ahead, and lost
				b.cancelAt(def, 0, 30*mib, job.ErrShutdown)
				b.clean()
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

func TestACheckpointOfTheOtherTransportIsNotGoneOnFrom(t *testing.T) {
	t.Parallel()
	disk := rawDisk(t, 64*mib, extent{mib, 40 * mib, false})
	for _, format := range imageFormats {
		t.Run(string(format), func(t *testing.T) {
			t.Parallel()
			b := newFlatBench(t, vspheretest.Config{Profile: vspheretest.Ranged}, disk)
			b.cancelAt(b.by(job.TransportDatastore, format), 0, 30*mib, job.ErrShutdown)
			result := b.export(b.by(job.TransportNFC, format))
			b.identical(result)
			if result.Disks[0].Resumed {
				t.Error("the lease's stream went on where the datastore's file was")
			}
		})
	}
}

func TestASecondReadingFindsAByteThatTheWireChanged(t *testing.T) {
	t.Parallel()
	for _, format := range imageFormats {
		b := newFlatBench(t, withCBT("corrupt:at=3MB,disk=0"), twoDisks(t)...)
		def := b.by(job.TransportDatastore, format)
		def.Options.Verify = "full"
		result, tracker, err := b.run(context.Background(), def)
		if err != nil {
			t.Fatal(err)
		}
		b.identical(result)
		if text := events(tracker); !strings.Contains(text, "fetching the disk again") {
			t.Errorf("nobody noticed:\n%s", text)
		}
	}
}

func TestTheVMIsLockedByALeaseWhileItsDatastoreIsRead(t *testing.T) {
	t.Parallel()
	b := newFlatBench(t, withCBT(), twoDisks(t)...)
	leases := make(chan int, 1)
	b.OnByte("guest1", 0, 2*mib, func() { leases <- len(b.Leases()) })
	b.identical(b.export(b.by(job.TransportDatastore, job.FormatRaw)))
	if n := <-leases; n != 1 {
		t.Errorf("%d leases were open in the middle", n)
	}
	b.clean()
}

func TestACancelledReadingFromTheDatastoreLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	b := newFlatBench(t, withCBT(), twoDisks(t)...)
	b.cancelAt(b.by(job.TransportDatastore, job.FormatQcow2), 0, 3*mib, job.Cancelled{})
	b.clean()
	if exists(b.out) {
		t.Errorf("left: %v, %v", b.visible(), b.hidden())
	}
}
