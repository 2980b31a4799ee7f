package monitor_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/tui/cell"
	"github.com/hyper2kvm/hyper2kvm/tui/monitor"
	"github.com/hyper2kvm/hyper2kvm/tui/runs"
)

// halfway exports each VM to the half of two disks and stays there until it is
// told how to end.
type halfway struct{ end chan error }

func (b halfway) Export(ctx context.Context, j *runs.Job) (job.Result, error) {
	t := j.Tracker
	t.SetPhase(progress.Exporting)
	for i, state := range []progress.FileState{progress.Complete, progress.Active} {
		f := t.AddFile(fmt.Sprintf("%s-disk-%d.qcow2", j.Name, i), 1<<30)
		f.SetState(state)
		f.SetPosition(int64(1<<30) >> i)
		f.AddReceived(1 << 28)
		if state == progress.Active {
			f.AddRetry()
			f.Event(progress.Warning, "connection reset; trying again")
		}
	}
	select {
	case err := <-b.end:
		return job.Result{
			OutputDir: "/srv/" + j.Name, DomainXML: "/srv/" + j.Name + "/" + j.Name + ".xml", TotalSize: 3 << 30,
			Disks: []job.DiskResult{{Verified: "manifest"}, {Verified: "size"}}, Notes: []string{"a note"},
		}, err
	case <-ctx.Done():
		return job.Result{}, fmt.Errorf("%w: %w", ctx.Err(), context.Cause(ctx))
	}
}

func (halfway) Remove(context.Context, *runs.Job) (job.Result, error) { return job.Result{}, nil }

func (halfway) Hold(context.Context, *runs.Job, bool) error { return nil }

// stage is a screen over n VMs.
type stage struct {
	t   *testing.T
	m   *monitor.Model
	end chan error
}

// play runs VMs behind a screen of 100 by 30 and hands it to act, in virtual
// time.
func play(t *testing.T, n int, o monitor.Options, act func(*stage)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var specs []runs.Spec
		for i := range n {
			name := fmt.Sprintf("vm%03d", i)
			specs = append(specs, runs.Spec{Name: name, Def: job.Definition{VMPath: "/DC0/vm/" + name, OutputPath: "/srv/" + name}})
		}
		b := halfway{end: make(chan error)}
		g := runs.NewGroup(b, specs, runs.Options{})
		ctx, cancel := context.WithCancelCause(t.Context())
		over := make(chan struct{})
		go func() { defer close(over); g.Run(ctx) }()
		synctest.Wait()
		s := &stage{t: t, m: monitor.New(g, o), end: b.end}
		s.m.Update(tea.WindowSizeMsg{Width: 100, Height: 30})
		act(s)
		cancel(runs.ErrLeft)
		<-over
	})
}

// tick lets the screen look at the jobs once more, half a second later.
func (s *stage) tick() tea.Cmd {
	synctest.Wait()
	return s.m.Update(s.m.Init()())
}

// screen is what is shown after another look, and has to fit.
func (s *stage) screen(width, height int) string {
	s.t.Helper()
	s.tick()
	text := ansi.Strip(s.m.View().Content)
	lines := strings.Split(text, "\n")
	if len(lines) > height {
		s.t.Fatalf("%d lines of %d:\n%s", len(lines), height, text)
	}
	for _, l := range lines {
		if cell.Width(l) > width {
			s.t.Fatalf("%d cells of %d: %q", cell.Width(l), width, l)
		}
	}
	return text
}

func (s *stage) want(parts ...string) {
	s.t.Helper()
	text := s.screen(100, 30)
	for _, p := range parts {
		if !strings.Contains(text, p) {
			s.t.Errorf("the screen lacks %q:\n%s", p, text)
		}
	}
}

func (s *stage) press(name string) tea.Cmd {
	s.t.Helper()
	k := tea.KeyPressMsg{Code: []rune(name)[0], Text: name}
	switch name {
	case "ctrl+c":
		k = tea.KeyPressMsg{Code: 'c', Mod: tea.ModCtrl}
	case "enter":
		k = tea.KeyPressMsg{Code: tea.KeyEnter}
	case "down":
		k = tea.KeyPressMsg{Code: tea.KeyDown}
	}
	return s.m.Update(k)
}

// do presses a key and carries its command out.
func (s *stage) do(name string) {
	s.t.Helper()
	if cmd := s.press(name); cmd != nil {
		if msg := cmd(); msg != nil {
			s.m.Update(msg)
		}
	}
}

func TestFewVMsShowTheirDisks(t *testing.T) {
	play(t, 2, monitor.Options{Title: "vc"}, func(s *stage) {
		s.want("2 running", "vm000", "vm000-disk-0.qcow2", "complete", "vm001-disk-1.qcow2", "active", "1 retries",
			"total", "75.0%", "3.0 GiB of 4.0 GiB", "connection reset; trying again", "p pause/resume")
	})
}

func TestManyVMsShowTheDisksOfOne(t *testing.T) {
	play(t, 100, monitor.Options{}, func(s *stage) {
		s.want("2 running, 98 waiting", "vm000-disk-0.qcow2")
		s.press("down")
		text := s.screen(100, 30)
		if strings.Contains(text, "vm000-disk-0") || !strings.Contains(text, "vm001-disk-0") {
			t.Errorf("the disks of the VM under the cursor alone are wanted:\n%s", text)
		}
		for range 60 {
			s.press("down")
		}
		s.want("❯ vm061")
	})
}

func TestEverySizeFits(t *testing.T) {
	play(t, 5, monitor.Options{}, func(s *stage) {
		for width := 1; width < 150; width += 9 {
			for height := 1; height < 40; height += 6 {
				s.m.Update(tea.WindowSizeMsg{Width: width, Height: height})
				s.screen(width, height)
			}
		}
	})
}

func TestPauseAndResume(t *testing.T) {
	play(t, 1, monitor.Options{}, func(s *stage) {
		s.do("p")
		s.want("1 paused", "held")
		s.do("p")
		s.want("1 running", "active")
	})
}

func TestCancelAsksFirst(t *testing.T) {
	play(t, 2, monitor.Options{}, func(s *stage) {
		s.press("x")
		s.want("cancel vm000 and remove its part files?")
		s.press("n")
		s.want("2 running")
		s.press("x")
		s.press("y")
		s.want("1 running, 1 cancelled", "the export lease is aborted", "part files are removed")
	})
}

func TestControlCStopsEverythingAndClosesWhenItIsCleanedUp(t *testing.T) {
	play(t, 3, monitor.Options{}, func(s *stage) {
		if cmd := s.press("ctrl+c"); cmd != nil {
			t.Error("the first ctrl-C closed the screen")
		}
		if text := ansi.Strip(s.m.View().Content); !strings.Contains(text, "ctrl-c again leaves at once") {
			t.Errorf("it is not said what happens:\n%s", text)
		}
		if msg := s.tick()(); msg != (monitor.Closed{}) {
			t.Errorf("after the clean-up came %#v", msg)
		}
		for _, j := range s.m.Statuses() {
			if j.State != runs.Cancelled {
				t.Errorf("%s is %s", j.Name, j.State)
			}
		}
	})
}

func TestControlCTwiceDoesNotWait(t *testing.T) {
	play(t, 1, monitor.Options{}, func(s *stage) {
		s.press("ctrl+c")
		// The group has not been given the time to end.
		msg := s.press("ctrl+c")
		if msg == nil || msg() != (monitor.Closed{Stopping: true}) {
			t.Error("the second ctrl-C did not leave")
		}
	})
}

func TestASignalCountsAsControlC(t *testing.T) {
	play(t, 1, monitor.Options{}, func(s *stage) {
		s.m.Update(monitor.Interrupt{})
		if msg := s.tick()(); msg != (monitor.Closed{}) {
			t.Errorf("after the clean-up came %#v", msg)
		}
	})
}

func TestJobsThatGoOnAreLeft(t *testing.T) {
	play(t, 1, monitor.Options{Leavable: true}, func(s *stage) {
		s.want("q leave, jobs go on")
		if cmd := s.press("ctrl+c"); cmd == nil || cmd() != (monitor.Closed{}) {
			t.Error("ctrl-C did not leave")
		}
		s.want("1 running")
	})
}

func TestTheEndSaysWhatLandedWhereAndHowItWasVerified(t *testing.T) {
	play(t, 2, monitor.Options{Back: true}, func(s *stage) {
		if cmd := s.press("enter"); cmd != nil {
			t.Error("enter closed the screen of running exports")
		}
		s.end <- nil
		s.end <- errors.New("disk 1: the checksum differs\x1b[2J")
		s.want("finished: 1 of 2 exported and verified, 3.0 GiB, 1 failed", "1 disk(s) verified against the host's manifest; 1 disk(s) read from the datastore",
			"virsh define vm00", "a note", `the checksum differs\x1b[2J`, "b back to the list")
		if cmd := s.press("b"); cmd == nil || cmd() != (monitor.Closed{Back: true}) {
			t.Error("b did not go back")
		}
		if cmd := s.press("enter"); cmd == nil || cmd() != (monitor.Closed{}) {
			t.Error("enter did not close")
		}
	})
}

func TestAFailedVMIsRunAgain(t *testing.T) {
	play(t, 1, monitor.Options{}, func(s *stage) {
		s.end <- errors.New("cable")
		s.want("1 failed", "cable")
		s.do("r")
		s.want("1 running")
	})
}

func TestTroubleIsTold(t *testing.T) {
	play(t, 1, monitor.Options{Interval: time.Second}, func(s *stage) {
		s.m.Update(monitor.Trouble{Err: errors.New("no such job")})
		s.want("no such job")
	})
}
