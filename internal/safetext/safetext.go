// Package safetext makes text that comes from outside fit to be shown: a vCenter
// chooses the names of its VMs and the words of its errors, and whoever reads them
// sits at a terminal or reads a log.
package safetext

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Escape returns s without anything that a terminal would act upon or that changes
// how other text reads: control characters, escape sequences, line breaks, changes
// of text direction and invalid UTF-8 are written as Go escapes, such as \x1b and
// \u202e. Letters of every script stay as they are.
func Escape(s string) string {
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

// Bounded is [Escape] of no more than most bytes of s, of which it says that there
// were more.
func Bounded(s string, most int) string { return bounded(s, most, Escape) }

// Lines is [Bounded] for text of several lines, whose ends stay.
func Lines(s string, most int) string {
	return bounded(s, most, func(s string) string {
		lines := strings.Split(s, "\n")
		for i, line := range lines {
			lines[i] = Escape(line)
		}
		return strings.Join(lines, "\n")
	})
}

func bounded(s string, most int, escape func(string) string) string {
	if len(s) <= most {
		return escape(s)
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return escape(s[:cut]) + fmt.Sprintf("… (%d bytes)", len(s))
}
