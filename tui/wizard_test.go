package tui

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/internal/terminal"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/job/jobfile"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/tui/cell"
	"github.com/hyper2kvm/hyper2kvm/tui/plan"
	"github.com/hyper2kvm/hyper2kvm/tui/runs"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// tour is a walk through the wizard, with everything behind it made up.
type tour struct {
	t       *testing.T
	w       *wizard
	begun   [][]runs.Spec
	refuse  map[string]string // by VM: an obstacle
	free    int64
	thin    bool  // a closer look finds a thin disk
	failure error // of begin
	quit    bool
}

// ended is a backend whose jobs are done at once.
type ended struct{}

func (ended) Export(_ context.Context, j *runs.Job) (job.Result, error) {
	j.Tracker.SetPhase(progress.Done)
	return job.Result{OutputDir: j.Def.OutputPath}, nil
}

func (ended) Remove(context.Context, *runs.Job) (job.Result, error) { return job.Result{}, nil }

func (ended) Hold(context.Context, *runs.Job, bool) error { return nil }

func newTour(t *testing.T) *tour {
	t.Helper()
	tr := &tour{t: t, free: 1 << 40, refuse: map[string]string{}}
	vms := []vsphere.VM{
		{Ref: "vm-1", Name: "web01", Path: "/DC0/vm/web01", Power: vsphere.PoweredOff, CommittedBytes: 10 << 30},
		{Ref: "vm-2", Name: "web02", Path: "/DC0/vm/web02", Power: vsphere.PoweredOn, CommittedBytes: 20 << 30},
		{Ref: "vm-3", Name: "it's db", Path: "/DC0/vm/it's db", Power: vsphere.PoweredOff, CommittedBytes: 5 << 30},
	}
	s := services{
		title: "vc.example.com",
		inspect: func(_ context.Context, vm vsphere.VM, _ vsphere.PreflightOptions) (vsphere.VM, []vsphere.Obstacle, error) {
			if text := tr.refuse[vm.Name]; text != "" {
				return vm, []vsphere.Obstacle{{Code: "x", Severity: vsphere.SeverityError, Text: text, Hint: "mend it"}}, nil
			}
			if tr.thin {
				vm.Disks = []vsphere.Disk{{Thin: true, Capacity: 1 << 40}}
			}
			return vm, nil, nil
		},
		begin: func(_ context.Context, specs []runs.Spec, _ plan.Choices) (*runs.Group, error) {
			if tr.failure != nil {
				return nil, tr.failure
			}
			tr.begun = append(tr.begun, specs)
			return runs.NewGroup(ended{}, specs, runs.Options{Parallel: -1}), nil
		},
		free: func(string) int64 { return tr.free },
		do:   func(f func(context.Context) tea.Msg) tea.Cmd { return func() tea.Msg { return f(t.Context()) } },
		start: func(g *runs.Group) {
			ctx, cancel := context.WithCancel(t.Context())
			over := make(chan struct{})
			go func() { defer close(over); g.Run(ctx) }()
			for !g.Ended() {
				changed := g.Changed()
				if !g.Ended() {
					<-changed
				}
			}
			cancel()
			<-over
		},
	}
	c := plan.Choices{Output: "/srv/vms", VMs: 2}
	c.Options.Format, c.Options.ParallelDownloads = job.FormatQcow2, 4
	tr.w = newWizard(s, vms, c)
	tr.send(tea.WindowSizeMsg{Width: 100, Height: 40})
	return tr
}

// send gives a message to the wizard and carries out what it asks for, except
// what waits for time to pass.
func (tr *tour) send(msg tea.Msg) {
	_, cmd := tr.w.Update(msg)
	tr.carry(cmd)
}

func (tr *tour) carry(cmd tea.Cmd) {
	if cmd == nil {
		return
	}
	switch msg := cmd().(type) {
	case nil:
	case tea.BatchMsg:
		for _, c := range msg {
			tr.carry(c)
		}
	case tea.QuitMsg:
		tr.quit = true
	default:
		if name := fmt.Sprintf("%T", msg); name != "monitor.tick" && name != "picker.rested" {
			tr.send(msg)
		}
	}
}

func (tr *tour) press(names ...string) {
	codes := map[string]rune{"enter": tea.KeyEnter, "esc": tea.KeyEscape, "tab": tea.KeyTab, "down": tea.KeyDown, "up": tea.KeyUp, "right": tea.KeyRight, "left": tea.KeyLeft, "end": tea.KeyEnd}
	for _, name := range names {
		letter, ctrl := strings.CutPrefix(name, "ctrl+")
		switch code, special := codes[name]; {
		case special:
			tr.send(tea.KeyPressMsg{Code: code})
		case ctrl:
			tr.send(tea.KeyPressMsg{Code: rune(letter[0]), Mod: tea.ModCtrl})
		default:
			for _, r := range name {
				tr.send(tea.KeyPressMsg{Code: r, Text: string(r)})
			}
		}
	}
}

func (tr *tour) want(parts ...string) {
	tr.t.Helper()
	text := ansi.Strip(tr.w.View().Content)
	for _, p := range parts {
		if !strings.Contains(text, p) {
			tr.t.Errorf("the screen lacks %q:\n%s", p, text)
		}
	}
}

func (tr *tour) wantNot(parts ...string) {
	tr.t.Helper()
	text := ansi.Strip(tr.w.View().Content)
	for _, p := range parts {
		if strings.Contains(text, p) {
			tr.t.Errorf("the screen has %q:\n%s", p, text)
		}
	}
}

func TestBackAndForthThroughTheStepsKeepsWhatWasChosen(t *testing.T) {
	t.Parallel()
	tr := newTour(t)
	tr.press("web", "ctrl+a", "enter")
	tr.want("options", "2 VMs, 30.0 GiB", "1 not powered off", "Snapshot running VMs")
	tr.press("right", "enter") // raw
	tr.want("confirm", "Export 2 VMs", "sparse raw image", "-format raw", "format: raw", "1 running VM is exported from a temporary snapshot")
	tr.press("esc")
	tr.want("● raw", "Output directory")
	tr.press("esc")
	tr.want("Search: web", "● 2 selected")
	tr.press("ctrl+u", "db", "tab", "enter")
	tr.want("3 VMs, 35.0 GiB", "● raw")
	tr.press("enter")
	tr.want("→ web01/", "→ it_s db/", `-vm '/DC0/vm/it'\''s db'`)
	tr.press("enter")
	if len(tr.begun) != 1 || len(tr.begun[0]) != 3 || tr.begun[0][1].Def.Options.Format != job.FormatRaw {
		t.Fatalf("begun: %+v", tr.begun)
	}
	tr.want("finished: 3 of 3 exported and verified")
	tr.press("b")
	tr.want("Search:")
	tr.press("ctrl+c")
	if !tr.quit || len(tr.w.done) != 3 {
		t.Errorf("left: %t, with %d outcomes", tr.quit, len(tr.w.done))
	}
}

// downTo moves the cursor down to a question.
func (tr *tour) downTo(label string) {
	tr.t.Helper()
	for range 40 {
		if strings.Contains(ansi.Strip(tr.w.View().Content), "❯ "+label) {
			return
		}
		tr.press("down")
	}
	tr.want("❯ " + label)
}

func TestWhatBecomesOfTheGuestIsAskedForWhereItMeansSomething(t *testing.T) {
	t.Parallel()
	tr := newTour(t)
	tr.press("web", "ctrl+a", "enter")
	tr.wantNot("Keep addresses", "Land at libvirt")
	tr.downTo("Shut running VMs down")
	tr.press("right")
	tr.wantNot("Snapshot running VMs")
	tr.downTo("Convert the guest")
	tr.press("right")
	tr.downTo("More options")
	tr.press("right")
	tr.want("Keep addresses", "Time to shut down", "Landing kits", "Bandwidth")
	tr.wantNot("Storage pool")
	tr.downTo("Keep addresses")
	tr.press("right")
	tr.downTo("Mark the source")
	tr.press("tag")
	tr.downTo("Land at libvirt")
	tr.press("qemu:///system")
	tr.downTo("Storage pool")
	tr.press("default")
	tr.downTo("Start the domain")
	tr.press("right")
	tr.downTo("Landing kits")
	tr.press("proxmox", "enter")
	tr.want("is shut down first", "virt-v2v makes each guest ready", "landing kit for proxmox", "go into the storage pool default", "is marked: tag",
		"-keep-ip -start -finish tag")
	tr.press("esc")
	for range 40 {
		tr.press("up")
	}
	tr.press("right", "right") // ovf: nothing of it means anything
	tr.wantNot("Convert the guest", "Keep addresses", "Land at libvirt")
	tr.press("enter", "enter")
	if len(tr.begun) != 1 {
		t.Fatalf("begun: %+v", tr.begun)
	}
	o := tr.begun[0][0].Def.Options
	if o.Format != job.FormatOVF || o.Convert || o.KeepIP || o.For != "" || o.Landing != (job.Landing{}) || o.Finish != "tag" || !o.Shutdown || o.Snapshot {
		t.Errorf("options %+v", o)
	}
}

func TestDisksCanBeReadFromTheDatastore(t *testing.T) {
	t.Parallel()
	tr := newTour(t)
	tr.press("db", "tab", "enter")
	tr.want("Read disks by", "● nfc")
	tr.downTo("Read disks by")
	tr.press("right", "right")
	tr.want("● datastore")
	tr.press("enter")
	tr.want("read from the datastore in ranges", "-transport datastore")
}

func TestWhatCannotFitIsRefused(t *testing.T) {
	t.Parallel()
	tr := newTour(t)
	tr.free = 9 << 30
	tr.thin = true // which the list of VMs does not tell
	tr.press("web01", "enter")
	tr.want("up to 10.0 GiB are needed and 9.0 GiB are free")
	tr.press("enter", "enter")
	tr.want("confirm", "✗ 10.0 GiB are needed and 9.0 GiB are free")
	if len(tr.begun) > 0 {
		t.Error("it was begun")
	}
	tr.press("esc", "left", "enter") // ovf: compressed
	tr.want("confirm", "Disks stay VMDK")
	tr.press("enter")
	if len(tr.begun) != 1 {
		t.Error("it was not begun")
	}
}

func TestOptionsThatCannotWorkAreToldAndNotGoneOnWith(t *testing.T) {
	t.Parallel()
	tr := newTour(t)
	tr.press("web01", "enter", "down", "ctrl+u", "enter")
	tr.want("options", "an output directory is needed")
	tr.press("/", "enter")
	tr.want("options", "output directory must not be the root directory")

	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, output := range []string{file, file + "/below"} {
		tr.press("ctrl+u")
		tr.w.Update(tea.PasteMsg{Content: output})
		tr.press("enter")
		tr.want("options", "001/file is a", "not a directory")
	}
}

func TestObstaclesAreOnTheLastPageAndAllRefusedDoesNotStart(t *testing.T) {
	t.Parallel()
	tr := newTour(t)
	tr.refuse["web01"] = "the VM has a virtual TPM"
	tr.press("web", "ctrl+a", "enter", "enter")
	tr.want("✗ web01", "will be refused", "the VM has a virtual TPM (mend it)", "✓ web02")
	tr.refuse["web02"] = "it is encrypted"
	tr.press("esc", "enter", "enter")
	tr.want("every VM is refused")
	if len(tr.begun) != 0 {
		t.Error("it was started")
	}
}

func TestAStartThatFailsStaysOnTheLastPage(t *testing.T) {
	t.Parallel()
	tr := newTour(t)
	tr.failure = errors.New("the daemon is gone\x1b[2J")
	tr.press("web01", "enter", "enter", "enter")
	tr.want("confirm", `the daemon is gone\x1b[2J`)
	tr.failure = nil
	tr.press("enter")
	tr.want("finished: 1 of 1")
}

func TestEscWhileItStartsDoesNotStartTheSameTwice(t *testing.T) {
	t.Parallel()
	tr := newTour(t)
	tr.press("web01", "enter", "enter")
	_, start := tr.w.Update(tea.KeyPressMsg{Code: tea.KeyEnter}) // the answer takes a while
	tr.press("esc", "enter", "enter")
	tr.want("confirm", "starting …")
	tr.carry(start)
	tr.want("finished: 1 of 1")
	if len(tr.begun) != 1 {
		t.Errorf("it was started %d times", len(tr.begun))
	}
}

// stuck is a session that cannot be ended.
type stuck struct{}

func (stuck) Close(context.Context) error { return errors.New("fault \x1b[2J") }

func TestALogOutThatFailsIsToldInSafeText(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	logOut(t.Context(), terminal.New(&out, &out), stuck{})
	if got := out.String(); !strings.Contains(got, `log out: fault \x1b[2J`) {
		t.Errorf("told %q", got)
	}
}

func TestTheJobFileIsWrittenForItsOwnerWhenAskedFor(t *testing.T) {
	t.Chdir(t.TempDir()) // so it cannot run beside others
	tr := newTour(t)
	tr.press("web", "ctrl+a", "enter", "enter", "w")
	tr.want("the job file is written: ", "hyper2kvm-jobs.yaml")
	f, err := os.Open("hyper2kvm-jobs.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("its mode is %v, %v", info.Mode(), err)
	}
	if batch, err := jobfile.Decode(f, "application/yaml"); err != nil || len(batch.Jobs) != 2 {
		t.Errorf("it is read as %+v, %v", batch, err)
	}
}

func TestEveryPageFitsEverySize(t *testing.T) {
	t.Parallel()
	tr := newTour(t)
	fits := func(page string) {
		t.Helper()
		for width := 20; width < 140; width += 31 {
			for height := 4; height < 50; height += 9 {
				tr.send(tea.WindowSizeMsg{Width: width, Height: height})
				lines := strings.Split(ansi.Strip(tr.w.View().Content), "\n")
				if len(lines) > height {
					t.Fatalf("%s: %d lines of %d", page, len(lines), height)
				}
				for _, l := range lines {
					if cell.Width(l) > width {
						t.Fatalf("%s: %d cells of %d: %q", page, cell.Width(l), width, l)
					}
				}
			}
		}
	}
	tr.press("ctrl+a", "enter")
	fits("options")
	tr.press("enter")
	fits("confirm")
	tr.press("end")
	fits("the end of confirm")
}

func TestOptionsOfASmallScreenFollowTheCursor(t *testing.T) {
	t.Parallel()
	tr := newTour(t)
	tr.press("web01", "enter")
	tr.downTo("More options")
	tr.press("right")
	tr.send(tea.WindowSizeMsg{Width: 50, Height: 12})
	for _, way := range []string{"up", "down"} {
		for range 24 {
			tr.press(way)
			tr.want("❯")
		}
	}
}

func TestTheSummaryTellsEachOutcomeAndCounts(t *testing.T) {
	t.Parallel()
	var out, errOut strings.Builder
	p := terminal.New(&out, &errOut)
	err := summarize(p, []runs.Status{
		{Spec: runs.Spec{Name: "a"}, State: runs.Done, Result: job.Result{OutputDir: "/srv/a", DomainXML: "/srv/a b/a.xml", Files: []string{"x"}, Disks: []job.DiskResult{{Verified: "manifest"}, {Verified: "second-read"}}}},
		{Spec: runs.Spec{Name: "b"}, State: runs.Failed, Err: fmt.Errorf("lost: %w", os.ErrDeadlineExceeded)},
		{Spec: runs.Spec{Name: "c"}, State: runs.Cancelled},
	}, false, false)
	var outcome *OutcomeError
	if !errors.As(err, &outcome) || outcome.Failed != 1 || outcome.Cancelled != 1 {
		t.Errorf("returned %v", err)
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.Is(err, context.Canceled) {
		t.Errorf("the reasons are lost in %v", err)
	}
	for _, part := range []string{"SUCCESS a:", "1 disk(s) verified against the host's manifest; 1 disk(s) read from the datastore twice", "virsh define '/srv/a b/a.xml'", "WARNING c: cancelled before it began"} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("%q is missing from\n%s", part, out.String())
		}
	}
	if !strings.Contains(errOut.String(), "ERROR b: lost") {
		t.Errorf("errors: %s", errOut.String())
	}
}

func TestJobsThatGoOnElsewhereAreNoFailure(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	if err := summarize(terminal.New(&out, &out), []runs.Status{{State: runs.Running}}, false, true); err != nil {
		t.Error(err)
	}
	if !strings.Contains(out.String(), "hyper2kvm watch") {
		t.Errorf("told %q", out.String())
	}
}

func TestWatchingShowsWhatHasNotEndedAndWhatEndedLately(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 8, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) *time.Time { at := now.Add(-d); return &at }
	j := func(name string, s models.Status, ended *time.Time) models.Job {
		return models.Job{Definition: job.Definition{Name: name, ID: name}, Status: s, CompletedAt: ended}
	}
	var got []string
	for _, s := range watched([]models.Job{ // the newest first
		j("running", models.StatusRunning, nil),
		j("overnight", models.StatusFailed, ago(10*time.Hour)),
		j("old", models.StatusCompleted, ago(100*time.Hour)),
		j("pending", models.StatusPending, nil),
	}, now) {
		got = append(got, s.Name)
	}
	if fmt.Sprint(got) != "[pending overnight running]" {
		t.Errorf("shown: %v", got)
	}
}

func TestWithoutATerminalNothingIsInteractive(t *testing.T) {
	t.Parallel()
	f, err := os.Create(filepath.Join(t.TempDir(), "in"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	o := Options{Printer: terminal.New(&strings.Builder{}, &strings.Builder{}), In: f}
	for _, run := range []func(context.Context, Options) error{Run, Watch} {
		if err := run(t.Context(), o); !errors.Is(err, ErrNoTerminal) {
			t.Errorf("got %v", err)
		}
	}
}
