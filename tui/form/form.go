// Package form is the page of options: a list of questions, one a line, each
// answered by choosing, by switching, by counting, or by typing.
package form

import (
	"strconv"
	"strings"
	"unicode"

	tea "charm.land/bubbletea/v2"

	"github.com/hyper2kvm/hyper2kvm/tui/cell"
)

// Field is one question. Make one with [Choice], [Switch], [Number] or [Text].
type Field struct {
	Label string
	Help  string // shown while the field has the cursor
	// Hidden leaves the field out, where another answer makes it meaningless.
	Hidden func() bool

	kind     kind
	choices  []string
	at       *string
	on       *bool
	n        *int
	low, top int
}

type kind int

const (
	choice kind = iota
	toggle
	number
	text
)

// Choice is a question with a few answers; value holds one of them.
func Choice(label string, value *string, choices []string, help string) *Field {
	return &Field{Label: label, Help: help, kind: choice, at: value, choices: choices}
}

// Switch is a question answered by yes or no.
func Switch(label string, value *bool, help string) *Field {
	return &Field{Label: label, Help: help, kind: toggle, on: value}
}

// Number is a question answered by a number from low to top.
func Number(label string, value *int, low, top int, help string) *Field {
	return &Field{Label: label, Help: help, kind: number, n: value, low: low, top: top}
}

// Text is a question answered by typing.
func Text(label string, value *string, help string) *Field {
	return &Field{Label: label, Help: help, kind: text, at: value}
}

// Accepted is the message with which one goes on.
type Accepted struct{}

// Left is the message with which one goes back.
type Left struct{}

// Model is the page. Drive it as a tea.Model's Update.
type Model struct {
	fields []*Field
	cursor int
}

// New returns a page of fields.
func New(fields ...*Field) *Model { return &Model{fields: fields} }

// shown are the fields that matter.
func (m *Model) shown() []*Field {
	var out []*Field
	for _, f := range m.fields {
		if f.Hidden == nil || !f.Hidden() {
			out = append(out, f)
		}
	}
	return out
}

// Update takes one message.
func (m *Model) Update(msg tea.Msg) tea.Cmd {
	shown := m.shown()
	f := shown[min(m.cursor, len(shown)-1)]
	switch msg := msg.(type) {
	case tea.PasteMsg:
		f.typed(strings.TrimSpace(msg.Content))
	case tea.KeyPressMsg:
		switch msg.String() {
		case "up", "shift+tab", "down", "tab", "enter":
			f.settle()
		}
		switch msg.String() {
		case "up", "shift+tab":
			m.cursor = max(m.cursor-1, 0)
		case "down", "tab":
			m.cursor = min(m.cursor+1, len(shown)-1)
		case "enter":
			return func() tea.Msg { return Accepted{} }
		case "esc":
			return func() tea.Msg { return Left{} }
		default:
			f.key(msg)
		}
	}
	return nil
}

// key answers the question by a key.
func (f *Field) key(k tea.KeyPressMsg) {
	switch name := k.String(); {
	case name == "left":
		f.step(-1)
	case name == "right", name == "space" && f.kind != text:
		f.step(1)
	case name == "backspace":
		f.erase(1)
	case name == "ctrl+u":
		f.erase(-1)
	case name == "ctrl+w":
		f.eraseWord()
	default:
		f.typed(k.Text)
	}
}

func (f *Field) step(by int) {
	switch f.kind {
	case choice:
		for i, c := range f.choices {
			if c == *f.at {
				*f.at = f.choices[(i+by+len(f.choices))%len(f.choices)]
				return
			}
		}
		*f.at = f.choices[0]
	case toggle:
		*f.on = !*f.on
	case number:
		*f.n = min(max(*f.n+by, f.low), f.top)
	}
}

// typed adds text to the answer; of a switch y and n, and of a choice its first
// letter, are answers.
func (f *Field) typed(s string) {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, s)
	switch f.kind {
	case text:
		*f.at += s
	case number:
		if n, err := strconv.Atoi(strconv.Itoa(*f.n) + s); err == nil && s != "" {
			if n > f.top {
				n, err = strconv.Atoi(s)
			}
			if err == nil {
				*f.n = min(n, f.top)
			}
		}
	case toggle:
		if s == "y" || s == "n" {
			*f.on = s == "y"
		}
	case choice:
		for _, c := range f.choices {
			if s != "" && strings.HasPrefix(c, s) {
				*f.at = c
				return
			}
		}
	}
}

// erase takes n runes off the end of the answer; all of them when n is negative.
func (f *Field) erase(n int) {
	switch f.kind {
	case text:
		runes := []rune(*f.at)
		if n < 0 || n > len(runes) {
			n = len(runes)
		}
		*f.at = string(runes[:len(runes)-n])
	case number:
		*f.n /= 10
	}
}

// settle makes an answer whole that was left half typed.
func (f *Field) settle() {
	if f.kind == number {
		*f.n = max(*f.n, f.low)
	}
}

// eraseWord takes the last part of a path off.
func (f *Field) eraseWord() {
	if f.kind == text {
		kept := strings.TrimRight(*f.at, "/ ")
		*f.at = kept[:strings.LastIndexAny(kept, "/ ")+1]
	}
}

// Lines draws the fields, and the help of the one with the cursor, which is in line y. x
// is where an answer that is typed ends, in cells from the left, and negative for others.
func (m *Model) Lines(width int) (lines []string, x, y int) {
	shown := m.shown()
	m.cursor = min(m.cursor, len(shown)-1)
	label := 0
	for _, f := range shown {
		label = max(label, cell.Width(f.Label))
	}
	label = min(label, width/2)
	x = -1
	for i, f := range shown {
		pointer, style := "   ", cell.Plain
		if i == m.cursor {
			pointer, style, y = cell.Accent.Paint(" ❯ "), cell.Bold, i
		}
		answer := f.answer(i == m.cursor, width-label-5)
		line := pointer + style.Paint(cell.Fit(f.Label, label)) + "  " + answer
		if i == m.cursor && f.kind == text {
			x = min(cell.Width(line), width-1)
		}
		lines = append(lines, cell.Clip(line, width))
	}
	if help := shown[m.cursor].Help; help != "" {
		lines = append(lines, "")
		for _, s := range cell.Wrap(help, width-4) {
			lines = append(lines, "   "+cell.Dim.Paint(s))
		}
	}
	return lines, x, y
}

func (f *Field) answer(under bool, width int) string {
	switch f.kind {
	case choice:
		var parts []string
		for _, c := range f.choices {
			if c == *f.at {
				parts = append(parts, cell.Accent.And(cell.Bold).Paint("● "+c))
			} else {
				parts = append(parts, cell.Dim.Paint("○ "+c))
			}
		}
		return strings.Join(parts, "  ")
	case toggle:
		if *f.on {
			return cell.Accent.And(cell.Bold).Paint("● yes") + cell.Dim.Paint("  ○ no")
		}
		return cell.Dim.Paint("○ yes") + cell.Bold.Paint("  ● no")
	case number:
		s := strconv.Itoa(*f.n)
		if under {
			return cell.Dim.Paint("‹ ") + cell.Bold.Paint(s) + cell.Dim.Paint(" ›")
		}
		return s
	}
	s := cell.Safe(*f.at)
	if cell.Width(s) >= width {
		s = cell.FitTail(s, width-1)
	}
	return cell.Bold.Paint(s)
}
