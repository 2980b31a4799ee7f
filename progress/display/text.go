package display

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/mattn/go-runewidth"
)

// Duration writes a time span for people with its two largest units: "45s",
// "3m05s", "2h05m", "3d04h". A negative one is "?".
func Duration(d time.Duration) string {
	if d < 0 {
		return "?"
	}
	seconds := int64(d.Round(time.Second) / time.Second)
	switch {
	case seconds < 60:
		return fmt.Sprintf("%ds", seconds)
	case seconds < 60*60:
		return fmt.Sprintf("%dm%02ds", seconds/60, seconds%60)
	case seconds < 24*60*60:
		return fmt.Sprintf("%dh%02dm", seconds/3600, seconds/60%60)
	}
	return fmt.Sprintf("%dd%02dh", seconds/86400, seconds/3600%24)
}

// SafeText returns s without anything that a terminal would act upon or that
// changes how other text reads: control characters, escape sequences, line
// breaks, changes of text direction and invalid UTF-8 are written as Go
// escapes, such as \x1b and \u202e. Letters of every script stay as they are.
func SafeText(s string) string {
	if !strings.ContainsFunc(s, unsafe) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case !unsafe(r):
			b.WriteRune(r)
		case r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
		i += size
	}
	return b.String()
}

// unsafe reports whether r is to be escaped. The joiners belong to scripts and
// to emoji; RuneError may stand for an invalid byte.
func unsafe(r rune) bool {
	const nonJoiner, joiner = '\u200c', '\u200d'
	return r == utf8.RuneError || !unicode.IsGraphic(r) && r != nonJoiner && r != joiner
}

// fit returns s in exactly width cells: padded at its end, or shortened at its
// head, since the ends of file names tell them apart.
func fit(s string, width int) string {
	if width <= 0 {
		return ""
	}
	if runewidth.StringWidth(s) <= width {
		return runewidth.FillRight(s, width)
	}
	excess := runewidth.StringWidth(s) + 1 - width // and a cell for the ellipsis
	rest := ""
	for i, r := range s {
		if excess <= 0 {
			rest = s[i:]
			break
		}
		excess -= runewidth.RuneWidth(r)
	}
	return runewidth.FillRight("…"+rest, width)
}

// clip returns s in at most width cells, shortened at its end.
func clip(s string, width int) string {
	if width <= 0 {
		return ""
	}
	return runewidth.Truncate(s, width, "…")
}
