package migrate_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// transports are the ways to a disk.
var transports = []job.Transport{job.TransportNFC, job.TransportDatastore, job.TransportNFC902, job.TransportAuto}

// TestAtEverySiteThatAProbeHasReportedDisksLandIdentical runs over the reports in
// vspheretest/profiles, so that one from the field is a regression test once it is there.
func TestAtEverySiteThatAProbeHasReportedDisksLandIdentical(t *testing.T) {
	t.Parallel()
	disks := []string{
		rawDisk(t, 6*mib+512, extent{0, 200 * kib, true}, extent{4*mib - 512, 300 * kib, false}, extent{6 * mib, 512, false}),
		rawDisk(t, 3*mib, extent{mib, 64 * kib, true}),
	}
	for _, name := range vspheretest.Profiles() {
		r, err := name.Report()
		if err != nil {
			t.Fatal(err)
		}
		works := map[job.Transport]bool{
			job.TransportNFC:       r.Lease.Opened != "no",
			job.TransportDatastore: r.Folder.Answer != "refused" && r.Folder.Range != "ignored" && r.Folder.Range != "refused" && r.Folder.UnderLease != "refused",
			job.TransportNFC902:    r.Port902.Why == "" && r.Port902.UnderLease != "refused",
			job.TransportAuto:      r.Lease.Opened != "no",
		}
		for _, way := range transports {
			t.Run(fmt.Sprintf("%s, %s", name, way), func(t *testing.T) {
				t.Parallel()
				cfg := vspheretest.Config{NFC902: r.Port902.Ticket == ""}.As(r)
				cfg.Rate, cfg.Latency = 0, 0
				vm := vspheretest.VM{Name: "guest1", CBT: true}
				for _, d := range disks {
					vm.Disks = append(vm.Disks, vspheretest.Disk{Path: d})
				}
				cfg.VMs = []vspheretest.VM{vm}
				b := newBench(t, cfg)
				b.raw = disks
				b.m.ManifestPatience = 100 * time.Millisecond // where there is none
				def := b.job(job.FormatQcow2)
				def.Options.Transport, def.Options.Retries = way, 1
				result, tracker, err := b.run(t.Context(), def)
				switch {
				case works[way] && err != nil:
					t.Errorf("it works there, and the export says: %v\n%s", err, events(tracker))
				case works[way]:
					b.identical(result)
				case err == nil:
					t.Errorf("it does not work there, and the export does")
				case len(err.Error()) < 20 || strings.Contains(err.Error(), "%!"):
					t.Errorf("the reason is %v", err)
				}
				b.clean()
			})
		}
	}
}
