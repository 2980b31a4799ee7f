package progress_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyper2kvm/hyper2kvm/progress"
)

const mib = 1 << 20

// stream plays a disk that comes in steps of a second at a constant rate of data: parts
// are where its data lies. After each second look is called with the share of the
// time that has passed.
func stream(f *progress.File, capacity int64, rate int64, parts [][2]int64, look func(passed float64)) {
	var total, came int64
	for _, p := range parts {
		total += p[1]
	}
	for came < total {
		time.Sleep(time.Second)
		n := min(rate, total-came)
		came += n
		f.AddReceived(n)
		left, pos := came, int64(0)
		for _, p := range parts {
			if left <= 0 {
				break
			}
			pos = p[0] + min(left, p[1])
			left -= p[1]
		}
		f.SetMoved(pos, came)
		if look != nil {
			look(float64(came) / float64(total))
		}
	}
	f.SetMoved(capacity, came)
}

// spread is n MiB of data in pieces of one MiB over a disk.
func spread(capacity int64, n int64) [][2]int64 {
	var parts [][2]int64
	for i := range n {
		parts = append(parts, [2]int64{capacity / n * i, mib})
	}
	return parts
}

func TestTheRemainingTimeIsThatOfTheDataWhereverItLies(t *testing.T) {
	t.Parallel()
	const capacity, data = 256 * mib, 40
	for name, test := range map[string]struct {
		least, most int64
		parts       [][2]int64
	}{
		"at the front":                   {data * mib, data * mib, [][2]int64{{0, data * mib}}},
		"at the end":                     {data * mib, data * mib, [][2]int64{{capacity - data*mib, data * mib}}},
		"spread":                         {data * mib, data * mib, spread(capacity, data)},
		"spread over a thick disk":       {0, 0, spread(capacity, data)},
		"at the front, with an overhead": {data * mib, data*mib + mib, [][2]int64{{0, data * mib}}},
		"spread, and a swap file of the same size": {data * mib, 2 * data * mib, spread(capacity, data)},
		"spread, and more than was told":           {data * mib * 9 / 10, data * mib * 9 / 10, spread(capacity, data)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tracker := progress.New()
				f := tracker.AddFile("disk", capacity)
				f.SetState(progress.Active)
				f.Expect(test.least, test.most)
				var m progress.Meter
				m.Observe(tracker.Snapshot(), time.Now())
				looked := false
				stream(f, capacity, mib, test.parts, func(passed float64) {
					r := m.Observe(tracker.Snapshot(), time.Now())
					left := (1 - passed) * data
					if passed < 1./3 || left < 3 || test.most > 0 && test.most < data*mib && passed > .65 {
						return
					}
					looked = true
					if got := r.Remaining.Seconds(); got > left*1.5 || got < left/1.5 {
						t.Errorf("after %.0f %% of the time %v are told to be left, and it is %.0f s", passed*100, r.Remaining, left)
					}
				})
				if !looked {
					t.Error("nothing was looked at")
				}
				f.SetState(progress.Complete)
				if s := tracker.Snapshot(); s.Total() != data*mib || s.Position() != data*mib || s.Percent() != 100 {
					t.Errorf("at the end %d of %d bytes, %v %%", s.Position(), s.Total(), s.Percent())
				}
			})
		})
	}
}

func TestWhatOneDiskHasLessThanItsShareTheOthersHaveMore(t *testing.T) {
	t.Parallel()
	tracker := progress.New()
	small, large := tracker.AddFile("small", 100*mib), tracker.AddFile("large", 100*mib)
	small.Expect(40*mib, 40*mib)
	large.Expect(40*mib, 40*mib)
	if s := tracker.Snapshot(); s.Total() != 80*mib || s.Files[0].Size() != 40*mib {
		t.Errorf("at the start %d bytes, %d of them of the first", s.Total(), s.Files[0].Size())
	}
	small.SetMoved(100*mib, 10*mib)
	small.SetState(progress.Complete)
	if s := tracker.Snapshot(); s.Total() != 80*mib || s.Files[0].Size() != 10*mib || s.Files[1].Size() != 70*mib {
		t.Errorf("with one here: %+v", s.Files)
	}
	large.ExpectExactly(30 * mib) // another route, which knows
	if s := tracker.Snapshot(); s.Total() != 40*mib {
		t.Errorf("with the other known: %+v", s.Files)
	}
}

func TestADiskThatBeginsAgainHasMovedNothing(t *testing.T) {
	t.Parallel()
	tracker := progress.New()
	f := tracker.AddFile("disk", 100*mib)
	f.Expect(0, 50*mib)
	f.SetResumed(80*mib, 20*mib)
	f.SetPosition(0)
	if s := tracker.Snapshot().Files[0]; s.Done() != 0 || s.Resumed != 0 || s.Size() != 50*mib {
		t.Errorf("%+v", s)
	}
}

func TestAWholeDiskOfAnEarlierRunIsDone(t *testing.T) {
	t.Parallel()
	tracker := progress.New()
	f := tracker.AddFile("disk", 100*mib)
	f.Expect(30*mib, 30*mib)
	f.SetPosition(100 * mib)
	f.SetState(progress.Complete)
	tracker.AddFile("other", 100*mib).Expect(30*mib, 30*mib)
	if s := tracker.Snapshot(); s.Position() != 30*mib || s.Total() != 60*mib {
		t.Errorf("%d of %d bytes", s.Position(), s.Total())
	}
}

func TestASteadyTotalNeverFalls(t *testing.T) {
	t.Parallel()
	tracker := progress.New()
	tracker.Steady()
	first := tracker.AddFile("first", 100)
	first.SetPosition(80)
	if p := tracker.Snapshot().Percent(); p != 80 {
		t.Fatalf("%v %%", p)
	}
	first.SetPosition(0)
	tracker.AddFile("second", 900)
	if p := tracker.Snapshot().Percent(); p != 80 {
		t.Errorf("it fell to %v %%", p)
	}
	first.SetPosition(100)
	tracker.ResetFiles()
	if p := tracker.Snapshot().Percent(); p != 80 {
		t.Errorf("without files it fell to %v %%", p)
	}
}

// fleet runs files in places at a time, each of which takes a pause and then its bytes
// at a rate, and calls look after every second with how long it has taken.
func fleet(tracker *progress.Tracker, sizes []int64, places int, pause, rate int64, look func()) time.Duration {
	began := time.Now()
	var files []*progress.File
	for _, n := range sizes {
		files = append(files, tracker.AddFile("vm", n))
	}
	wait, pos := make([]int64, len(sizes)), make([]int64, len(sizes))
	for next, active := 0, []int{}; next < len(sizes) || len(active) > 0; {
		for len(active) < places && next < len(sizes) {
			files[next].SetState(progress.Active)
			active = append(active, next)
			next++
		}
		time.Sleep(time.Second)
		var still []int
		for _, i := range active {
			if wait[i]++; wait[i] > pause {
				n := min(rate, sizes[i]-pos[i])
				pos[i] += n
				files[i].AddReceived(n)
				files[i].SetPosition(pos[i])
			}
			if pos[i] == sizes[i] {
				files[i].SetState(progress.Complete)
				continue
			}
			still = append(still, i)
		}
		active = still
		look()
	}
	return time.Since(began)
}

func TestTheEndOfARunIsToldFromAThirdOn(t *testing.T) {
	t.Parallel()
	small := make([]int64, 60)
	for i := range small {
		small[i] = int64(5+i%7) * mib
	}
	for name, test := range map[string]struct {
		sizes       []int64
		places      int
		pause, rate int64
	}{
		"sixty VMs, two at a time":         {small, 2, 0, mib},
		"sixty that connect for long":      {small, 2, 5, 2 * mib},
		"one at a time":                    {small[:10], 1, 1, mib},
		"two of which one is much larger":  {[]int64{40 * mib, 200 * mib}, 2, 1, mib},
		"the largest is the last to begin": {[]int64{30 * mib, 30 * mib, 30 * mib, 90 * mib}, 2, 1, mib},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tracker := progress.New()
				var m progress.Meter
				type told struct{ at, left time.Duration }
				var all []told
				began := time.Now()
				m.Observe(tracker.Snapshot(), began)
				took := fleet(tracker, test.sizes, test.places, test.pause, test.rate, func() {
					all = append(all, told{time.Since(began), m.Observe(tracker.Snapshot(), time.Now()).Remaining})
				})
				for _, x := range all {
					left := took - x.at
					if x.at < took/3 || left < 10*time.Second {
						continue
					}
					if f := x.left.Seconds() / left.Seconds(); f > 1.5 || f < 1/1.5 {
						t.Errorf("after %v of %v %v are told to be left", x.at, took, x.left)
					}
				}
			})
		})
	}
}

func TestWhatWasHereAlreadyIsNoMeasureOfTheSpeed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var m progress.Meter
		files := []progress.FileSnapshot{
			{Name: "earlier", State: progress.Active, Total: 1000},
			{Name: "now", State: progress.Active, Total: 1000},
		}
		s := progress.Snapshot{Files: files}
		m.Observe(s, time.Now())
		var r progress.Reading
		for i := range int64(10) {
			time.Sleep(time.Second)
			files[0].Position, files[0].State = 1000, progress.Complete
			files[1].Position, files[1].Received = 10*(i+1), 10*(i+1)
			r = m.Observe(s, time.Now())
		}
		if r.Remaining < 80*time.Second || r.Remaining > 100*time.Second {
			t.Errorf("%v left, want about 90 s", r.Remaining)
		}
	})
}

func TestTimeWithoutAByteIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var m progress.Meter
		s := progress.Snapshot{Files: []progress.FileSnapshot{{State: progress.Active, Total: 1000}}}
		m.Observe(s, time.Now())
		s.Files[0].Position, s.Files[0].Received = 100, 100
		time.Sleep(time.Second)
		if r := m.Observe(s, time.Now()); r.Stalled != 0 {
			t.Errorf("stalled for %v while bytes come", r.Stalled)
		}
		time.Sleep(40 * time.Second)
		if r := m.Observe(s, time.Now()); r.Stalled != 40*time.Second {
			t.Errorf("stalled for %v, want 40 s", r.Stalled)
		}
		for what, change := range map[string]func(*progress.Snapshot){
			"says what it does": func(s *progress.Snapshot) { s.Activity = "reading again" },
			"waits":             func(s *progress.Snapshot) { s.Files[0].State = progress.Waiting },
			"has everything":    func(s *progress.Snapshot) { s.Files[0].Position = 1000 },
		} {
			other := progress.Snapshot{Files: []progress.FileSnapshot{s.Files[0]}}
			change(&other)
			m := m // as it was
			if r := m.Observe(other, time.Now()); r.Stalled != 0 {
				t.Errorf("a run that %s is stalled for %v", what, r.Stalled)
			}
		}
	})
}

func TestTheCauseOfTheLatestRetryIsKept(t *testing.T) {
	t.Parallel()
	tracker := progress.New()
	f := tracker.AddFile("disk", 1)
	f.AddRetryFor("cut")
	f.AddRetryFor("http_503")
	f.AddRetry()
	if s := tracker.Snapshot().Files[0]; s.Retries != 3 || s.Cause != "http_503" {
		t.Errorf("%d retries, %q", s.Retries, s.Cause)
	}
}
