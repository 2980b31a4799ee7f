// Package natural compares names as people do: without case, without accents,
// and with numbers by their value, so that web-9 stands before web-10.
//
// Not promised: the order of any one language. Å stands by A, which a Swede
// would look for behind Z.
package natural

import (
	"cmp"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// apart are letters whose strokes and ligatures Unicode does not take apart.
var apart = map[rune]string{
	'ß': "ss", 'ẞ': "SS", 'æ': "ae", 'Æ': "AE", 'œ': "oe", 'Œ': "OE", 'ø': "o", 'Ø': "O", 'ł': "l", 'Ł': "L",
	'đ': "d", 'Đ': "D", 'ð': "d", 'Ð': "D", 'þ': "th", 'Þ': "TH", 'ħ': "h", 'Ħ': "H", 'ı': "i",
}

// Plain calls emit with each rune of s without its accents, and with the offset
// in runes of the one in s that it comes from. Zürich gives Zurich, however the ü
// is encoded; a letter may give two runes (ß) and an accent alone gives none.
func Plain(s string, emit func(r rune, from int)) {
	from := -1
	for _, r := range s {
		from++
		switch {
		case r < utf8.RuneSelf:
			emit(r, from)
		case '\u0300' <= r && r <= '\u036f': // an accent of the letter before it
		case apart[r] != "":
			for _, part := range apart[r] {
				emit(part, from)
			}
		default:
			var buf [utf8.UTFMax]byte
			for _, part := range string(norm.NFKD.AppendString(nil, string(buf[:utf8.EncodeRune(buf[:], r)]))) {
				if part < '\u0300' || part > '\u036f' {
					emit(part, from)
				}
			}
		}
	}
}

// Fold returns s in lower case and without accents: what [Compare] compares.
func Fold(s string) string {
	if ascii(s) {
		return strings.ToLower(s)
	}
	var b strings.Builder
	Plain(s, func(r rune, _ int) { b.WriteRune(unicode.ToLower(r)) })
	return b.String()
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// Compare orders two names; only names that are equal byte by byte give 0. For
// many names, fold each once and use [CompareFolded].
func Compare(a, b string) int {
	return cmp.Or(CompareFolded(Fold(a), Fold(b)), strings.Compare(a, b))
}

// CompareFolded is Compare for strings that [Fold] has made. Names that differ in
// leading zeros only (web-1 and web-01) do not give 0 either.
func CompareFolded(a, b string) int {
	zeros := 0
	for a != "" && b != "" {
		if !digit(a[0]) || !digit(b[0]) {
			if a[0] != b[0] {
				return cmp.Compare(a[0], b[0]) // bytes of UTF-8 are in the order of the runes
			}
			a, b = a[1:], b[1:]
			continue
		}
		var na, nb, za, zb string
		za, na, a = number(a)
		zb, nb, b = number(b)
		if c := cmp.Or(cmp.Compare(len(na), len(nb)), strings.Compare(na, nb)); c != 0 {
			return c
		}
		zeros = cmp.Or(zeros, cmp.Compare(len(za), len(zb)))
	}
	return cmp.Or(cmp.Compare(len(a), len(b)), zeros)
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

// number cuts s, which begins with a digit, into leading zeros, the other digits
// of its first number, and the rest.
func number(s string) (zeros, digits, rest string) {
	n := 0
	for n < len(s) && digit(s[n]) {
		n++
	}
	digits = strings.TrimLeft(s[:n], "0")
	return s[:n-len(digits)], digits, s[n:]
}
