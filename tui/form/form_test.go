package form_test

import (
	"strings"
	"testing"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/hyper2kvm/hyper2kvm/tui/cell"
	"github.com/hyper2kvm/hyper2kvm/tui/form"
)

type answers struct {
	format, dir string
	snapshot    bool
	n           int
}

func page() (*form.Model, *answers) {
	a := &answers{format: "qcow2", dir: "/srv", n: 4}
	compress := false
	hidden := form.Switch("Compress", &compress, "")
	hidden.Hidden = func() bool { return a.format != "qcow2" }
	return form.New(
		form.Choice("Format", &a.format, []string{"qcow2", "raw", "ovf"}, "what lands"),
		form.Text("Directory", &a.dir, ""),
		hidden,
		form.Switch("Snapshot", &a.snapshot, ""),
		form.Number("Transfers", &a.n, 1, 64, ""),
	), a
}

func press(m *form.Model, keys ...tea.KeyPressMsg) tea.Cmd {
	var cmd tea.Cmd
	for _, k := range keys {
		cmd = m.Update(k)
	}
	return cmd
}

var (
	up    = tea.KeyPressMsg{Code: tea.KeyUp}
	down  = tea.KeyPressMsg{Code: tea.KeyDown}
	left  = tea.KeyPressMsg{Code: tea.KeyLeft}
	right = tea.KeyPressMsg{Code: tea.KeyRight}
	space = tea.KeyPressMsg{Code: tea.KeySpace, Text: " "}
	back  = tea.KeyPressMsg{Code: tea.KeyBackspace}
)

func char(r rune) tea.KeyPressMsg { return tea.KeyPressMsg{Code: r, Text: string(r)} }

func ctrl(r rune) tea.KeyPressMsg { return tea.KeyPressMsg{Code: r, Mod: tea.ModCtrl} }

func text(m *form.Model, width int) string {
	lines, _, _ := m.Lines(width)
	return ansi.Strip(strings.Join(lines, "\n"))
}

func TestEachKindOfQuestionIsAnsweredByItsKeys(t *testing.T) {
	t.Parallel()
	m, a := page()
	press(m, left)
	if a.format != "ovf" {
		t.Errorf("left of the first choice is %s", a.format)
	}
	press(m, char('r'))
	if a.format != "raw" {
		t.Errorf("r chose %s", a.format)
	}
	press(m, down, char('/'), char('a'), space, char('b'))
	if a.dir != "/srv/a b" {
		t.Errorf("typed %q", a.dir)
	}
	press(m, ctrl('w'), back)
	if a.dir != "/srv/a" {
		t.Errorf("erased to %q", a.dir)
	}
	press(m, ctrl('u'))
	if a.dir != "" {
		t.Errorf("cleared to %q", a.dir)
	}
	press(m, down, space)
	if !a.snapshot {
		t.Error("space did not switch")
	}
	press(m, down, right, right, left)
	if a.n != 5 {
		t.Errorf("counted to %d", a.n)
	}
	press(m, back, char('1'), char('6'))
	if a.n != 16 {
		t.Errorf("typed %d", a.n)
	}
	for range 100 {
		press(m, right)
	}
	if a.n != 64 {
		t.Errorf("counted beyond the top to %d", a.n)
	}
}

func TestAQuestionWithoutMeaningIsNotShown(t *testing.T) {
	t.Parallel()
	m, _ := page()
	if !strings.Contains(text(m, 80), "Compress") {
		t.Error("qcow2 cannot be compressed")
	}
	press(m, right)
	if strings.Contains(text(m, 80), "Compress") {
		t.Error("raw can be compressed")
	}
}

func TestPastingAndGoingOnAndBack(t *testing.T) {
	t.Parallel()
	m, a := page()
	press(m, down, ctrl('u'))
	m.Update(tea.PasteMsg{Content: " /mnt/big\n"})
	if a.dir != "/mnt/big" {
		t.Errorf("pasted %q", a.dir)
	}
	if _, ok := press(m, tea.KeyPressMsg{Code: tea.KeyEnter})().(form.Accepted); !ok {
		t.Error("enter did not go on")
	}
	if _, ok := press(m, tea.KeyPressMsg{Code: tea.KeyEscape})().(form.Left); !ok {
		t.Error("esc did not go back")
	}
	press(m, up, up, up)
}

func TestEveryWidthFits(t *testing.T) {
	t.Parallel()
	m, a := page()
	a.dir = strings.Repeat("/very/long/日本語", 10)
	press(m, down)
	for width := 8; width < 120; width += 3 {
		lines, x, _ := m.Lines(width)
		if x >= width {
			t.Errorf("the cursor is in column %d of %d", x, width)
		}
		for _, l := range lines {
			if cell.Width(l) > width {
				t.Fatalf("%d cells of %d: %q", cell.Width(l), width, l)
			}
		}
	}
}
