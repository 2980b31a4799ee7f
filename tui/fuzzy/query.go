package fuzzy

import (
	"strings"
	"unicode"
)

// word is one word of a query.
type word struct {
	text   string // folded unless cased
	runes  []rune // the same
	mask   uint64 // letters that must be there, see maskOf
	cased  bool   // matched by case
	exact  bool   // not spread
	prefix bool   // at the beginning of a field
	suffix bool   // at the end of a field
	not    bool   // excludes
}

// parse reads a query. A word that is only an operator says nothing yet.
func parse(query string) []word {
	var words []word
	for _, s := range strings.Fields(strings.ReplaceAll(query, separator, " ")) {
		if w := parseWord(s); w.text != "" {
			words = append(words, w)
		}
	}
	return words
}

func parseWord(s string) word {
	var w word
	if rest, ok := strings.CutPrefix(s, "!"); ok {
		w.not, w.exact, s = true, true, rest
	}
	if rest, ok := strings.CutPrefix(s, "'"); ok {
		w.exact, s = true, rest
	} else if rest, ok := strings.CutPrefix(s, "^"); ok {
		w.exact, w.prefix, s = true, true, rest
	}
	if rest, ok := strings.CutSuffix(s, "$"); ok && rest != "" {
		w.exact, w.suffix, s = true, true, rest
	}
	w.cased = strings.ContainsFunc(s, unicode.IsUpper)
	w.text = s
	if !w.cased {
		w.text = fold(s)
	}
	w.runes = []rune(w.text)
	w.mask = maskOf(fold(s))
	return w
}

// narrows reports whether whatever next finds, query finds as well.
func narrows(query, next string) bool {
	if !strings.HasPrefix(next, query) {
		return false
	}
	if len(next) == len(query) || query == "" || strings.HasSuffix(query, " ") {
		return true
	}
	last := query[strings.LastIndexByte(query, ' ')+1:]
	return !strings.HasPrefix(last, "!") && !strings.HasSuffix(last, "$")
}

// fold is s in lower case, rune for rune: positions stay the same.
func fold(s string) string { return strings.Map(unicode.ToLower, s) }

// maskOf has a bit for each letter and digit in a folded string, and one for all
// else. A word can be in a text only if its bits are in the text's.
func maskOf(folded string) uint64 {
	var m uint64
	for _, r := range folded {
		switch {
		case 'a' <= r && r <= 'z':
			m |= 1 << (r - 'a')
		case '0' <= r && r <= '9':
			m |= 1 << (26 + r - '0')
		default:
			m |= 1 << 36
		}
	}
	return m
}
