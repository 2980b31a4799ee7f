// Package cell puts text into cells of a terminal: made safe, measured, cut and
// padded to a width, and coloured.
//
// A width is what wcwidth says, rune by rune, which terminals of every age agree
// on. So that the newer way of counting whole graphemes gives the same, [Safe]
// leaves out joiners and variation selectors, on which the two differ. Styles are
// plain SGR sequences with the sixteen basic colours, which follow the user's
// theme; what draws the screen drops them where NO_COLOR is set.
package cell

import (
	"strings"
	"unicode"

	"github.com/charmbracelet/x/ansi"

	"github.com/hyper2kvm/hyper2kvm/progress/display"
)

// Safe returns s so that a terminal shows it as it is, on one line, with a width
// that all terminals agree on: see [display.SafeText] for what is escaped.
func Safe(s string) string {
	plain := true
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			plain = false
			break
		}
	}
	if plain {
		return s
	}
	return strings.Map(func(r rune) rune {
		if r == '\u200c' || r == '\u200d' || unicode.Is(unicode.Variation_Selector, r) {
			return -1
		}
		return r
	}, display.SafeText(s))
}

// Width is the number of cells that s takes; styles take none.
func Width(s string) int { return ansi.StringWidthWc(s) }

// Clip returns s in at most width cells, with an ellipsis where its end is
// missing.
func Clip(s string, width int) string {
	if width <= 0 {
		return ""
	}
	return ansi.TruncateWc(s, width, "…")
}

// Fit returns s in exactly width cells.
func Fit(s string, width int) string {
	s = Clip(s, width)
	return s + Spaces(width-Width(s))
}

// FitTail is Fit, but what is missing is the beginning of s: the ends of paths
// tell them apart. s has no styles.
func FitTail(s string, width int) string {
	over := Width(s) - width
	if over <= 0 || width <= 0 {
		return Fit(s, width)
	}
	over++ // a cell for the ellipsis
	for i, r := range s {
		if over <= 0 {
			return Fit("…"+s[i:], width)
		}
		over -= ansi.StringWidthWc(string(r))
	}
	return Fit("…", width)
}

// FitMiddle is Fit, but what is missing is the middle of s, for names that are told
// apart by both their ends. The runes at the given offsets, in ascending order, come
// back at their new ones; those that are missing are at the ellipsis. s has no styles.
func FitMiddle(s string, width int, at []int) (string, []int) {
	if Width(s) <= width || width <= 2 {
		return Fit(s, width), at
	}
	runes := []rune(s)
	room := width - 1 // a cell is for the ellipsis
	tail := len(runes)
	for used := 0; tail > 0; tail-- {
		used += ansi.StringWidthWc(string(runes[tail-1]))
		if used > room/2 {
			break
		}
	}
	for tail < len(runes) && ansi.StringWidthWc(string(runes[tail])) == 0 {
		tail++ // an accent belongs to the rune before it
	}
	room -= Width(string(runes[tail:]))
	head := 0
	for used := 0; head < tail; head++ {
		used += ansi.StringWidthWc(string(runes[head]))
		if used > room {
			break
		}
	}
	moved := make([]int, 0, len(at))
	for _, i := range at {
		switch {
		case i >= tail:
			i -= tail - head - 1
		case i > head:
			i = head
		}
		if n := len(moved); n == 0 || moved[n-1] != i {
			moved = append(moved, i)
		}
	}
	return Fit(string(runes[:head])+"…"+string(runes[tail:]), width), moved
}

// Right returns s in exactly width cells, at their right end.
func Right(s string, width int) string {
	s = Clip(s, width)
	return Spaces(width-Width(s)) + s
}

// Spaces returns n spaces, none when n is negative.
func Spaces(n int) string { return strings.Repeat(" ", max(n, 0)) }

// Edges returns left and right at the two ends of width cells. When they do not
// both fit, left is cut.
func Edges(left, right string, width int) string {
	right = Clip(right, width)
	room := width - Width(right)
	if room < width && Width(left) >= room {
		room-- // they do not touch
		left = Clip(left, room) + " "
	}
	return Fit(left, width-Width(right)) + right
}

// Block returns text in exactly height lines of exactly width cells.
func Block(lines []string, width, height int) []string {
	out := make([]string, max(height, 0))
	for i := range out {
		line := ""
		if i < len(lines) {
			line = lines[i]
		}
		out[i] = Fit(line, width)
	}
	return out
}

// Wrap breaks text without styles into lines of at most width cells, between
// words where it can.
func Wrap(text string, width int) []string {
	if width <= 0 {
		return nil
	}
	return strings.Split(ansi.WrapWc(text, width, " /"), "\n")
}

// Style is how text looks: parameters of an SGR sequence. The zero value leaves
// text as it is.
type Style string

// Styles of the program's screens.
const (
	Plain   Style = ""
	Bold    Style = "1"
	Dim     Style = "2"
	Heading Style = "1;36"
	Accent  Style = "36"
	Match   Style = "1;33" // what the search found
	Good    Style = "32"
	Warn    Style = "33"
	Bad     Style = "31"
	Cursor  Style = "7"
)

// And returns a style with both looks.
func (s Style) And(other Style) Style {
	switch {
	case s == "":
		return other
	case other == "":
		return s
	}
	return s + ";" + other
}

// Paint returns text in the style.
func (s Style) Paint(text string) string {
	if s == "" || text == "" {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[m"
}

// Highlight returns text in style base with the runes at the given offsets, in
// ascending order, in style mark besides.
func Highlight(text string, at []int, base, mark Style) string {
	if len(at) == 0 {
		return base.Paint(text)
	}
	var b strings.Builder
	runes := []rune(text)
	hot := base.And(mark)
	for i := 0; i < len(runes); {
		for len(at) > 0 && at[0] < i {
			at = at[1:]
		}
		j := i + 1
		if len(at) > 0 && at[0] == i {
			for k := 1; j < len(runes) && k < len(at) && at[k] == j; k++ {
				j++
			}
			b.WriteString(hot.Paint(string(runes[i:j])))
		} else {
			for j < len(runes) && (len(at) == 0 || at[0] != j) {
				j++
			}
			b.WriteString(base.Paint(string(runes[i:j])))
		}
		i = j
	}
	return b.String()
}

// Bar returns a bar of width cells, filled as far as fraction, from 0 to 1, says.
func Bar(fraction float64, width int, style Style) string {
	if width <= 0 {
		return ""
	}
	full := int(min(max(fraction, 0), 1) * float64(width))
	return style.Paint(strings.Repeat("█", full)) + Dim.Paint(strings.Repeat("░", width-full))
}

// Keys returns a help line of width cells: of each item the first word is a key,
// the rest what it does. Items that do not fit are left out.
func Keys(width int, items ...string) string {
	line, used := "", 0
	for _, item := range items {
		if used+2+Width(item) > width {
			break
		}
		key, what, _ := strings.Cut(item, " ")
		line += " " + Bold.Paint(key) + Dim.Paint(" "+what) + " "
		used += 2 + Width(item)
	}
	return Fit(line, width)
}

// Rule returns a horizontal line of width cells with a title in it.
func Rule(title string, width int) string {
	if title != "" {
		title = " " + Clip(title, max(width-6, 0)) + " "
	}
	return Clip(Dim.Paint("──")+Bold.Paint(title)+Dim.Paint(strings.Repeat("─", max(width-2-Width(title), 0))), width)
}
