package picker

import (
	"slices"
	"strings"
	"time"
	"unicode"

	tea "charm.land/bubbletea/v2"

	"github.com/hyper2kvm/hyper2kvm/tui/cell"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// restTime is how long the cursor rests on a VM before it is inspected.
const restTime = 200 * time.Millisecond

// Options of a [Model]. The zero value works.
type Options struct {
	Title string // what the VMs are from, such as the vCenter's name
	// Inspect returns a command whose message is an [Inspected] of the VM. A
	// call supersedes the one before, whose command may give up. Nil: there
	// are no details.
	Inspect func(vm vsphere.VM) tea.Cmd
	// Rest is how long the cursor rests before a VM is inspected; 0 is 200 ms.
	Rest time.Duration
}

// Inspected is what closer examination of a VM found.
type Inspected struct {
	Ref       string     // of the VM that was asked for
	VM        vsphere.VM // with everything filled in
	Obstacles []vsphere.Obstacle
	Err       error // why the rest is missing
}

// Surveyed is what is known of VMs before the cursor visits them: in a word or two, by
// their Ref, what stands in the way of an export.
type Surveyed struct {
	Problems map[string]string
	Err      error // why there are none
}

// Chosen is the message with which one goes on with VMs, in the
// natural order of their names; never empty.
type Chosen struct{ VMs []vsphere.VM }

// Left is the message with which one goes back.
type Left struct{}

// rested says that the cursor has not moved since it was sent off.
type rested struct{ moves int }

// Model is the screen. Make one with [New]; drive it as a tea.Model's Update and
// View, with a size from tea.WindowSizeMsg.
type Model struct {
	o             Options
	width, height int

	list   *list
	cursor int // into list.shown
	top    int // first row on the screen

	query    string
	onList   bool // the cursor keys were used last: space marks
	moves    int  // counts what may bring another VM under the cursor
	pane     pane
	help     bool
	pending  string // ref of the VM that is being inspected
	details  map[string]Inspected
	leaving  bool   // it is asked whether the selection is to be given up
	announce string // told in the help line until the next key
}

// pane says whether details are shown.
type pane int

const (
	paneAuto pane = iota // where there is room
	paneOn
	paneOff
)

// New returns a Model of the VMs, in the natural order of their names.
func New(vms []vsphere.VM, o Options) *Model {
	if o.Rest == 0 {
		o.Rest = restTime
	}
	return &Model{o: o, width: 80, height: 24, list: newList(vms), details: map[string]Inspected{}}
}

// Init inspects the first VM.
func (m *Model) Init() tea.Cmd { return m.moved() }

// SetProblem shows text as the last problem seen with a VM.
func (m *Model) SetProblem(ref, text string) { m.problem(ref, text) }

// Update takes one message.
func (m *Model) Update(msg tea.Msg) tea.Cmd {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case tea.KeyPressMsg:
		return m.key(msg)
	case tea.PasteMsg:
		text, _, _ := strings.Cut(strings.TrimSpace(msg.Content), "\n")
		return m.typed(text)
	case rested:
		if msg.moves == m.moves {
			return m.inspect()
		}
	case Inspected:
		m.details[msg.Ref] = msg
		if m.pending == msg.Ref {
			m.pending = ""
		}
		m.problem(msg.Ref, vsphere.Problem(msg.Obstacles))
	case Surveyed:
		m.surveyed(msg)
	}
	return nil
}

// surveyed takes in what is known of all VMs. What a closer look has found stays.
func (m *Model) surveyed(s Surveyed) {
	if s.Err != nil {
		m.announce = "problems show where the cursor has been: " + cell.Safe(s.Err.Error())
		return
	}
	m.still(func() {
		for ref, text := range s.Problems {
			if _, seen := m.details[ref]; !seen {
				m.list.setProblem(ref, cell.Safe(text))
			}
		}
	})
}

// problem shows text as the last problem seen with a VM.
func (m *Model) problem(ref, text string) {
	m.still(func() { m.list.setProblem(ref, cell.Safe(text)) })
}

// still makes a change that may bring the list into another order, and keeps the
// cursor on its VM.
func (m *Model) still(change func()) {
	i, ok := m.current()
	change()
	if m.list.order != byProblem {
		return
	}
	m.list.refresh()
	if at := slices.Index(m.list.shown, i); ok && at >= 0 {
		m.cursor = at
	}
}

func (m *Model) key(k tea.KeyPressMsg) tea.Cmd {
	m.announce = ""
	if m.help {
		m.help = false
		return nil
	}
	if m.leaving {
		m.leaving = false
		if k.String() == "y" || k.String() == "esc" {
			return message(Left{})
		}
		return nil
	}
	if m.move(k.String()) {
		m.onList = true
		return m.moved()
	}
	switch k.String() {
	case "enter":
		return m.choose()
	case "esc":
		switch {
		case m.query != "":
			return m.search("")
		case m.list.count > 0:
			m.leaving = true // the selection would be lost
			return nil
		}
		return message(Left{})
	case "backspace", "ctrl+h":
		if runes := []rune(m.query); len(runes) > 0 {
			return m.search(string(runes[:len(runes)-1]))
		}
	case "ctrl+u":
		return m.search("")
	case "ctrl+w":
		kept := strings.TrimRightFunc(m.query, unicode.IsSpace)
		return m.search(kept[:strings.LastIndexByte(kept, ' ')+1])
	case "f1":
		m.help = true
	case "ctrl+d":
		m.toggleDetails()
		return m.moved()
	case "space":
		if m.onList || m.query == "" {
			return m.mark()
		}
		return m.typed(" ")
	case "tab", "insert":
		m.onList = true
		return m.mark()
	default:
		if m.command(k.String()) {
			return m.moved()
		}
		return m.typed(k.Text)
	}
	return nil
}

// command carries out the keys that mark and sort.
func (m *Model) command(key string) bool {
	switch key {
	case "ctrl+a":
		m.list.markShown()
	case "ctrl+x":
		m.list.markNone()
	case "ctrl+t":
		m.list.invertShown()
	case "ctrl+s":
		m.list.nextSort()
		m.cursor, m.top = 0, 0
	case "ctrl+r":
		m.list.reverse()
		m.cursor, m.top = 0, 0
	default:
		return false
	}
	m.move("")
	return true
}

// move moves the cursor, keeps it on the list, and reports whether key is one that
// moves it.
func (m *Model) move(key string) bool {
	page := max(m.frame().rows-1, 1)
	switch key {
	case "up", "ctrl+p":
		m.cursor--
	case "down", "ctrl+n":
		m.cursor++
	case "pgup":
		m.cursor -= page
	case "pgdown":
		m.cursor += page
	case "home":
		m.cursor = 0
	case "end":
		m.cursor = len(m.list.shown) - 1
	default:
		page = 0
	}
	m.cursor = max(min(m.cursor, len(m.list.shown)-1), 0)
	return page > 0
}

// typed adds text to the search.
func (m *Model) typed(text string) tea.Cmd {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, text)
	if text == "" {
		return nil
	}
	return m.search(m.query + text)
}

func (m *Model) search(query string) tea.Cmd {
	m.query, m.onList = query, false
	m.list.search(query)
	m.cursor, m.top = 0, 0
	return m.moved()
}

// mark marks the VM under the cursor, or unmarks it, and goes on to the next. With
// is:selected in the search it may leave the list, and the next is there by itself.
func (m *Model) mark() tea.Cmd {
	if i, ok := m.current(); ok {
		if m.list.toggle(i) {
			m.move("")
		} else {
			m.move("down")
		}
	}
	return m.moved()
}

func (m *Model) choose() tea.Cmd {
	vms := m.list.selected()
	if len(vms) == 0 {
		i, ok := m.current()
		if !ok {
			m.announce = "nothing matches: change the search"
			return nil
		}
		vms = []vsphere.VM{m.list.vms[i]}
	}
	return message(Chosen{VMs: vms})
}

// current is the index of the VM under the cursor.
func (m *Model) current() (int, bool) {
	if m.cursor >= len(m.list.shown) {
		return 0, false
	}
	return m.list.shown[m.cursor], true
}

// moved sees to it that the VM under the cursor is inspected if it stays there.
func (m *Model) moved() tea.Cmd {
	m.moves++
	i, ok := m.current()
	if !ok || m.o.Inspect == nil {
		return nil
	}
	if ref := m.list.vms[i].Ref; ref == m.pending || m.known(ref) {
		return nil
	}
	at := rested{m.moves}
	return tea.Tick(m.o.Rest, func(time.Time) tea.Msg { return at })
}

// known reports whether there is no need to inspect the VM again.
func (m *Model) known(ref string) bool {
	d, ok := m.details[ref]
	return ok && d.Err == nil
}

func (m *Model) inspect() tea.Cmd {
	i, ok := m.current()
	if !ok || m.frame().pane == 0 {
		return nil
	}
	m.pending = m.list.vms[i].Ref
	return m.o.Inspect(m.list.vms[i])
}

func (m *Model) toggleDetails() {
	if m.frame().pane > 0 {
		m.pane = paneOff
	} else {
		m.pane = paneOn
	}
}

func message(msg tea.Msg) tea.Cmd { return func() tea.Msg { return msg } }
