package monitor

import (
	"slices"
	"strings"
	"unicode"

	tea "charm.land/bubbletea/v2"

	"github.com/hyper2kvm/hyper2kvm/tui/runs"
)

// list is which jobs are shown, in which order, and which of them the cursor is on.
type list struct {
	order  []int // of jobs that are shown
	folded int   // of them the last ones that are done and may be summed up
	cursor int   // the job; -1 for none
	height int   // lines that were drawn last
	top    int   // first line on the screen
	at     []int // job of each line on the screen, -1 for none

	follow bool   // the cursor stays on the first job
	unfold bool   // done jobs are shown one by one
	failed bool   // only what failed or was cancelled
	filter string // words that a name has to contain
	typing bool   // of the filter
}

// rank puts what moves first, then what failed, what waits, and what is done.
func rank(s runs.State) int {
	switch s {
	case runs.Running, runs.Stopping, runs.Paused:
		return 0
	case runs.Failed, runs.Cancelled:
		return 1
	case runs.Waiting:
		return 2
	}
	return 3
}

// arrange brings the list up to date with the jobs. fits says whether all of an order
// has room on the screen, so that nothing need be summed up.
func (l *list) arrange(jobs []runs.Status, fits func(order []int) bool) {
	words := strings.Fields(strings.ToLower(l.filter))
	l.order = l.order[:0]
	for i, s := range jobs {
		if l.failed && s.State != runs.Failed && s.State != runs.Cancelled || !matches(s, words) {
			continue
		}
		l.order = append(l.order, i)
	}
	slices.SortStableFunc(l.order, func(a, b int) int { return rank(jobs[a].State) - rank(jobs[b].State) })
	l.folded = 0
	if !l.unfold && !l.narrow() && !fits(l.order) {
		for _, i := range l.order {
			if jobs[i].State == runs.Done {
				l.folded++
			}
		}
	}
	if l.folded == len(l.order) {
		l.folded = 0 // nothing else is left to look at
	}
	switch shown := l.shown(); {
	case len(shown) == 0:
		l.cursor = -1
	case l.follow || !slices.Contains(shown, l.cursor):
		l.cursor = shown[0]
	}
}

// shown are the jobs that have lines of their own.
func (l *list) shown() []int { return l.order[:len(l.order)-l.folded] }

// matches reports whether the job's name has every word.
func matches(s runs.Status, words []string) bool {
	name := strings.ToLower(s.Name)
	for _, w := range words {
		if !strings.Contains(name, w) {
			return false
		}
	}
	return true
}

// narrow reports whether some jobs are left out.
func (l *list) narrow() bool { return l.failed || l.filter != "" }

// widen shows all jobs again.
func (l *list) widen() { l.failed, l.filter, l.typing = false, "", false }

// move moves the cursor by n rows. From then on it stays on its job.
func (l *list) move(n int) {
	shown := l.shown()
	if len(shown) == 0 {
		return
	}
	to := max(slices.Index(shown, l.cursor), 0) + n
	l.cursor, l.follow = shown[min(max(to, 0), len(shown)-1)], false
}

// click puts the cursor on the job of a line of the list.
func (l *list) click(line int) {
	if line >= 0 && line < len(l.at) && l.at[line] >= 0 {
		l.cursor, l.follow = l.at[line], false
	}
}

// typed takes a key of the filter.
func (l *list) typed(k tea.KeyPressMsg) {
	switch k.String() {
	case "enter", "down", "up":
		l.typing = false
	case "esc":
		l.filter, l.typing = "", false
	case "backspace", "ctrl+h":
		if runes := []rune(l.filter); len(runes) > 0 {
			l.filter = string(runes[:len(runes)-1])
		}
	case "ctrl+u":
		l.filter = ""
	default:
		l.filter += strings.Map(func(r rune) rune {
			if unicode.IsControl(r) {
				return -1
			}
			return r
		}, k.Text)
	}
}
