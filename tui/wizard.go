package tui

import (
	"cmp"
	"context"
	"path/filepath"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/hyper2kvm/hyper2kvm/internal/tilde"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/tui/form"
	"github.com/hyper2kvm/hyper2kvm/tui/monitor"
	"github.com/hyper2kvm/hyper2kvm/tui/picker"
	"github.com/hyper2kvm/hyper2kvm/tui/plan"
	"github.com/hyper2kvm/hyper2kvm/tui/runs"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// step is a page of the wizard.
type step int

const (
	choosing step = iota
	optioning
	confirming
	exporting
)

// services is what the wizard has others do. All of its functions may take
// their time: they are called in commands.
type services struct {
	title   string // what the VMs are from
	command string // how to repeat jobs that a daemon runs, "" in this process
	pinned  string // thumbprint to name in commands
	inspect func(ctx context.Context, vm vsphere.VM, o vsphere.PreflightOptions) (vsphere.VM, []vsphere.Obstacle, error)
	// survey tells what stands in the way of the exports of all VMs, in a bounded
	// number of calls. Nil: nobody knows.
	survey func(ctx context.Context) (problems map[string]string, err error)
	// begin hands the jobs over to who runs them.
	begin func(ctx context.Context, specs []runs.Spec, c plan.Choices) (*runs.Group, error)
	// free returns the bytes free at a directory, negative when nobody knows.
	free func(dir string) int64
	// start runs a group until the program ends.
	start func(*runs.Group)
	// do makes a command of a function, with the program's context.
	do       func(f func(ctx context.Context) tea.Msg) tea.Cmd
	leavable bool // jobs go on when the program ends
	// handover hands the jobs of this process to a daemon. Nil: they stay.
	handover *handover
}

// wizard is the tea.Model of the whole: one page after the other, and back.
type wizard struct {
	s      services
	step   step
	size   tea.WindowSizeMsg
	picker *picker.Model
	page   *form.Model
	ask    *confirmation
	run    *monitor.Model
	group  *runs.Group // that run shows

	choices   plan.Choices
	groups    []string           // port groups of the chosen VMs
	networks  map[string]*string // what was answered for port groups, also of other VMs
	format    string
	transport string
	more      bool // the questions that few need are on the page
	chosen    []vsphere.VM
	free      int64
	freeFor   string // directory that free is of
	trouble   string // why one cannot leave the options
	inspector context.CancelFunc

	done   []runs.Status // of groups that have ended
	forced bool          // left without waiting
}

// begun carries the group that runs the jobs, or why there is none.
type begun struct {
	group *runs.Group
	err   error
}

// freeSpace is what is free at a directory.
type freeSpace struct {
	dir  string
	free int64
}

func newWizard(s services, vms []vsphere.VM, c plan.Choices) *wizard {
	w := &wizard{s: s, choices: c, format: string(c.Options.Format), free: -1, networks: map[string]*string{}}
	w.transport = string(cmp.Or(c.Options.Transport, job.TransportNFC))
	w.picker = picker.New(vms, picker.Options{Title: s.title, Inspect: w.inspect})
	w.page = w.newForm()
	return w
}

// inspect looks closer at the VM under the picker's cursor and gives up when it
// is asked for another.
func (w *wizard) inspect(vm vsphere.VM) tea.Cmd {
	if w.inspector != nil {
		w.inspector()
	}
	stop := make(chan struct{})
	w.inspector = func() { close(stop); w.inspector = nil }
	return w.s.do(func(ctx context.Context) tea.Msg {
		ctx, cancel := context.WithTimeout(ctx, inspectTime)
		defer cancel()
		go func() {
			select {
			case <-stop:
				cancel()
			case <-ctx.Done():
			}
		}()
		found, obstacles, err := w.s.inspect(ctx, vm, vsphere.PreflightOptions{Snapshot: vm.Power != vsphere.PoweredOff})
		return picker.Inspected{Ref: vm.Ref, VM: found, Obstacles: obstacles, Err: err}
	})
}

// inspectTime bounds a look at one VM.
const inspectTime = 60 * time.Second

// Init begins with the page on the screen.
func (w *wizard) Init() tea.Cmd {
	if w.run != nil {
		return w.run.Init()
	}
	return tea.Batch(w.picker.Init(), w.survey())
}

// survey finds out what stands in the way before the cursor gets there.
func (w *wizard) survey() tea.Cmd {
	if w.s.survey == nil {
		return nil
	}
	return w.s.do(func(ctx context.Context) tea.Msg {
		problems, err := w.s.survey(ctx)
		return picker.Surveyed{Problems: problems, Err: err}
	})
}

// Update gives a message to the page that it is for.
func (w *wizard) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		return w, w.resize(msg)
	case tea.KeyPressMsg:
		if msg.String() == "ctrl+c" && w.step != exporting {
			return w, tea.Quit
		}
	case monitor.Interrupt:
		if w.step != exporting {
			return w, tea.Quit
		}
	case picker.Inspected, picker.Surveyed:
		return w, w.picker.Update(msg)
	case checked:
		if msg.page != w.ask || w.step != confirming {
			return w, nil // one has gone back meanwhile
		}
		return w, w.ask.take(msg)
	case freeSpace:
		w.freeFor, w.free = msg.dir, msg.free
		return w, nil
	}
	if cmd, moved := w.turn(msg); moved {
		return w, cmd
	}
	return w, w.pass(msg)
}

// turn turns to another page, if that is what msg says.
func (w *wizard) turn(msg tea.Msg) (tea.Cmd, bool) {
	switch msg := msg.(type) {
	case picker.Left:
		return tea.Quit, true
	case picker.Chosen:
		return w.showOptions(msg.VMs), true
	case form.Left:
		w.step = choosing
	case form.Accepted:
		return w.showConfirmation(), true
	case refused:
		w.step = optioning
	case accepted:
		return w.begin(), true
	case begun:
		return w.show(msg), true
	case monitor.Detach:
		return w.detach(msg.To), true
	case handed:
		return w.follow(msg), true
	case monitor.Closed:
		return w.closeMonitor(msg), true
	default:
		return nil, false
	}
	return nil, true
}

// pass gives a message to the page on the screen.
func (w *wizard) pass(msg tea.Msg) tea.Cmd {
	switch w.step {
	case choosing:
		return w.picker.Update(msg)
	case optioning:
		w.trouble = ""
		cmd := w.page.Update(msg)
		return tea.Batch(cmd, w.measure())
	case confirming:
		return w.ask.Update(msg)
	default:
		return w.run.Update(msg)
	}
}

func (w *wizard) resize(size tea.WindowSizeMsg) tea.Cmd {
	w.size = size
	cmds := []tea.Cmd{w.picker.Update(size)}
	if w.ask != nil {
		cmds = append(cmds, w.ask.Update(size))
	}
	if w.run != nil {
		cmds = append(cmds, w.run.Update(size))
	}
	return tea.Batch(cmds...)
}

// View draws the page.
func (w *wizard) View() tea.View {
	switch w.step {
	case choosing:
		return w.picker.View()
	case optioning:
		return w.optionsView()
	case confirming:
		return w.ask.View()
	default:
		return w.run.View()
	}
}

// showOptions turns to the options for vms.
func (w *wizard) showOptions(vms []vsphere.VM) tea.Cmd {
	w.chosen, w.step, w.trouble = vms, optioning, ""
	w.page = w.newForm()
	for _, vm := range vms {
		if vm.Power != vsphere.PoweredOff && !w.seenOptions() {
			w.choices.Options.Snapshot = true // the choice that can work
		}
	}
	return w.measure()
}

// seenOptions reports whether the options have been on the screen before: then
// they are the person's.
func (w *wizard) seenOptions() bool { return w.ask != nil }

// measure finds out what is free at the output directory, if that has changed.
func (w *wizard) measure() tea.Cmd {
	dir := w.output()
	if dir == w.freeFor {
		return nil
	}
	w.freeFor, w.free = dir, -1
	return w.s.do(func(context.Context) tea.Msg { return freeSpace{dir, w.s.free(dir)} })
}

// output is the output directory as an absolute path. A daemon's stays as it
// was typed, and so does one with a ~ whose home is not known.
func (w *wizard) output() string {
	if w.s.leavable || w.choices.Output == "" {
		return w.choices.Output
	}
	dir, err := tilde.Expand(w.choices.Output)
	if err != nil {
		return w.choices.Output
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return w.choices.Output
	}
	return abs
}

// final are the choices as jobs take them.
func (w *wizard) final() plan.Choices {
	c := w.choices
	c.Output, c.Options = w.output(), w.meant()
	return c
}

// showConfirmation turns to the last page, unless the options cannot work.
func (w *wizard) showConfirmation() tea.Cmd {
	c := w.final()
	if c.Output == "" {
		w.trouble = "an output directory is needed"
		return nil
	}
	if _, err := tilde.Expand(c.Output); err != nil && !w.s.leavable {
		w.trouble = err.Error()
		return nil
	}
	if err := c.Validate(); err != nil {
		w.trouble = err.Error()
		return nil
	}
	if err := migrate.CheckOutput(c.Output); err != nil && !w.s.leavable { // the daemon's is on its machine
		w.trouble = err.Error()
		return nil
	}
	if refuse, _ := plan.CheckSpace(w.chosen, c, w.free); refuse != "" {
		w.trouble = refuse
		return nil
	}
	w.ask = newConfirmation(w.s, w.chosen, w.free, c)
	w.ask.Update(w.size)
	w.step = confirming
	return w.ask.check()
}

// begin hands the jobs over.
func (w *wizard) begin() tea.Cmd {
	specs, c := w.ask.specs, w.ask.choices
	return w.s.do(func(ctx context.Context) tea.Msg {
		g, err := w.s.begin(ctx, specs, c)
		if err == nil {
			w.s.start(g)
		}
		return begun{g, err}
	})
}

// show turns to the transfers.
func (w *wizard) show(b begun) tea.Cmd {
	if b.err != nil {
		w.ask.fail(b.err)
		return nil
	}
	w.step, w.group = exporting, b.group
	w.run = newMonitor(w.s, b.group, true)
	w.run.Update(w.size)
	return w.run.Init()
}

// watch makes the transfers of a group the only page.
func (w *wizard) watch(g *runs.Group) {
	w.step, w.group, w.run = exporting, g, newMonitor(w.s, g, false)
}

func newMonitor(s services, g *runs.Group, back bool) *monitor.Model {
	var find func(context.Context) string
	if s.handover != nil {
		find = s.handover.find
	}
	return monitor.New(g, monitor.Options{
		Title: s.title, Leavable: s.leavable, Back: back, Find: find,
		Do: func(f func(context.Context) error) tea.Cmd {
			return s.do(func(ctx context.Context) tea.Msg {
				if err := f(ctx); err != nil {
					return monitor.Trouble{Err: err}
				}
				return nil
			})
		},
	})
}

// closeMonitor ends the program, or goes back to the list.
func (w *wizard) closeMonitor(msg monitor.Closed) tea.Cmd {
	w.done = append(w.done, w.run.Statuses()...)
	if msg.Back {
		for _, s := range w.run.Statuses() {
			if s.State == runs.Failed {
				w.picker.SetProblem(s.Ref, "export failed")
			}
		}
		w.run, w.step = nil, choosing
		return w.picker.Init()
	}
	w.forced = msg.Stopping
	return tea.Quit
}

// freeAt is what is free at dir for services.free.
func freeAt(dir string) int64 {
	n, err := migrate.FreeSpace(dir)
	if err != nil {
		return -1
	}
	return n
}
