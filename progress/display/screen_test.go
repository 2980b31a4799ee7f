package display_test

import (
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/mattn/go-runewidth"
)

// screen is a terminal that understands what a frame consists of and fails the
// test at anything else.
type screen struct {
	t             *testing.T
	mu            sync.Mutex
	columns, rows int
	cells         [][]rune
	x, y          int
	scrolled      []string // lines that have left at the top
	hidden        bool     // the cursor
	writes        int
	raw           strings.Builder
}

func newScreen(t *testing.T, columns, rows int) *screen {
	return &screen{t: t, columns: columns, rows: rows, cells: [][]rune{nil}}
}

func (s *screen) size() (int, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.columns, s.rows
}

// resize makes the terminal narrower or wider and wraps its lines anew, as
// terminal emulators do.
func (s *screen) resize(columns int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var cells [][]rune
	for i, line := range s.cells {
		if i == s.y {
			s.y = len(cells)
		}
		for len(line) > columns {
			cells = append(cells, line[:columns])
			line = line[columns:]
		}
		cells = append(cells, line)
	}
	s.cells, s.columns = cells, columns
	s.scroll()
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	s.raw.Write(p)
	text := string(p)
	for text != "" {
		if rest, ok := strings.CutPrefix(text, "\x1b["); ok {
			end := strings.IndexFunc(rest, func(r rune) bool { return r >= '@' })
			s.escape(rest[:end], rest[end])
			text = rest[end+1:]
			continue
		}
		r, length := utf8.DecodeRuneInString(text)
		text = text[length:]
		switch {
		case r == '\r':
			s.x = 0
		case r == '\n':
			s.newline()
		case r < ' ':
			s.t.Errorf("control character %q reached the terminal", r)
		default:
			s.put(r)
			if runewidth.RuneWidth(r) == 2 {
				s.put(0)
			}
		}
	}
	return len(p), nil
}

func (s *screen) escape(argument string, final byte) {
	switch {
	case final == 'A':
		n, _ := strconv.Atoi(argument)
		s.y = max(s.y-n, 0)
	case final == 'K' && argument == "":
		s.cells[s.y] = s.cells[s.y][:min(s.x, len(s.cells[s.y]))]
	case final == 'J' && argument == "":
		s.cells[s.y] = s.cells[s.y][:min(s.x, len(s.cells[s.y]))]
		s.cells = s.cells[:s.y+1]
	case final == 'l' && argument == "?25":
		s.hidden = true
	case final == 'h' && argument == "?25":
		s.hidden = false
	case final == 'm': // colour
	default:
		s.t.Errorf("unexpected escape sequence %q%c", argument, final)
	}
}

func (s *screen) put(r rune) {
	if s.x == s.columns {
		s.newline()
	}
	line := s.cells[s.y]
	for len(line) <= s.x {
		line = append(line, ' ')
	}
	line[s.x] = r
	s.cells[s.y] = line
	s.x++
}

func (s *screen) newline() {
	s.x = 0
	s.y++
	if s.y == len(s.cells) {
		s.cells = append(s.cells, nil)
	}
	s.scroll()
}

func (s *screen) scroll() {
	for len(s.cells) > s.rows {
		s.scrolled = append(s.scrolled, text(s.cells[0]))
		s.cells = s.cells[1:]
		s.y--
	}
}

// text is a line without the second cells of wide characters.
func text(line []rune) string {
	return strings.TrimRight(strings.ReplaceAll(string(line), "\x00", ""), " ")
}

// lines returns what is visible, without empty lines at the end.
func (s *screen) lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, line := range s.cells {
		out = append(out, text(line))
	}
	for len(out) > 0 && out[len(out)-1] == "" {
		out = out[:len(out)-1]
	}
	return out
}
