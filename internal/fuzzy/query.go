package fuzzy

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hyper2kvm/hyper2kvm/internal/natural"
)

// word is one word of a query. Neither it nor what it is compared with has
// accents.
type word struct {
	text   string // in lower case unless cased
	runes  []rune // the same
	mask   uint64 // letters that must be there, see maskOf
	cased  bool   // matched by case
	exact  bool   // not spread
	prefix bool   // at the beginning of a field
	suffix bool   // at the end of a field
	not    bool   // excludes
	flag   bool   // means the flag of the finder
}

// group is words of which one must match.
type group []word

// or stands between words of which one must match, with spaces around it or
// without.
const or = "|"

// parse reads a query. A word that is only an operator says nothing yet.
func parse(query string) []group {
	var groups []group
	joined := false // the next word belongs to the last group
	for _, s := range strings.Fields(strings.ReplaceAll(query, separator, " ")) {
		parts := []string{s}
		if s == or {
			parts = []string{"", ""}
		} else if !strings.HasPrefix(s, "'") { // which is as it stands
			parts = strings.Split(s, or)
		}
		for i, part := range parts {
			joined = joined || i > 0
			if part == "" {
				continue
			}
			if w := parseWord(part); w.text == "" {
				// It may become one as more is typed.
			} else if joined && len(groups) > 0 {
				last := &groups[len(groups)-1]
				*last = append(*last, w)
			} else {
				groups = append(groups, group{w})
			}
			joined = false
		}
	}
	return groups
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
	t := plain(s)
	w.text, w.runes = t.lower, t.folded
	if w.cased {
		w.text, w.runes = string(t.runes), t.runes
	}
	w.mask = maskOf(t.lower)
	return w
}

// narrows reports whether whatever next finds, query finds as well.
func narrows(query, next string) bool {
	if !strings.HasPrefix(next, query) {
		return false
	}
	if len(next) == len(query) || query == "" {
		return true
	}
	last := query[strings.LastIndexAny(query, " "+or)+1:]
	begun := strings.TrimSpace(last) == "" || parseWord(last).text == ""
	if strings.Contains(next[len(query):], or) || strings.Contains(query, or) && begun {
		return false // a word more may match
	}
	if strings.HasSuffix(query, " ") {
		return true
	}
	return !strings.HasPrefix(last, "!") && !strings.HasSuffix(last, "$")
}

// text is a text made ready: without accents, as natural.Plain gives it.
type text struct {
	runes  []rune // as it is written otherwise
	folded []rune // in lower case
	lower  string // the same
	from   []int  // by rune, where it stood; nil: where it stands
}

func plain(s string) text {
	t := text{runes: make([]rune, 0, len(s)), folded: make([]rune, 0, len(s))}
	if !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf }) {
		t.lower = strings.ToLower(s)
		for i := range len(s) {
			t.runes, t.folded = append(t.runes, rune(s[i])), append(t.folded, rune(t.lower[i]))
		}
		return t
	}
	moved := false
	natural.Plain(s, func(r rune, from int) {
		if from != len(t.runes) && !moved {
			moved = true
			for i := range t.runes {
				t.from = append(t.from, i)
			}
		}
		if moved {
			t.from = append(t.from, from)
		}
		t.runes, t.folded = append(t.runes, r), append(t.folded, unicode.ToLower(r))
	})
	t.lower = string(t.folded)
	return t
}

// origin is where rune i stood.
func (t *text) origin(i int) int {
	if t.from == nil {
		return i
	}
	return t.from[i]
}

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
