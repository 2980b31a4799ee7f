package monitor

import (
	"context"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/tui/cell"
	"github.com/hyper2kvm/hyper2kvm/tui/runs"
)

// interval is the time between two samples.
const interval = 500 * time.Millisecond

// Options of a [Model]. The zero value works.
type Options struct {
	Title string
	// Leavable says that the jobs go on when the screen is left.
	Leavable bool
	Back     bool // one can go back to choose more VMs
	// Do returns a command that calls f and gives an error on as a [Trouble].
	// Nil calls with context.Background.
	Do       func(f func(context.Context) error) tea.Cmd
	Interval time.Duration // between two samples; 0 is half a second
}

// Closed is the message with which the screen ends.
type Closed struct {
	// Stopping says that ctrl-C was pressed twice: jobs are not cleaned up yet.
	Stopping bool
	Back     bool // to choose more VMs; every job has ended
}

// Trouble is an error of something that was asked for.
type Trouble struct{ Err error }

// Interrupt is what a signal from outside sends: it counts as a ctrl-C.
type Interrupt struct{}

type tick time.Time

// stillRunning is told to who wants to close the screen too early.
const stillRunning = "exports are running: ctrl-c stops them"

// Model is the screen. Make one with [New]; drive it as a tea.Model's Update and
// View, with a size from tea.WindowSizeMsg.
type Model struct {
	o             Options
	group         *runs.Group
	width, height int

	jobs     []runs.Status
	log      []runs.Event
	pace     []pace
	total    pace
	cursor   int
	top      int
	stopping bool
	asking   bool // whether to cancel the VM under the cursor
	notice   string
}

// pace is what is known of one job's speed.
type pace struct {
	meter   progress.Meter
	reading progress.Reading
	files   []progress.Meter
	rates   []progress.Reading
}

// New returns the screen of a group.
func New(g *runs.Group, o Options) *Model {
	if o.Interval == 0 {
		o.Interval = interval
	}
	if o.Do == nil {
		o.Do = func(f func(context.Context) error) tea.Cmd {
			return func() tea.Msg { return troubleOf(f(context.Background())) }
		}
	}
	m := &Model{o: o, group: g, width: 80, height: 24}
	m.sample(time.Now())
	return m
}

func troubleOf(err error) tea.Msg {
	if err == nil {
		return nil
	}
	return Trouble{err}
}

// Init starts the sampling.
func (m *Model) Init() tea.Cmd { return m.tick() }

func (m *Model) tick() tea.Cmd {
	return tea.Tick(m.o.Interval, func(t time.Time) tea.Msg { return tick(t) })
}

// Statuses returns the jobs as last sampled.
func (m *Model) Statuses() []runs.Status { return m.jobs }

// Update takes one message.
func (m *Model) Update(msg tea.Msg) tea.Cmd {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case tick:
		m.sample(time.Time(msg))
		if m.stopping && m.group.Ended() {
			return message(Closed{})
		}
		return m.tick()
	case Trouble:
		m.notice = cell.Safe(msg.Err.Error())
	case Interrupt:
		return m.interrupt()
	case tea.KeyPressMsg:
		return m.key(msg.String())
	}
	return nil
}

// sample looks at the jobs.
func (m *Model) sample(now time.Time) {
	m.jobs = m.group.Statuses()
	m.log = m.group.Log(100)
	if len(m.pace) != len(m.jobs) {
		m.pace = make([]pace, len(m.jobs))
	}
	var all progress.Snapshot
	for i, s := range m.jobs {
		m.pace[i].observe(s.Progress, now)
		all.Files = append(all.Files, s.Progress.Files...)
	}
	m.total.observe(all, now)
	if m.notice == stillRunning && m.group.Ended() {
		m.notice = ""
	}
}

// observe takes a sample in. What was measured before the first file is there,
// while the job connected and prepared, is no measure of its speed.
func (p *pace) observe(s progress.Snapshot, now time.Time) {
	if len(p.files) != len(s.Files) {
		p.files, p.rates = make([]progress.Meter, len(s.Files)), make([]progress.Reading, len(s.Files))
		if len(p.files) == 1 || s.Received() == 0 {
			p.meter = progress.Meter{}
		}
	}
	p.reading = p.meter.Observe(s, now)
	for i, f := range s.Files {
		p.rates[i] = p.files[i].Observe(progress.Snapshot{Files: []progress.FileSnapshot{f}}, now)
	}
}

func (m *Model) key(key string) tea.Cmd {
	m.notice = ""
	if m.asking {
		m.asking = false
		if key == "y" {
			m.group.Cancel(m.cursor)
		}
		if key != "ctrl+c" {
			return nil
		}
	}
	last := len(m.jobs) - 1
	switch key {
	case "ctrl+c":
		return m.interrupt()
	case "up", "k":
		m.cursor = max(m.cursor-1, 0)
	case "down", "j":
		m.cursor = max(min(m.cursor+1, last), 0)
	case "pgup", "home":
		m.cursor = max(m.cursor-10, 0)
	case "pgdown", "end":
		m.cursor = max(min(m.cursor+10, last), 0)
	case "p", "space":
		return m.pause()
	case "r":
		return m.resume()
	case "x":
		m.asking = last >= 0 && !m.jobs[m.cursor].State.Ended()
	case "enter", "q", "esc":
		if m.group.Ended() || m.o.Leavable {
			return message(Closed{})
		}
		m.notice = stillRunning
	case "b":
		if m.o.Back && m.group.Ended() {
			return message(Closed{Back: true})
		}
	}
	return nil
}

// interrupt stops the jobs, and at the second time does not wait for that.
func (m *Model) interrupt() tea.Cmd {
	switch {
	case m.group.Ended() || m.o.Leavable:
		return message(Closed{})
	case m.stopping:
		return message(Closed{Stopping: true})
	}
	m.stopping = true
	m.group.Stop()
	return nil
}

func (m *Model) pause() tea.Cmd {
	if len(m.jobs) == 0 {
		return nil
	}
	i := m.cursor
	if m.jobs[i].State == runs.Paused {
		return m.resume()
	}
	return m.o.Do(func(ctx context.Context) error { return m.group.Pause(ctx, i) })
}

func (m *Model) resume() tea.Cmd {
	if len(m.jobs) == 0 {
		return nil
	}
	i := m.cursor
	return m.o.Do(func(ctx context.Context) error { return m.group.Resume(ctx, i) })
}

func message(msg tea.Msg) tea.Cmd { return func() tea.Msg { return msg } }
