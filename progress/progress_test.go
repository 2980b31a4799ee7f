package progress_test

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hyper2kvm/hyper2kvm/progress"
)

func TestANewTrackerIsPendingAndEmpty(t *testing.T) {
	t.Parallel()
	s := progress.New().Snapshot()
	if s.Phase != progress.Pending || len(s.Files) != 0 || s.Percent() != 0 || s.Current() != "" {
		t.Errorf("the first snapshot is %+v", s)
	}
}

func TestASnapshotHoldsWhatWasCounted(t *testing.T) {
	t.Parallel()
	tracker := progress.New()
	tracker.SetPhase(progress.Exporting)
	f := tracker.AddFile("disk-0.vmdk", -1)
	f.SetTotal(1000)
	f.AddReceived(300)
	f.AddReceived(200)
	f.SetPosition(900)
	f.SetPosition(400)
	f.AddRetry()
	f.SetState(progress.Retrying)
	want := progress.Snapshot{Phase: progress.Exporting, Files: []progress.FileSnapshot{
		{Name: "disk-0.vmdk", State: progress.Retrying, Total: 1000, Position: 400, Received: 500, Retries: 1},
	}}
	if diff := cmp.Diff(want, tracker.Snapshot()); diff != "" {
		t.Error(diff)
	}
	tracker.ResetFiles()
	if n := len(tracker.Snapshot().Files); n != 0 {
		t.Errorf("%d files after a reset", n)
	}
}

func TestTotalsCountWhatIsKnown(t *testing.T) {
	t.Parallel()
	s := progress.Snapshot{Files: []progress.FileSnapshot{
		{Name: "a", State: progress.Complete, Total: 100, Position: 130, Received: 50},
		{Name: "b", State: progress.Waiting, Total: 300},
		{Name: "c", State: progress.Active, Total: -1, Position: 40, Received: 40},
	}}
	if s.Total() != 400 || s.Position() != 140 || s.Received() != 90 || s.Finished() != 1 || s.Current() != "c" {
		t.Errorf("total %d, position %d, received %d, finished %d, current %q", s.Total(), s.Position(), s.Received(), s.Finished(), s.Current())
	}
}

func TestARunIsAtHundredPercentOnlyWhenEveryFileIsVerified(t *testing.T) {
	t.Parallel()
	file := progress.FileSnapshot{Total: 100, Position: 100, State: progress.Active}
	s := progress.Snapshot{Files: []progress.FileSnapshot{file}}
	if p := s.Percent(); p != 99.9 {
		t.Errorf("%v %% with an unverified file", p)
	}
	s.Files[0].State = progress.Complete
	if p := s.Percent(); p != 100 {
		t.Errorf("%v %% with all files complete", p)
	}
	s = progress.Snapshot{Files: []progress.FileSnapshot{{Total: -1, Position: 10, State: progress.Active}}}
	if p := s.Percent(); p != 0 {
		t.Errorf("%v %% of an unknown size", p)
	}
}

func TestEventsAreNumberedAndBounded(t *testing.T) {
	t.Parallel()
	tracker := progress.New()
	f := tracker.AddFile("disk-0.vmdk", 1)
	for i := range 300 {
		f.Event(progress.Warning, fmt.Sprint(i))
	}
	tracker.Event(progress.Info, "", "last")
	events := tracker.EventsAfter(0)
	if len(events) != 256 || events[0].Seq != 46 || events[255].Seq != 301 || events[255].Text != "last" || events[0].File != "disk-0.vmdk" {
		t.Errorf("%d events from %+v", len(events), events[0])
	}
	if after := tracker.EventsAfter(299); len(after) != 2 || after[0].Text != "299" {
		t.Errorf("after 299 come %+v", after)
	}
	if tracker.EventsAfter(301) != nil {
		t.Error("there is an event after the last one")
	}
	events[0].Text = "changed by the reader"
	if tracker.EventsAfter(45)[0].Text == events[0].Text {
		t.Error("a reader's copy is the tracker's own")
	}
}

func TestChangedTellsOfPhasesFilesAndEvents(t *testing.T) {
	t.Parallel()
	tracker := progress.New()
	told := func(change func()) bool {
		changed := tracker.Changed()
		change()
		select {
		case <-changed:
			return true
		default:
			return false
		}
	}
	var f *progress.File
	for name, change := range map[string]func(){
		"a phase": func() { tracker.SetPhase(progress.Exporting) },
		"a file":  func() { f = tracker.AddFile("f", 1) },
		"a reset": tracker.ResetFiles,
		"a event": func() { tracker.Event(progress.Info, "", "x") },
	} {
		if !told(change) {
			t.Errorf("%s is not told", name)
		}
	}
	if told(func() { tracker.SetPhase(progress.Exporting) }) {
		t.Error("the same phase again is told")
	}
	if told(func() { f.AddReceived(1); f.SetPosition(1) }) {
		t.Error("counters are told: they are to be sampled")
	}
}

func TestASnapshotTellsOfTheActivityThatBeganLastAndGoesOn(t *testing.T) {
	t.Parallel()
	tracker := progress.New()
	said := func(want string) {
		t.Helper()
		if got := tracker.Snapshot().Activity; got != want {
			t.Errorf("the activity is %q, want %q", got, want)
		}
	}
	said("")
	first := tracker.Begin("first")
	changed := tracker.Changed()
	second := tracker.Begin("second")
	select {
	case <-changed:
	default:
		t.Error("an activity that begins is not told")
	}
	said("second")
	first.Set("first, 50 %")
	said("second")
	second.End()
	second.End()
	said("first, 50 %")
	first.End()
	said("")
}

func TestCountingFromManyGoroutinesLosesNothing(t *testing.T) {
	t.Parallel()
	tracker := progress.New()
	f := tracker.AddFile("f", 1000)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 1000 {
				f.AddReceived(1)
				f.AddRetry()
				f.SetState(progress.Active)
				tracker.Snapshot()
			}
			tracker.Event(progress.Info, "", "done")
		})
	}
	group.Wait()
	if s := tracker.Snapshot().Files[0]; s.Received != 8000 || s.Retries != 8000 || len(tracker.EventsAfter(0)) != 8 {
		t.Errorf("counted %+v", s)
	}
}

func TestAMeterTellsRateFromBytesAndTimeFromPosition(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const capacity = 1_000_000
		var m progress.Meter
		s := progress.Snapshot{Files: []progress.FileSnapshot{{Total: capacity}}}
		if r := m.Observe(s, time.Now()); r.Rate != 0 || r.Remaining >= 0 {
			t.Errorf("the first reading is %+v, want an unknown time", r)
		}
		var r progress.Reading
		for range 60 { // half of the capacity, an eighth of it as compressed bytes
			time.Sleep(time.Second)
			s.Files[0].Position += capacity / 120
			s.Files[0].Received += capacity / 480
			r = m.Observe(s, time.Now())
		}
		if want := float64(capacity / 480); r.Rate < want*0.99 || r.Rate > want*1.01 {
			t.Errorf("rate %.0f, want %.0f", r.Rate, want)
		}
		if r.Remaining < 59*time.Second || r.Remaining > 61*time.Second {
			t.Errorf("remaining %v, want about 60s", r.Remaining)
		}
		if again := m.Observe(s, time.Now()); again != r {
			t.Errorf("a second look at the same instant gives %+v, want %+v", again, r)
		}
	})
}

func TestAMeterTellsHowLongItTakesOnceNothingIsToComeAnyMore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var m progress.Meter
		s := progress.Snapshot{Phase: progress.Exporting, Files: []progress.FileSnapshot{{State: progress.Active, Total: 1000}}}
		look := func(after time.Duration) progress.Reading {
			time.Sleep(after)
			return m.Observe(s, time.Now())
		}
		look(0)
		s.Files[0].Position, s.Files[0].Received = 1000, 1000
		if r := look(time.Second); r.Rate == 0 || r.Arrived {
			t.Errorf("with the last byte: %+v", r)
		}
		s.Files[0].Received = 2000
		if r := look(3 * time.Second); r.Rate == 0 || r.Arrived {
			t.Errorf("while it is read once more: %+v", r)
		}
		want := func(r progress.Reading, elapsed time.Duration) {
			t.Helper()
			if r.Rate != 0 || r.Remaining >= 0 || r.Stalled != 0 || !r.Arrived || r.Elapsed != elapsed {
				t.Errorf("%+v, want %v", r, elapsed)
			}
		}
		want(look(10*time.Second), 10*time.Second) // whole, and not over
		s.Files[0].State = progress.Complete
		want(look(time.Second), 11*time.Second)
		s.Phase = progress.Landing
		want(look(time.Second), 0)
		want(look(time.Minute), time.Minute)
		s.Files = append(s.Files, progress.FileSnapshot{Name: "another", State: progress.Active, Total: 1000})
		look(time.Second)
		s.Files[1].Position, s.Files[1].Received = 100, 100
		if r := look(time.Second); r.Rate != 100 || r.Arrived {
			t.Errorf("with another file: %+v", r)
		}
	})
}

func TestAMeterSurvivesARunThatBeginsAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var m progress.Meter
		s := progress.Snapshot{Files: []progress.FileSnapshot{{Total: 1000, Position: 900, Received: 900}}}
		m.Observe(s, time.Now())
		time.Sleep(time.Second)
		s.Files[0].Position, s.Files[0].Received = 0, 0
		if r := m.Observe(s, time.Now()); r.Rate < 0 || r.Remaining >= 0 {
			t.Errorf("reading %+v, want no negative rate and an unknown time", r)
		}
	})
}

func TestAMeterOfAStuckRunDoesNotPromiseAnEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var m progress.Meter
		s := progress.Snapshot{Files: []progress.FileSnapshot{{Total: 1000}}}
		m.Observe(s, time.Now())
		time.Sleep(time.Second)
		s.Files[0].Position, s.Files[0].Received = 100, 100
		before := m.Observe(s, time.Now())
		time.Sleep(time.Minute)
		after := m.Observe(s, time.Now())
		if after.Rate >= before.Rate/2 || after.Remaining <= before.Remaining {
			t.Errorf("a minute without a byte turns %+v into %+v", before, after)
		}
	})
}
