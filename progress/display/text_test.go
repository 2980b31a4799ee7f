package display_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/hyper2kvm/hyper2kvm/progress/display"
)

func TestTimesAreWrittenForPeople(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		-1: "?", 0: "0s", 59400 * time.Millisecond: "59s", 59600 * time.Millisecond: "1m00s", 185 * time.Second: "3m05s",
		125 * time.Minute: "2h05m", 76 * time.Hour: "3d04h",
	} {
		if got := display.Duration(d); got != want {
			t.Errorf("Duration(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestNamesCannotActOnTheTerminal(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain name": "plain name",
		"仮想 マシン – «é» 👩‍💻": "仮想 マシン – «é» 👩‍💻",
		"\x1b[2J\a\r\n\t":  `\x1b[2J\x07\x0d\x0a\x09`,
		"a\u009bb\x7f":     `a\u009bb\x7f`,
		"txt\u202egpj.exe": `txt\u202egpj.exe`,
		"bad\xff\xfe":      `bad\xff\xfe`,
		"line\u2028break":  `line\u2028break`,
		"tag\U000e0041":    `tag\U000e0041`,
	} {
		if got := display.SafeText(in); got != want {
			t.Errorf("SafeText(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzSafeText(f *testing.F) {
	for _, seed := range []string{"", "\x1b]0;x\a", "\xc2", "\u202e", "name", "\ufffd"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		safe := display.SafeText(s)
		if !utf8.ValidString(safe) || strings.ContainsFunc(safe, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }) {
			t.Errorf("SafeText(%q) = %q", s, safe)
		}
		if display.SafeText(safe) != safe {
			t.Errorf("SafeText is not stable for %q", s)
		}
	})
}
