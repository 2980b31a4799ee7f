package main

import (
	"strings"
	"testing"

	"github.com/mattn/go-runewidth"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
)

func TestIDsAndPathsAreShortenedForTables(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"0d5c2a31-6f0e-4f1b-9d7e-0a1b2c3d4e5f": "0d5c2a31", "short": "short", "\x1b[2J": `\x1b[2J`,
	} {
		if got := shortID(in); got != want {
			t.Errorf("shortID(%q) = %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{
		"/data/vm/XX-win8.0-x8.0-win2019-x86_64 - Clone": "...x8.0-win2019-x86_64 - Clone",
		"/data/vm/short": "/data/vm/short",
	} {
		if got := shortPath(in); got != want {
			t.Errorf("shortPath(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestBarsFitTheTerminal(t *testing.T) {
	t.Parallel()
	p := &models.Progress{Phase: "exporting", CurrentFile: "日本語-disk-0.vmdk", PercentComplete: 42, EstimatedRemaining: "3m5s"}
	for width := 1; width < 120; width++ {
		line := barLine("日本語の名前はとても長いのです", models.StatusRunning, p, width)
		if n := runewidth.StringWidth(line); n > width {
			t.Errorf("%d cells in %d: %q", n, width, line)
		}
	}
	if line := barLine("vm", models.StatusRunning, p, 100); !strings.Contains(line, " 42.0% exporting") || strings.Count(line, "█") != 10 {
		t.Errorf("got %q", line)
	}
	if line := barLine("vm", models.StatusPending, nil, 100); !strings.Contains(line, "0.0% pending") {
		t.Errorf("without progress: %q", line)
	}
}

func TestOnlyAsManyBarsAsThereAreLines(t *testing.T) {
	t.Parallel()
	l := &live{names: map[string]string{}, state: map[string]models.Status{"a": models.StatusCompleted}, last: map[string]*models.Progress{}}
	l.ids = []string{"a", "b", "c", "d", "e"}
	if got := l.bars(80, 4); len(got) != 4 {
		t.Errorf("4 open jobs in 4 lines: %q", got)
	}
	got := l.bars(80, 3)
	if len(got) != 3 || !strings.Contains(got[2], "2 more") {
		t.Errorf("4 open jobs in 3 lines: %q", got)
	}
}
