package safetext_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/hyper2kvm/hyper2kvm/internal/safetext"
)

func TestWhatATerminalWouldActUponIsWrittenOut(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"Büro 名前 👩‍💻":         "Büro 名前 👩‍💻",
		"a\x1b[2Jb\r\n":       `a\x1b[2Jb\x0d\x0a`,
		"evil\u202egpj.exe":   `evil\u202egpj.exe`,
		"\xff\x9b31m\u009b1m": `\xff\x9b31m\u009b1m`,
		"\U000e0041":          `\U000e0041`,
	} {
		if got := safetext.Escape(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

func TestLongTextIsCutBetweenCharactersAndSaysSo(t *testing.T) {
	t.Parallel()
	if got := safetext.Bounded("short", 5); got != "short" {
		t.Errorf("got %q", got)
	}
	if got := safetext.Lines("one\ntwo\x1b\r\n", 100); got != "one\ntwo\\x1b\\x0d\n" {
		t.Errorf("got %q", got)
	}
	got := safetext.Bounded(strings.Repeat("ü", 1000), 101)
	if !utf8.ValidString(got) || len(got) > 130 || !strings.HasSuffix(got, "(2000 bytes)") {
		t.Errorf("got %q", got)
	}
}
