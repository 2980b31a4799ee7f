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
	// Find returns the address of a daemon to which the jobs could be handed, "" when
	// there is none. Nil: there is none.
	Find func(ctx context.Context) string
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

// Detach is the message with which one hands what is left to the daemon at To, which
// [Options.Find] has found.
type Detach struct{ To string }

// found is a daemon, if there is one.
type found struct {
	m  *Model
	to string
}

// Trouble is an error of something that was asked for.
type Trouble struct{ Err error }

// Interrupt is what a signal from outside sends: it counts as a ctrl-C.
type Interrupt struct{}

// tick is time for another look; of a screen that was left it is of no interest.
type tick struct {
	m  *Model
	at time.Time
}

// stillRunning is told to who wants to close the screen too early.
const stillRunning = "exports are running: ctrl-c stops them"

// Model is the screen. Make one with [New]; drive it as a tea.Model's Update and
// View, with a size from tea.WindowSizeMsg.
type Model struct {
	o             Options
	group         *runs.Group
	width, height int

	jobs    []runs.Status
	log     []logLine
	pace    []pace
	overall *runs.Overall
	tracker *progress.Tracker // of all jobs
	meter   progress.Meter
	all     progress.Snapshot
	total   progress.Reading
	now     time.Time

	list     list
	stopping bool
	handing  bool // the jobs are being handed to a daemon
	asking   question
	help     bool
	notice   string
}

// question is what is asked before it is done.
type question struct {
	what askedFor
	job  int    // with askCancel
	to   string // with askDetach
}

type askedFor int

const (
	askNothing askedFor = iota
	askCancel           // one VM
	askStop             // all of them
	askDetach
)

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
	m := &Model{o: o, group: g, width: 80, height: 24, tracker: progress.New(), list: list{follow: true}}
	m.jobs = g.Statuses()
	m.overall = runs.NewOverall(m.jobs, m.tracker)
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
	return tea.Tick(m.o.Interval, func(t time.Time) tea.Msg { return tick{m, t} })
}

// Statuses returns the jobs as last sampled.
func (m *Model) Statuses() []runs.Status { return m.jobs }

// Update takes one message.
func (m *Model) Update(msg tea.Msg) tea.Cmd {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
		m.arrange()
	case tick:
		if msg.m != m {
			return nil
		}
		m.sample(msg.at)
		if m.stopping && m.group.Ended() {
			return message(Closed{})
		}
		return m.tick()
	case Trouble:
		m.notice, m.handing = cell.Safe(msg.Err.Error()), false
	case found:
		m.offer(msg)
	case Interrupt:
		return m.interrupt()
	case tea.KeyPressMsg:
		return m.key(msg)
	case tea.MouseClickMsg:
		m.list.click(msg.Y - listTop)
	case tea.MouseWheelMsg:
		switch msg.Button {
		case tea.MouseWheelUp:
			m.list.move(-wheelStep)
		case tea.MouseWheelDown:
			m.list.move(wheelStep)
		}
	}
	return nil
}

// wheelStep is how many rows a notch of the wheel is.
const wheelStep = 3

// sample looks at the jobs.
func (m *Model) sample(now time.Time) {
	m.now = now
	m.jobs = m.group.Statuses()
	m.log = grouped(m.group.Log(logEvents))
	if len(m.pace) != len(m.jobs) {
		m.pace = make([]pace, len(m.jobs))
	}
	for i, s := range m.jobs {
		m.pace[i].observe(s.Progress, now)
	}
	m.overall.Count(m.jobs)
	m.all = m.tracker.Snapshot()
	m.total = m.meter.Observe(m.all, now)
	m.arrange()
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

func (m *Model) pause() tea.Cmd {
	i := m.list.cursor
	if i < 0 {
		return nil
	}
	if m.jobs[i].State == runs.Paused {
		return m.resume()
	}
	return m.o.Do(func(ctx context.Context) error { return m.group.Pause(ctx, i) })
}

func (m *Model) resume() tea.Cmd {
	i := m.list.cursor
	if i < 0 {
		return nil
	}
	return m.o.Do(func(ctx context.Context) error { return m.group.Resume(ctx, i) })
}

func message(msg tea.Msg) tea.Cmd { return func() tea.Msg { return msg } }
