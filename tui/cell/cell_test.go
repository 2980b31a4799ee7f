package cell_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/charmbracelet/x/ansi"

	"github.com/hyper2kvm/hyper2kvm/tui/cell"
)

// awkward are texts as inventories and hostile people have them.
var awkward = []string{
	"", "plain", "日本語サーバー", "e\u0301cole", "a\tb\nc", "\x1b[31mred\x1b]0;title\a", "right\u202eleft",
	"family 👨\u200d👩\u200d👧", "heart ❤\ufe0f", "bad \xff\xfe bytes", "flag 🇩🇪", "ｗｉｄｅ", "c1 \u009b1m",
}

func TestSafeTextHasOneWidthByEveryCount(t *testing.T) {
	t.Parallel()
	for _, s := range awkward {
		safe := cell.Safe(s)
		if ansi.Strip(safe) != safe || strings.ContainsAny(safe, "\x1b\n\t\r") {
			t.Errorf("%q is not safe: %q", s, safe)
		}
		if wc, grapheme := cell.Width(safe), ansi.StringWidth(safe); wc != grapheme {
			t.Errorf("%q has %d cells by rune and %d by grapheme", safe, wc, grapheme)
		}
	}
}

func TestFittedTextHasExactlyTheWidth(t *testing.T) {
	t.Parallel()
	for _, s := range awkward {
		s = cell.Safe(s)
		for width := range 12 {
			for name, got := range map[string]string{
				"Fit":       cell.Fit(s, width),
				"FitTail":   cell.FitTail(s, width),
				"FitMiddle": middle(s, width),
				"Right":     cell.Right(s, width),
				"Edges":     cell.Edges(s, "end", width),
				"painted":   cell.Fit(cell.Bad.Paint(s), width),
			} {
				if cell.Width(got) != width {
					t.Errorf("%s of %q in %d cells: %q takes %d", name, s, width, got, cell.Width(got))
				}
			}
		}
	}
}

func middle(s string, width int) string {
	text, _ := cell.FitMiddle(s, width, nil)
	return text
}

func TestFitMiddleKeepsBothEndsAndMovesTheHighlights(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text  string
		width int
		at    []int
		want  string
		moved []int
	}{
		{"prod-erp-frankfurt-0132", 15, []int{0, 1, 9, 10, 20, 22}, "prod-er…rt-0132", []int{0, 1, 7, 12, 14}},
		{"short", 15, []int{0, 4}, "short          ", []int{0, 4}},
		{"日本語サーバー1", 8, []int{0, 7}, "日本…ー1", []int{0, 4}},
		{"abcdef", 2, nil, "a…", nil},
	} {
		text, moved := cell.FitMiddle(c.text, c.width, c.at)
		if text != c.want || !slices.Equal(moved, c.moved) {
			t.Errorf("%q in %d cells is %q at %v, want %q at %v", c.text, c.width, text, moved, c.want, c.moved)
		}
	}
}

func TestFitTailKeepsTheEnd(t *testing.T) {
	t.Parallel()
	if got := cell.FitTail("/DC0/vm/prod/web-01", 8); got != "…/web-01" {
		t.Errorf("got %q", got)
	}
}

func TestHighlightMarksTheRunesAndLeavesTheText(t *testing.T) {
	t.Parallel()
	got := cell.Highlight("größe-1", []int{2, 3, 6}, cell.Plain, cell.Bold)
	if want := "gr\x1b[1möß\x1b[me-\x1b[1m1\x1b[m"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := cell.Highlight("abc", []int{0, 1, 2, 9}, cell.Dim, cell.Bold); ansi.Strip(got) != "abc" {
		t.Errorf("text became %q", ansi.Strip(got))
	}
}
