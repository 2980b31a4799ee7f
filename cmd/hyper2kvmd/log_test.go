package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// logged is what a logger writes into a file of which JOURNAL_STREAM says that it is
// the journal's, or another.
func logged(t *testing.T, format string, journal bool) []string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	s := info.Sys().(*syscall.Stat_t)
	stream := fmt.Sprintf("%d:%d", s.Dev, s.Ino)
	if !journal {
		stream = fmt.Sprintf("%d:%d", s.Dev, s.Ino+1)
	}
	log, err := newLogger(f, format, "debug", func(name string) string { return map[string]string{"JOURNAL_STREAM": stream}[name] })
	if err != nil {
		t.Fatal(err)
	}
	log.Debug("d")
	log.With("job", "42").WithGroup("g").Info("i", "k", "v")
	log.Warn("w")
	log.Error("two\nlines")
	log.Log(t.Context(), slog.LevelError+4, "worse")
	text, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

func TestInTheJournalEachLineBeginsWithItsPriority(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"text", "json"} {
		lines := logged(t, format, true)
		for i, want := range []string{"<7>", "<6>", "<4>", "<3>", "<3>"} {
			if len(lines) != 5 || !strings.HasPrefix(lines[i], want) {
				t.Fatalf("%s: %q, want %s", format, lines, want)
			}
		}
		if format == "json" { // which journald finds when it has taken the priority off
			var line struct {
				Job string
				G   struct{ K string }
			}
			if err := json.Unmarshal([]byte(lines[1][3:]), &line); err != nil || line.Job != "42" || line.G.K != "v" {
				t.Errorf("%s: %v", lines[1], err)
			}
		}
	}
}

func TestElsewhereLinesHaveNoPriority(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"text", "json"} {
		for _, line := range logged(t, format, false) {
			if !regexp.MustCompile(`^(time=|\{"time":)`).MatchString(line) {
				t.Errorf("%s: %s", format, line)
			}
		}
	}
}
