package picker

import (
	"fmt"
	"strconv"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/hyper2kvm/hyper2kvm/tui/cell"
	"github.com/hyper2kvm/hyper2kvm/units"
)

// frame is how the screen is divided. The title, the search box and the column
// titles stand above the list, the help line below.
type frame struct {
	rows  int // of the list; 0 when details take its place
	width int // of the list
	pane  int // size of the details in cells: lines below, columns at the side, all
	side  bool
}

const (
	above     = 3   // lines over the list
	below     = 1   // lines under it
	sideFrom  = 120 // columns from which the details are at the side
	sideWidth = 46
	belowFrom = 20 // lines from which they are under the list
	paneLines = 8
	narrow    = 30 // columns under which a row is cut
)

func (m *Model) frame() frame {
	f := frame{rows: max(m.height-above-below, 1), width: m.width}
	switch {
	case m.pane == paneOff || m.o.Inspect == nil:
	case m.width >= sideFrom:
		f.side, f.pane = true, sideWidth
		f.width = m.width - sideWidth - 1
	case m.height >= belowFrom:
		f.pane = paneLines
		f.rows -= paneLines
	case m.pane == paneOn:
		f.pane, f.rows = f.rows+1, 0
	}
	return f
}

// View draws the screen.
func (m *Model) View() tea.View {
	f := m.frame()
	lines := []string{m.title(), m.searchBox()}
	if m.help {
		lines = append(lines, cell.Block(helpText(m.width), m.width, m.height-len(lines)-1)...)
		return m.screen(append(lines, cell.Dim.Paint(cell.Fit(" any key: back to the list", m.width))))
	}
	switch {
	case f.rows == 0:
		lines = append(lines, m.detailPane(m.width, f.pane)...)
	case f.side:
		list := append([]string{m.header(f.width)}, m.listLines(f)...)
		details := m.detailPane(sideWidth, len(list))
		for i, s := range list {
			lines = append(lines, cell.Fit(s, f.width)+cell.Dim.Paint("│")+details[i])
		}
	default:
		lines = append(append(lines, m.header(f.width)), m.listLines(f)...)
		lines = append(lines, m.detailPane(m.width, f.pane)...)
	}
	return m.screen(append(lines, m.helpLine()))
}

func (m *Model) screen(lines []string) tea.View {
	v := tea.NewView(strings.Join(lines[:min(len(lines), max(m.height, 1))], "\n"))
	v.AltScreen = true
	if !m.onList && !m.help {
		v.Cursor = tea.NewCursor(min(cell.Width(prompt)+cell.Width(cell.Safe(m.query)), m.width-1), 1)
		v.Cursor.Blink = false
	}
	return v
}

func (m *Model) title() string {
	left := " " + cell.Heading.Paint("hyper2kvm") + "  " + cell.Safe(m.o.Title)
	right := fmt.Sprintf("%s VMs ", thousands(len(m.list.vms)))
	if m.list.count > 0 {
		right = cell.Accent.Paint(fmt.Sprintf("● %s selected, %s ", thousands(m.list.count), units.Bytes(m.list.size)))
	}
	return cell.Edges(left, right, m.width)
}

const prompt = " Search: "

func (m *Model) searchBox() string {
	sort := m.list.order.String()
	if m.list.order == byMatch && m.query == "" {
		sort = byName.String()
	}
	if m.list.backwards {
		sort += " ↑"
	}
	right := fmt.Sprintf("%s of %s · by %s ", thousands(len(m.list.shown)), thousands(len(m.list.vms)), sort)
	if m.width < 60 {
		right = thousands(len(m.list.shown)) + " "
	}
	query := cell.Bold.Paint(cell.Safe(m.query))
	if m.query == "" {
		query = cell.Dim.Paint("type words in any order")
	}
	return cell.Edges(cell.Accent.Paint(prompt)+query, cell.Dim.Paint(right), m.width)
}

func (m *Model) header(width int) string {
	return cell.Dim.And(cell.Bold).Paint(cell.Fit(columnsFor(width, m.list.wants, m.list.order).header(), width))
}

// listLines draws the rows that fit, so that the cursor is among them.
func (m *Model) listLines(f frame) []string {
	m.top = max(min(m.top, m.cursor, len(m.list.shown)-f.rows), m.cursor-f.rows+1, 0)
	c := columnsFor(f.width, m.list.wants, m.list.order)
	lines := make([]string, f.rows)
	for i := range lines {
		at := m.top + i
		if at >= len(m.list.shown) {
			lines[i] = cell.Spaces(f.width)
			continue
		}
		vm := m.list.shown[at]
		lines[i] = c.line(&m.list.vms[vm], &m.list.rows[vm], m.query, m.list.marked[vm], at == m.cursor)
		if f.width < narrow {
			lines[i] = cell.Clip(lines[i], f.width)
		}
	}
	if len(m.list.shown) == 0 {
		lines[0] = cell.Fit(cell.Warn.Paint("    no VM matches")+cell.Dim.Paint("; esc clears the search"), f.width)
	}
	return lines
}

// helpLine names the keys that matter now, as many as fit.
func (m *Model) helpLine() string {
	if m.leaving {
		return cell.Fit(cell.Warn.Paint(fmt.Sprintf(" leave, and forget the %s selected? ", thousands(m.list.count)))+cell.Bold.Paint("y")+" yes  any other key: no", m.width)
	}
	if m.announce != "" {
		return cell.Fit(" "+cell.Warn.Paint(m.announce), m.width)
	}
	next := "enter next"
	if m.list.count == 0 {
		next = "enter take this one"
	}
	all := "ctrl-a all"
	if m.query != "" {
		all = "ctrl-a all " + thousands(len(m.list.shown))
	}
	return cell.Keys(m.width, "tab select", next, "f1 help", all, "ctrl-s sort", "ctrl-d details", "esc back")
}

// thousands writes n with commas.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func helpText(width int) []string {
	var lines []string
	for _, item := range [][2]string{
		{"type", "search names, folders, guests, hosts, datastores"},
		{"", "several words match in any order"},
		{"'word", "as it stands    ^word at the beginning"},
		{"!word", "without it      word$ at the end"},
		{"a | b", "one or the other; prod web | db is prod with either"},
		{"is:…", "selected on off suspended template snapshot down bios efi"},
		{"tab", "select; space too, with an empty search or after ↑↓"},
		{"ctrl-a", "select all that match"},
		{"ctrl-t", "invert what matches     ctrl-x select none"},
		{"ctrl-s", "sort by the next column ctrl-r backwards"},
		{"ctrl-d", "details on or off"},
		{"ctrl-u", "clear the search        ctrl-w its last word"},
		{"enter", "go on with the selected VMs"},
		{"esc", "clear the search, then go back"},
		{"ctrl-c", "leave"},
	} {
		lines = append(lines, cell.Clip("  "+cell.Bold.Paint(cell.Fit(item[0], 8))+item[1], width))
	}
	return lines
}
