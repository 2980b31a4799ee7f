package display_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/progress/display"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const mib = 1 << 20

// run shows t with p while script goes on, in virtual time, and waits for the
// last state.
func run(t *testing.T, p display.Printer, tracker *progress.Tracker, script func()) {
	t.Helper()
	stop := display.Start(t.Context(), p, tracker)
	script()
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// advance moves file by total bytes over d, a hundredth at a time.
func advance(file *progress.File, total int64, d time.Duration) {
	for i := range int64(100) {
		time.Sleep(d / 100)
		file.AddReceived(total / 100)
		file.SetPosition(total / 100 * (i + 1))
	}
}

// export is a run of two disks with a retry and a message that tries to take
// over the terminal.
func export(tracker *progress.Tracker) {
	tracker.SetPhase(progress.Connecting)
	time.Sleep(time.Second)
	tracker.SetPhase(progress.Exporting)
	first, second := tracker.AddFile("disk-0.vmdk", 1000*mib), tracker.AddFile("disk\x1b[2J-1.vmdk", 1000*mib)
	first.SetState(progress.Active)
	advance(first, 1000*mib, 50*time.Second)
	first.SetState(progress.Complete)
	second.SetState(progress.Active)
	advance(second, 500*mib, 25*time.Second)
	second.SetState(progress.Retrying)
	second.AddRetry()
	second.Event(progress.Warning, "asking again in 1s: \x1b]0;owned\x07cut")
	time.Sleep(time.Second)
	second.SetState(progress.Active)
	advance(second, 1000*mib, 50*time.Second)
	second.SetState(progress.Complete)
	tracker.SetPhase(progress.Done)
}

func TestPlainWritesALineForWhatMatters(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		tracker := progress.New()
		p := display.New(&out, display.Auto, display.Options{})
		run(t, p, tracker, func() { export(tracker) })
		if err := p.Result("exported to /data/vm", nil); err != nil {
			t.Error(err)
		}
		text := out.String()
		wantNoControls(t, text)
		for _, want := range []string{
			"connecting\n", "exporting\n", "disk-0.vmdk: complete\n",
			`warning: disk\x1b[2J-1.vmdk: asking again in 1s: \x1b]0;owned\x07cut` + "\n",
			" MiB/s  ", " left\n", "done (100.0%)  2.0 GiB of 2.0 GiB", "exported to /data/vm\n",
		} {
			if !strings.Contains(text, want) {
				t.Errorf("%q is missing in\n%s", want, text)
			}
		}
		// 126 s and 100 % give a line every 10 s or 10 %, not one a second.
		if n := strings.Count(text, "%)"); n < 10 || n > 25 {
			t.Errorf("%d lines of progress in\n%s", n, text)
		}
	})
}

func TestPlainSaysThatAStuckRunIsAlive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		tracker := progress.New()
		tracker.SetPhase(progress.Exporting)
		tracker.AddFile("disk-0.vmdk", mib).SetState(progress.Active)
		run(t, display.New(&out, display.Plain, display.Options{}), tracker, func() { time.Sleep(35 * time.Second) })
		if n := strings.Count(out.String(), "exporting (0.0%)"); n != 3 {
			t.Errorf("%d lines in 35 s without progress, want 3:\n%s", n, out.String())
		}
	})
}

func TestWhatFollowsTheTransferIsShownWithItsTimeAndWithoutARate(t *testing.T) {
	t.Parallel()
	for mode, want := range map[display.Mode][]string{
		display.Plain: {"landing (100.0%)  1000.0 MiB of 1000.0 MiB  waiting for the guest\n", "landing for 10s  waiting for the guest\n", "landing for 20s  waiting for the guest\n"},
		display.Bars:  {"landing  1 of 1 files complete  waiting for the guest", "100.0%  for 20s  1000.0 MiB of 1000.0 MiB"},
		display.JSON:  {`"phase":"landing","percent":100,"position":1048576000,"total":1048576000,"received":1048576000,"rate":0,"files"`},
	} {
		t.Run(want[0], func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				tracker := progress.New()
				options := display.Options{}
				if mode == display.Bars {
					options.Size = func() (int, int) { return 120, 24 }
				}
				before := 0
				run(t, display.New(&out, mode, options), tracker, func() {
					tracker.SetPhase(progress.Exporting)
					file := tracker.AddFile("disk-0.qcow2", 1000*mib)
					file.SetState(progress.Active)
					advance(file, 1000*mib, 30*time.Second)
					synctest.Wait()
					before = out.Len()
					file.SetState(progress.Complete)
					tracker.SetPhase(progress.Landing)
					defer tracker.Begin("waiting for the guest").End()
					time.Sleep(21 * time.Second)
				})
				text := out.String()[before:]
				for _, w := range want {
					if !strings.Contains(text, w) {
						t.Errorf("%q is missing in\n%s", w, text)
					}
				}
				if strings.Contains(text, "B/s") || strings.Contains(text, " left") {
					t.Errorf("a rate, or a time that is left, in\n%s", text)
				}
			})
		})
	}
}

func TestARunThatWaitsSaysForWhat(t *testing.T) {
	t.Parallel()
	for mode, name := range map[display.Mode]string{display.Plain: "plain", display.JSON: "JSON", display.Bars: "bars"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				tracker := progress.New()
				tracker.SetPhase(progress.Verifying)
				tracker.AddFile("disk-0.vmdk", mib).SetState(progress.Active)
				options := display.Options{}
				if mode == display.Bars {
					options.Size = func() (int, int) { return 120, 24 }
				}
				run(t, display.New(&out, mode, options), tracker, func() {
					a := tracker.Begin("waiting for vCenter\x1b[2J")
					time.Sleep(12 * time.Second)
					a.End()
				})
				if !strings.Contains(out.String(), `waiting for vCenter\`) {
					t.Errorf("what it waits for is missing in\n%s", out.String())
				}
			})
		})
	}
}

func TestJSONWritesOneObjectToALine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		tracker := progress.New()
		p := display.New(&out, display.JSON, display.Options{})
		run(t, p, tracker, func() { export(tracker) })
		if err := p.Result("text", map[string]string{"vm_name": "vm\x1b"}); err != nil {
			t.Error(err)
		}
		wantNoControls(t, out.String())
		types := make(map[string]int)
		var last display.ProgressLine
		for line := range strings.Lines(out.String()) {
			var head display.Head
			if err := json.Unmarshal([]byte(line), &head); err != nil {
				t.Fatalf("%v in %s", err, line)
			}
			if head.Time.IsZero() {
				t.Errorf("no time in %s", line)
			}
			types[head.Type]++
			if head.Type == "progress" {
				if err := json.Unmarshal([]byte(line), &last); err != nil {
					t.Fatal(err)
				}
			}
		}
		if types["phase"] < 3 || types["event"] != 1 || types["result"] != 1 || types["error"] != 0 || types["progress"] < 100 {
			t.Errorf("lines by type: %v", types)
		}
		if last.Percent != 100 || last.Phase != progress.Done || len(last.Files) != 2 ||
			last.Files[1].Name != "disk\x1b[2J-1.vmdk" || last.Files[1].Retries != 1 || last.Received != 2500*mib/100*100 {
			t.Errorf("the last progress is %+v", last)
		}
	})
}

func TestJSONKeepsItsDocumentedMembers(t *testing.T) {
	t.Parallel()
	seconds := int64(9)
	when := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	head := func(kind string) display.Head { return display.Head{Type: kind, Time: when} }
	for _, test := range []struct {
		line any
		want string
	}{
		{display.PhaseLine{Head: head("phase"), Phase: progress.Exporting}, `{"type":"phase","time":"2030-01-02T03:04:05Z","phase":"exporting"}`},
		{display.EventLine{Head: head("event"), Level: progress.Warning, File: "f", Text: "t"}, `{"type":"event","time":"2030-01-02T03:04:05Z","level":"warning","file":"f","text":"t"}`},
		{display.ProgressLine{Head: head("progress"), Phase: progress.Exporting, Percent: 1.5, Position: 2, Total: 3, Received: 4,
			Pace: display.Pace{Rate: 5, Remaining: &seconds},
			Files: []display.FileProgress{{FileSnapshot: progress.FileSnapshot{Name: "f", State: progress.Active, Total: 1, Position: 2, Received: 3, Retries: 4},
				Pace: display.Pace{Rate: 5}}}},
			`{"type":"progress","time":"2030-01-02T03:04:05Z","phase":"exporting","percent":1.5,"position":2,"total":3,"received":4,"rate":5,"remaining_seconds":9,` +
				`"files":[{"name":"f","state":"active","total":1,"position":2,"received":3,"retries":4,"rate":5}]}`},
		{display.ResultLine{Head: head("result"), Result: 1}, `{"type":"result","time":"2030-01-02T03:04:05Z","result":1}`},
		{display.ErrorLine{Head: head("error"), Error: "e", Hint: "h"}, `{"type":"error","time":"2030-01-02T03:04:05Z","error":"e","hint":"h"}`},
	} {
		if got, err := json.Marshal(test.line); err != nil || string(got) != test.want {
			t.Errorf("got  %s (%v)\nwant %s", got, err, test.want)
		}
	}
}

func TestErrorsComeWithTheirHint(t *testing.T) {
	t.Parallel()
	for mode, want := range map[display.Mode]string{
		display.Plain: "error: no VM \\x1b[31m\nhint: try list\n",
		display.JSON:  `"error":"no VM \u001b[31m","hint":"try list"}` + "\n",
	} {
		var out bytes.Buffer
		if err := display.New(&out, mode, display.Options{}).Error(errors.New("no VM \x1b[31m"), "try list"); err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(out.String(), want) {
			t.Errorf("wrote %q, want %q", out.String(), want)
		}
	}
}

func TestNothingButATerminalGetsBars(t *testing.T) {
	t.Parallel()
	terminal := func() (int, int) { return 80, 24 }
	file, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for name, test := range map[string]struct {
		mode display.Mode
		size func() (int, int)
		env  map[string]string
		bars bool
	}{
		"a terminal":                {display.Auto, terminal, map[string]string{"TERM": "xterm"}, true},
		"a terminal by choice":      {display.Bars, terminal, nil, true},
		"a terminal of no kind":     {display.Auto, terminal, nil, false},
		"a dumb terminal":           {display.Auto, terminal, map[string]string{"TERM": "dumb"}, false},
		"a terminal with NO_COLOR":  {display.Auto, terminal, map[string]string{"TERM": "xterm", "NO_COLOR": "1"}, true},
		"a terminal asked for text": {display.Plain, terminal, map[string]string{"TERM": "xterm"}, false},
		"a file":                    {display.Auto, nil, map[string]string{"TERM": "xterm"}, false},
		"a file asked for bars":     {display.Bars, nil, map[string]string{"TERM": "xterm"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				tracker := progress.New()
				p := display.New(&out, test.mode, display.Options{Size: test.size, Getenv: func(k string) string { return test.env[k] }})
				run(t, p, tracker, func() { export(tracker) })
				if got := strings.Contains(out.String(), "\x1b"); got != test.bars {
					t.Errorf("escape sequences: %v, want %v", got, test.bars)
				}
			})
		})
	}
}

func TestAWriterThatFailsEndsTheRun(t *testing.T) {
	t.Parallel()
	for _, mode := range []display.Mode{display.Bars, display.Plain, display.JSON} {
		synctest.Test(t, func(t *testing.T) {
			broken := errors.New("broken pipe")
			tracker := progress.New()
			p := display.New(failing{broken}, mode, display.Options{Size: func() (int, int) { return 80, 24 }})
			if err := p.Run(t.Context(), tracker); !errors.Is(err, broken) {
				t.Errorf("Run = %v, want the writer's error", err)
			}
			if err := p.Result("x", 1); !errors.Is(err, broken) {
				t.Errorf("Result = %v, want the writer's error", err)
			}
		})
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func wantNoControls(t *testing.T, text string) {
	t.Helper()
	for _, r := range text {
		if r < ' ' && r != '\n' || r == 0x7f {
			t.Fatalf("control character %q in\n%s", r, text)
		}
	}
}

func bars(s *screen) display.Printer {
	return display.New(s, display.Bars, display.Options{Size: s.size})
}

func TestBarsShowEachDiskAndTheTotal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, tracker := newScreen(t, 100, 24), progress.New()
		run(t, bars(s), tracker, func() {
			tracker.SetPhase(progress.Exporting)
			first, second := tracker.AddFile("disk-0.vmdk", 100*mib), tracker.AddFile("disk-1.vmdk", 300*mib)
			first.SetState(progress.Active)
			advance(first, 100*mib, 20*time.Second)
			first.SetState(progress.Complete)
			second.SetState(progress.Active)
			second.AddRetry()
			advance(second, 150*mib, 30*time.Second)
			time.Sleep(200 * time.Millisecond)
			if !s.hidden {
				t.Error("the cursor is visible while bars are drawn")
			}
			text := strings.Join(s.lines(), "\n")
			for _, want := range []string{"exporting  1 of 2 files complete", "disk-0.vmdk", "complete", "100.0 MiB",
				"disk-1.vmdk", " 50.0%", "MiB/s", "30s left", "1 retry", "total", " 62.5%", "250.0 MiB of 400.0 MiB", "━", "─"} {
				if !strings.Contains(text, want) {
					t.Errorf("%q is missing in\n%s", want, text)
				}
			}
			if n := len(s.lines()); n != 4 {
				t.Errorf("%d lines, want a headline, two disks and the total:\n%s", n, text)
			}
			second.SetPosition(300 * mib)
			second.SetState(progress.Complete)
			tracker.SetPhase(progress.Done)
			synctest.Wait()
		})
		last := strings.Join(s.lines(), "\n")
		if s.hidden || !strings.Contains(last, "done  2 of 2 files complete") || !strings.Contains(last, "100.0%") {
			t.Errorf("cursor hidden: %v; the last state is\n%s", s.hidden, last)
		}
	})
}

func TestAnOrdinaryTerminalHasRoomForRateTimeAndRetries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, tracker := newScreen(t, 80, 24), progress.New()
		run(t, bars(s), tracker, func() {
			tracker.SetPhase(progress.Exporting)
			disk := tracker.AddFile("win2019-x86_64 - Clone-disk-0.vmdk", 100_000*mib)
			disk.SetState(progress.Active)
			disk.AddRetry()
			disk.AddRetry()
			advance(disk, 10_000*mib, 400*time.Second)
		})
		text := strings.Join(s.lines(), "\n")
		for _, want := range []string{"Clone-disk-0.vmdk", " 10.0%", " MiB/s", " left", "2 retries"} {
			if !strings.Contains(text, want) {
				t.Errorf("%q is missing in\n%s", want, text)
			}
		}
	})
}

func TestBarsRestoreTheCursorWhenCancelled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, tracker := newScreen(t, 80, 24), progress.New()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := bars(s).Run(ctx, tracker); err != nil {
			t.Error(err)
		}
		if s.hidden || s.x != 0 {
			t.Errorf("cursor hidden: %v, in column %d", s.hidden, s.x)
		}
	})
}

func TestBarsLetEventsScrollByAboveThem(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, tracker := newScreen(t, 80, 10), progress.New()
		run(t, bars(s), tracker, func() {
			tracker.SetPhase(progress.Exporting)
			file := tracker.AddFile("disk-0.vmdk", mib)
			for i := range 30 {
				file.Event(progress.Warning, fmt.Sprintf("retry %d %s", i, strings.Repeat("because ", 15)))
				time.Sleep(time.Second)
			}
		})
		all := strings.Join(append(s.scrolled, s.lines()...), "\n")
		for i := range 30 {
			if n := strings.Count(all, fmt.Sprintf("retry %d ", i)); n != 1 {
				t.Errorf("event %d is shown %d times", i, n)
			}
		}
		if n := strings.Count(all, "total"); n != 1 {
			t.Errorf("%d totals on the screen and above it:\n%s", n, all)
		}
	})
}

func TestBarsFitEveryTerminal(t *testing.T) {
	t.Parallel()
	for _, size := range [][2]int{{200, 60}, {80, 24}, {40, 10}, {20, 5}, {10, 4}, {3, 3}, {1, 2}} {
		synctest.Test(t, func(t *testing.T) {
			s, tracker := newScreen(t, size[0], size[1]), progress.New()
			tracker.SetPhase(progress.Exporting)
			for i := range 70 {
				f := tracker.AddFile(fmt.Sprintf("a very long name of a virtual machine 仮想マシン disk-%d.vmdk", i), 10*mib)
				f.SetState([]progress.FileState{progress.Waiting, progress.Active, progress.Retrying, progress.Complete, progress.Failed}[i%5])
				f.SetPosition(int64(i) * mib / 10)
				f.AddRetry()
			}
			run(t, bars(s), tracker, func() { time.Sleep(3 * time.Second) })
			if len(s.scrolled) > 0 {
				t.Errorf("%dx%d: the frame scrolled: %q", size[0], size[1], s.scrolled)
			}
			text := strings.Join(s.lines(), "\n")
			if size[0] >= 80 && (!strings.Contains(text, "… and ") && size[1] < 60 || !strings.Contains(text, "disk-66.vmdk")) {
				t.Errorf("%dx%d: a moving disk or the sum of the others is missing:\n%s", size[0], size[1], text)
			}
		})
	}
}

func TestBarsSurviveAResize(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, tracker := newScreen(t, 120, 24), progress.New()
		tracker.SetPhase(progress.Exporting)
		for i := range 4 {
			tracker.AddFile(fmt.Sprintf("disk-%d.vmdk", i), mib).SetState(progress.Active)
		}
		run(t, bars(s), tracker, func() {
			for _, columns := range []int{70, 30, 100, 25, 120} {
				time.Sleep(time.Second)
				synctest.Wait()
				s.resize(columns)
			}
			time.Sleep(time.Second)
		})
		text := strings.Join(append(s.scrolled, s.lines()...), "\n")
		if strings.Count(text, "total") != 1 || strings.Count(text, "disk-2.vmdk") != 1 {
			t.Errorf("the screen is garbled:\n%s", text)
		}
	})
}

func TestAFrameIsOneWrite(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, tracker := newScreen(t, 80, 24), progress.New()
		tracker.SetPhase(progress.Exporting)
		for i := range 10 {
			tracker.AddFile(fmt.Sprint(i), mib)
		}
		run(t, bars(s), tracker, func() { time.Sleep(time.Second + time.Millisecond) })
		// Hidden cursor, 11 samples, the last state, and the cursor again.
		if s.writes != 14 {
			t.Errorf("%d writes in a second, want 14", s.writes)
		}
		if strings.Contains(s.raw.String(), "\x1b[2J") {
			t.Error("the screen is cleared between frames")
		}
	})
}
