package migrate_test

import (
	"context"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

func TestARunTalliesWhatCameByEachRouteAndWhatBecameOfLeases(t *testing.T) {
	t.Parallel()
	disks := twoDisks(t)
	for _, test := range []struct {
		transport job.Transport
		profile   vspheretest.Profile
		route     progress.Route
	}{
		{job.TransportNFC, bothProfiles[0], progress.NFCStream},
		{job.TransportNFC, bothProfiles[1], progress.NFCRanges},
		{job.TransportDatastore, bothProfiles[0], progress.Datastore},
	} {
		b := newFlatBench(t, vspheretest.Config{Profile: test.profile, Faults: []string{"cut:at=1MiB,disk=0"}}, disks...)
		def := b.job(job.FormatRaw)
		def.Options.Transport = test.transport
		_, tracker, err := b.run(context.Background(), def)
		if err != nil {
			t.Fatalf("%v: %v\n%s", test.route, err, events(tracker))
		}
		got := tracker.Tally()
		if got.Received[test.route] < mib || got.Written[test.route] < mib {
			t.Errorf("by %v: %+v", test.route, got)
		}
		var through int64
		for _, n := range got.Hosts {
			through += n
		}
		if through != got.Received[test.route] {
			t.Errorf("by %v: %d bytes came, %d of them through a host: %v", test.route, got.Received[test.route], through, got.Hosts)
		}
		if got.Counts[progress.LeasesOpened] != 1 || got.Counts[progress.LeasesLost] != 0 {
			t.Errorf("leases: %+v", got.Counts)
		}
		if n := got.Retries[progress.Retry{Route: test.route, Cause: "cut"}]; test.transport == job.TransportNFC && n == 0 {
			t.Errorf("by %v: retries %+v", test.route, got.Retries)
		}
	}
}
