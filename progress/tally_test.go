package progress_test

import (
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hyper2kvm/hyper2kvm/progress"
)

func TestATallyTellsBytesByRouteAndRetriesByCauseAndNeverGoesBack(t *testing.T) {
	t.Parallel()
	tracker := progress.New()
	f := tracker.AddFile("disk-0", 100)
	f.AddReceived(1)
	f.SetHost("esx1")
	f.SetRoute(progress.Datastore)
	f.AddReceived(10)
	f.AddRetryFor("cut")
	before := tracker.Tally()
	tracker.ResetFiles() // a run that begins again
	f = tracker.AddFile("disk-0", 100)
	f.SetRoute(progress.NFCRanges)
	f.SetHost("esx2") // which has moved meanwhile
	f.AddReceived(3)
	f.SetHost("esx1")
	f.AddReceived(2)
	f.AddRetryFor("stalled")
	f.AddRetryFor("stalled")
	f.AddRetry()
	f.AddWritten(70)
	f.AddWritten(7)
	tracker.Count(progress.LeasesLost)
	want := progress.Tally{
		Received: map[progress.Route]int64{progress.NoRoute: 1, progress.Datastore: 10, progress.NFCRanges: 5},
		Hosts:    map[string]int64{"esx1": 12, "esx2": 3},
		Written:  map[progress.Route]int64{progress.NFCRanges: 77},
		Retries:  map[progress.Retry]int64{{progress.Datastore, "cut"}: 1, {progress.NFCRanges, "stalled"}: 2, {progress.NFCRanges, "other"}: 1},
		Counts:   map[progress.Count]int64{progress.LeasesLost: 1},
	}
	now := tracker.Tally()
	if d := cmp.Diff(want, now); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	more := now.Since(before)
	want = progress.Tally{
		Received: map[progress.Route]int64{progress.NFCRanges: 5},
		Hosts:    map[string]int64{"esx1": 2, "esx2": 3},
		Written:  map[progress.Route]int64{progress.NFCRanges: 77},
		Retries:  map[progress.Retry]int64{{progress.NFCRanges, "stalled"}: 2, {progress.NFCRanges, "other"}: 1},
		Counts:   map[progress.Count]int64{progress.LeasesLost: 1},
	}
	if d := cmp.Diff(want, more); d != "" {
		t.Errorf("since, -want +got:\n%s", d)
	}
	if s := tracker.Snapshot().Files[0]; s.Retries != 3 || s.Received != 5 {
		t.Errorf("the file has %d retries and %d bytes", s.Retries, s.Received)
	}
}

func TestEveryRouteHasANameOfItsOwn(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for _, r := range progress.Routes() {
		if seen[r.String()] {
			t.Errorf("two routes are called %s", r)
		}
		seen[r.String()] = true
	}
	f := progress.New().AddFile("x", 1)
	f.SetRoute(250) // of a version that knows more
	f.AddReceived(1)
}

func TestATallyOfManyGoroutinesLosesNothing(t *testing.T) {
	t.Parallel()
	tracker := progress.New()
	f := tracker.AddFile("f", 1000)
	f.SetRoute(progress.NFCStream)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 1000 {
				f.AddReceived(1)
				f.AddRetryFor("cut")
				tracker.Count(progress.LeaseRenewals)
				tracker.Tally()
			}
		})
	}
	group.Wait()
	got := tracker.Tally()
	if got.Received[progress.NFCStream] != 8000 || got.Retries[progress.Retry{Route: progress.NFCStream, Cause: "cut"}] != 8000 || got.Counts[progress.LeaseRenewals] != 8000 {
		t.Errorf("counted %+v", got)
	}
}
