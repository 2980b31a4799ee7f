package monitor

import (
	"context"

	tea "charm.land/bubbletea/v2"
)

// key takes a key.
func (m *Model) key(k tea.KeyPressMsg) tea.Cmd {
	m.notice = ""
	name := k.String()
	switch {
	case m.help:
		m.help = false
		if name != "ctrl+c" {
			return nil
		}
	case m.asking.what != askNothing:
		return m.answer(name)
	case m.list.typing && name != "ctrl+c":
		m.list.typed(k)
		m.arrange()
		return nil
	}
	if m.steer(name) || m.handing {
		return nil
	}
	switch name {
	case "ctrl+c":
		if m.group.Ended() || m.o.Leavable || m.stopping {
			return m.interrupt()
		}
		m.asking = question{what: askStop}
	case "p", "space":
		return m.pause()
	case "r":
		return m.resume()
	case "x":
		if i := m.list.cursor; i >= 0 && !m.jobs[i].State.Ended() {
			m.asking = question{what: askCancel, job: i}
		}
	case "d":
		return m.detach()
	case "esc":
		if m.list.narrow() {
			m.list.widen()
			m.arrange()
			return nil
		}
		return m.leave()
	case "enter", "q":
		return m.leave()
	case "b":
		if m.o.Back && m.group.Ended() {
			return message(Closed{Back: true})
		}
	}
	return nil
}

// steer takes the keys that change what the list shows.
func (m *Model) steer(key string) bool {
	l := &m.list
	switch key {
	case "up", "k":
		l.move(-1)
	case "down", "j":
		l.move(1)
	case "pgup":
		l.move(-max(l.height-1, 1))
	case "pgdown":
		l.move(max(l.height-1, 1))
	case "home", "g":
		l.move(-len(m.jobs))
	case "end", "G":
		l.move(len(m.jobs))
	case "f":
		l.follow = !l.follow
	case "v":
		l.unfold = !l.unfold
	case "e":
		l.failed = !l.failed
	case "/":
		l.typing = true
	case "?", "f1":
		m.help = true
	default:
		return false
	}
	m.arrange()
	return true
}

// answer takes the answer to what is asked. A second ctrl-C means it, too.
func (m *Model) answer(key string) tea.Cmd {
	q := m.asking
	m.asking = question{}
	switch {
	case q.what == askStop && (key == "y" || key == "ctrl+c"):
		return m.interrupt()
	case key == "ctrl+c":
		m.asking = question{what: askStop}
	case key != "y":
	case q.what == askCancel:
		m.group.Cancel(q.job)
	case q.what == askDetach:
		m.handing = true
		return message(Detach{To: q.to})
	}
	return nil
}

// leave closes the screen, unless that would end something.
func (m *Model) leave() tea.Cmd {
	if m.group.Ended() || m.o.Leavable {
		return message(Closed{})
	}
	m.notice = stillRunning
	return nil
}

// detach leaves the jobs to a daemon, if there is one.
func (m *Model) detach() tea.Cmd {
	switch {
	case m.group.Ended() || m.stopping:
		return nil
	case m.o.Leavable:
		return message(Closed{})
	case m.o.Find == nil:
		m.offer(found{m: m})
		return nil
	}
	m.notice = "looking for a daemon …"
	to := make(chan string, 1) // Do gives errors on, and nothing else
	find := m.o.Do(func(ctx context.Context) error { to <- m.o.Find(ctx); return nil })
	return func() tea.Msg {
		if msg := find(); msg != nil {
			return msg
		}
		return found{m, <-to}
	}
}

// offer asks whether the jobs are to be handed to a daemon that was found, and says how
// else one can leave where there is none.
func (m *Model) offer(f found) {
	switch {
	case f.m != m || m.group.Ended() || m.stopping || m.asking.what != askNothing:
	case f.to == "":
		m.notice = "no daemon answers here: hyper2kvm -daemon URL hands exports to one; in tmux this program outlives a lost ssh"
	default:
		m.asking = question{what: askDetach, to: f.to}
	}
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
