package monitor_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
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
type halfway struct {
	end   chan error
	moved chan *progress.File // not nil: gets the file that moves
	land  chan struct{}       // gets a value: the files are whole, and are landed
}

func (b halfway) Export(ctx context.Context, j *runs.Job) (job.Result, error) {
	t := j.Tracker
	t.SetPhase(progress.Exporting)
	var files []*progress.File
	for i, state := range []progress.FileState{progress.Complete, progress.Active} {
		f := t.AddFile(fmt.Sprintf("%s-disk-%d.qcow2", j.Name, i), 1<<30)
		f.SetState(state)
		f.SetPosition(int64(1<<30) >> i)
		f.AddReceived(1 << 28)
		files = append(files, f)
		if state == progress.Active {
			f.AddRetry()
			f.Event(progress.Warning, "connection reset; trying again")
			select {
			case b.moved <- f:
			default:
			}
		}
	}
	for {
		select {
		case <-b.land:
			for _, f := range files {
				f.SetState(progress.Complete)
			}
			t.SetPhase(progress.Landing)
		case err := <-b.end:
			return job.Result{
				OutputDir: "/srv/" + j.Name, DomainXML: "/srv/" + j.Name + "/" + j.Name + ".xml", TotalSize: 3 << 30,
				Disks: []job.DiskResult{{Verified: "manifest"}, {Verified: "size"}}, Notes: []string{"a note"},
			}, err
		case <-ctx.Done():
			return job.Result{}, fmt.Errorf("%w: %w", ctx.Err(), context.Cause(ctx))
		}
	}
}

func (halfway) Remove(context.Context, *runs.Job) (job.Result, error) { return job.Result{}, nil }

func (halfway) Hold(context.Context, *runs.Job, bool) error { return nil }

// stage is a screen over n VMs.
type stage struct {
	t   *testing.T
	m   *monitor.Model
	end chan error

	moving chan *progress.File
	land   chan struct{}
}

// move moves the first file that moves on by n bytes.
func (s *stage) move(n int64) {
	f := <-s.moving
	f.AddReceived(n)
	f.SetPosition(f.Snapshot().Position + n)
	s.moving <- f
	s.tick()
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
		b := halfway{end: make(chan error), moved: make(chan *progress.File, 1), land: make(chan struct{})}
		g := runs.NewGroup(b, specs, runs.Options{})
		ctx, cancel := context.WithCancelCause(t.Context())
		over := make(chan struct{})
		go func() { defer close(over); g.Run(ctx) }()
		synctest.Wait()
		s := &stage{t: t, m: monitor.New(g, o), end: b.end, moving: b.moved, land: b.land}
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
	case "up":
		k = tea.KeyPressMsg{Code: tea.KeyUp}
	case "pgdown":
		k = tea.KeyPressMsg{Code: tea.KeyPgDown}
	case "home":
		k = tea.KeyPressMsg{Code: tea.KeyHome}
	case "end":
		k = tea.KeyPressMsg{Code: tea.KeyEnd}
	case "esc":
		k = tea.KeyPressMsg{Code: tea.KeyEscape}
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
		s.want("2 running", "vm000", "vm000-disk-0.qcow2", "complete", "vm001-disk-1.qcow2", "active", "1 retry",
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
		s.want("2 running, 1 waiting")
		if cmd := s.press("ctrl+c"); cmd != nil {
			t.Error("the first ctrl-C closed the screen")
		}
		s.want("stop all 3 exports?", "2 running, 1 waiting")
		s.press("n")
		s.want("2 running, 1 waiting")
		s.press("ctrl+c")
		if cmd := s.press("y"); cmd != nil {
			t.Error("what stops everything closed the screen")
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

func TestControlCOnceMoreDoesNotWait(t *testing.T) {
	play(t, 1, monitor.Options{}, func(s *stage) {
		s.press("ctrl+c")
		if cmd := s.press("ctrl+c"); cmd != nil {
			t.Error("a second ctrl-C, which means it, left")
		}
		// The group has not been given the time to end.
		msg := s.press("ctrl+c")
		if msg == nil || msg() != (monitor.Closed{Stopping: true}) {
			t.Error("the third ctrl-C did not leave")
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

// finish ends n of the VMs that run.
func (s *stage) finish(n int) {
	for range n {
		s.end <- nil
		synctest.Wait()
	}
}

// lacks fails when the screen shows one of parts.
func (s *stage) lacks(parts ...string) {
	s.t.Helper()
	text := s.screen(100, 30)
	for _, p := range parts {
		if strings.Contains(text, p) {
			s.t.Errorf("the screen shows %q:\n%s", p, text)
		}
	}
}

func TestWhatRunsStandsFirstAndWhatIsDoneIsSummedUp(t *testing.T) {
	play(t, 60, monitor.Options{}, func(s *stage) {
		s.finish(40)
		s.want("2 running, 18 waiting, 40 done", "❯ vm040", "vm041", "vm042")
		s.lacks("vm000", "vm039")
		for range 18 {
			s.press("down")
		}
		s.press("end")
		s.want("❯ vm059", "✓ 40 done, 120.0 GiB  (v shows them)")
		s.press("v")
		s.press("end")
		s.want("❯ vm039", "3.0 GiB in")
		s.press("v")
		s.want("❯ vm040", "vm042")
	})
}

func TestTheScreenFollowsWhatMovesUntilOneLooksAround(t *testing.T) {
	play(t, 60, monitor.Options{}, func(s *stage) {
		s.want("❯ vm000")
		s.finish(10)
		s.want("❯ vm010")
		for range 10 {
			s.press("down")
		}
		s.want("❯ vm020")
		s.finish(5)
		s.want("❯ vm020", "vm015")
		s.press("f")
		s.finish(20)
		s.want("❯ vm035", "vm036")
	})
}

func TestHomeEndAndPagesReachEveryVM(t *testing.T) {
	play(t, 100, monitor.Options{}, func(s *stage) {
		s.screen(100, 30)
		s.press("pgdown")
		s.want("❯ vm022")
		s.press("end")
		s.want("❯ vm099")
		s.press("home")
		s.want("❯ vm000")
		s.press("up")
		s.want("❯ vm000")
	})
}

func TestTheListIsFiltered(t *testing.T) {
	play(t, 100, monitor.Options{}, func(s *stage) {
		for _, k := range []string{"/", "v", "m", "0", "9"} {
			s.press(k)
		}
		s.want("/vm09", "❯ vm090", "vm099", "2 running, 98 waiting")
		s.lacks("vm000", "vm002")
		s.press("enter")
		s.want("esc show all")
		s.press("esc")
		s.want("❯ vm000")
		s.press("/")
		s.press("z")
		s.press("enter")
		s.want("no VM is shown")
		s.press("p") // nothing is under the cursor
		s.press("x")
		s.press("esc")
		s.want("2 running, 98 waiting")
	})
}

func TestOnlyWhatFailedIsShown(t *testing.T) {
	play(t, 100, monitor.Options{}, func(s *stage) {
		s.finish(3)
		s.end <- errors.New("no route to host")
		s.press("e")
		s.want("1 failed", "no route to host", "❯ vm")
		s.lacks("vm050")
		s.press("e")
		s.want("vm006")
	})
}

func TestTheMouseChoosesAndScrolls(t *testing.T) {
	play(t, 100, monitor.Options{}, func(s *stage) {
		lines := strings.Split(s.screen(100, 30), "\n")
		for y, l := range lines {
			if strings.Contains(l, "vm005") {
				s.m.Update(tea.MouseClickMsg{X: 5, Y: y, Button: tea.MouseLeft})
			}
		}
		s.want("❯ vm005")
		s.m.Update(tea.MouseWheelMsg{Button: tea.MouseWheelDown})
		s.want("❯ vm008")
		s.m.Update(tea.MouseWheelMsg{Button: tea.MouseWheelUp})
		s.want("❯ vm005")
		s.m.Update(tea.MouseClickMsg{X: 5, Y: 29, Button: tea.MouseLeft}) // on no VM
		s.want("❯ vm005")
	})
}

func TestTheLogTellsOnceWhatRepeats(t *testing.T) {
	play(t, 60, monitor.Options{}, func(s *stage) {
		s.finish(30)
		text := s.screen(100, 30)
		if n := strings.Count(text, "connection reset"); n != 1 {
			t.Errorf("it is told %d times:\n%s", n, text)
		}
		s.want("vm031 and 31 more", "(32 times) connection reset; trying again")
	})
}

func TestHelpTellsTheKeys(t *testing.T) {
	play(t, 100, monitor.Options{}, func(s *stage) {
		s.press("?")
		s.want("only names with these words", "leave the rest to a daemon", "any key")
		s.press("x") // closes it, and does nothing else
		s.want("2 running, 98 waiting", "? help")
	})
}

func TestEscAndQDoNotEndWhatRuns(t *testing.T) {
	play(t, 2, monitor.Options{}, func(s *stage) {
		for _, k := range []string{"esc", "q"} {
			if cmd := s.press(k); cmd != nil {
				t.Errorf("%s left", k)
			}
			s.want("ctrl-c stops them", "2 running")
		}
	})
}

func TestDetachAsksAndSaysHowWhereNoDaemonIsKnown(t *testing.T) {
	play(t, 2, monitor.Options{}, func(s *stage) {
		if cmd := s.press("d"); cmd != nil {
			t.Error("it detached to nowhere")
		}
		s.want("-daemon", "tmux")
	})
}

func TestDetachHandsTheRestOver(t *testing.T) {
	play(t, 3, monitor.Options{Find: func(context.Context) string { return "unix:///run/d.sock" }}, func(s *stage) {
		s.end <- nil
		s.tick()
		s.do("d")
		s.want("hand the other 2 to unix:///run/d.sock?")
		if cmd := s.press("n"); cmd != nil {
			t.Error("no was taken for yes")
		}
		s.do("d")
		if cmd := s.press("y"); cmd == nil || cmd() != (monitor.Detach{To: "unix:///run/d.sock"}) {
			t.Error("it was not handed over")
		}
	})
}

func TestAVMThatIsLandedShowsForHowLongAndNoRate(t *testing.T) {
	play(t, 1, monitor.Options{}, func(s *stage) {
		s.tick()
		time.Sleep(time.Second)
		s.move(512 << 20)
		s.want("MiB/s")
		s.land <- struct{}{}
		s.tick()
		time.Sleep(70 * time.Second)
		s.want("landing", "  for 1m")
		if text := s.screen(100, 30); strings.Contains(text, "B/s") || strings.Contains(text, "left") {
			t.Errorf("a rate, or a time that is left:\n%s", text)
		}
	})
}

func TestTheTotalHasEveryVMFromTheStartAndNeverFalls(t *testing.T) {
	play(t, 60, monitor.Options{}, func(s *stage) {
		percent := regexp.MustCompile(`total .* (\d+\.\d)%`)
		last := 0.0
		for n := range 58 {
			text := s.screen(100, 30)
			m := percent.FindStringSubmatch(text)
			if m == nil {
				t.Fatalf("no total:\n%s", text)
			}
			now, _ := strconv.ParseFloat(m[1], 64)
			if now < last || now > float64(n+2)/60*100+1 {
				t.Errorf("with %d of 60 done the total is %v %%, after %v %%", n, now, last)
			}
			last = now
			s.finish(1)
		}
	})
}

func TestTheEndOfTheRunIsTold(t *testing.T) {
	play(t, 2, monitor.Options{}, func(s *stage) {
		s.want("1 retry")
		s.lacks("ends")
		s.move(1 << 20)
		time.Sleep(10 * time.Second)
		s.move(1 << 28)
		s.want("left, ends ")
		time.Sleep(time.Minute)
		s.want("stalled 1m0")
	})
}
