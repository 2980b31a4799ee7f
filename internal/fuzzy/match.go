package fuzzy

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Scores, in the proportions of fzf's.
const (
	scoreMatch    = 16
	scoreGap      = -3 // the first rune of a gap
	scoreGapMore  = -1 // each further one
	bonusStart    = 10 // at the beginning of the name
	bonusBoundary = 8  // at the beginning of a word
	bonusPart     = 6  // where a part begins within a word
	bonusNext     = 5  // right after the match before
	firstTimes    = 2  // the first rune's bonus counts that often
	bonusWhole    = 4  // where a part ends with the word
	scoreOther    = 8  // a rune in another field than the name

	asItStands = 4096 // a word as it stands: more than spread letters of a name of 80 have
	elsewhere  = 2048 // the same in another field than the name
)

// none is the score of what is not possible.
const none = -1 << 30

// matcher holds the tables of an alignment between calls. Its zero value is
// ready; it belongs to one goroutine.
type matcher struct {
	score []int // word rune × name rune: best score with a match just there
	from  []int // the name rune that the word rune before matched then
	width int
}

// one scores a word by the place where it counts most. As it stands, in the name
// or elsewhere, it counts more than with its letters spread.
func (m *matcher) one(it *item, w *word) (score int, named, ok bool) {
	if _, score, named = literal(it, w); named {
		return score, true, true
	}
	if _, score, ok = within(it, w); ok || w.exact {
		return score, false, ok
	}
	score, ok = m.spread(it, w)
	return score, ok, ok
}

// named is the name as the word is compared with it.
func (it *item) named(w *word) []rune {
	if w.cased {
		return it.name.runes
	}
	return it.name.folded
}

// literal finds the place in the name where a word counts most as it stands.
func literal(it *item, w *word) (at, score int, ok bool) {
	name := it.named(w)
	last := len(name) - len(w.runes)
	from := 0
	if w.suffix {
		from = max(last, 0)
	}
	if w.prefix {
		last = min(last, 0)
	}
	for i := from; i <= last; i++ {
		if name[i] != w.runes[0] || !slices.Equal(name[i:i+len(w.runes)], w.runes) {
			continue
		}
		s := asItStands + scoreMatch*len(w.runes) + int(it.bonus[i])*firstTimes
		for j := i + 1; j < i+len(w.runes); j++ {
			s += max(int(it.bonus[j]), bonusNext)
		}
		if end := i + len(w.runes); end == len(name) || it.bonus[end] > 0 || !unicode.IsLetter(name[end]) && !unicode.IsDigit(name[end]) {
			s += bonusWhole
		}
		if !ok || s > score {
			at, score, ok = i, s, true
		}
	}
	return at, score, ok
}

// spread scores the best alignment of a word with the item's name and leaves its
// table in m. Every rune of the word is matched in order. What follows a gap is
// in the same part of the name, begins one, or is a digit: erp24 finds erp-0024.
// Of the word's digits, those that follow each other match runes that do.
func (m *matcher) spread(it *item, w *word) (score int, ok bool) {
	text := it.named(w)
	if !subsequence(text, w.runes) {
		return 0, false
	}
	rows, cols := len(w.runes), len(text)
	m.resize(rows, cols)
	for i, r := range w.runes {
		tight := i > 0 && unicode.IsDigit(r) && unicode.IsDigit(w.runes[i-1])
		m.row(i, r, tight, text, it.bonus)
	}
	best := slices.Max(m.score[(rows-1)*m.width:][:cols])
	return best, best > none
}

// row fills the row of the word's rune i. open is the best score of a match of
// the rune before that a gap has followed since; near is the same, of those in
// the part of the name that j is in.
func (m *matcher) row(i int, r rune, tight bool, text []rune, bonus []int8) {
	row, from := m.score[i*m.width:][:len(text)], m.from[i*m.width:][:len(text)]
	var above []int
	if i > 0 {
		above = m.score[(i-1)*m.width:][:len(text)]
	}
	var open, near gap
	open.score, near.score = none, none
	for j := range text {
		row[j] = none
		if i > 0 && j >= 2 {
			open.extend(above, j-2)
			near.extend(above, j-2)
		}
		if bonus[j] > 0 || j > 0 && bonus[j-1] > 0 {
			near.score = none // no match so far is in this part and leaves a gap
		}
		if text[j] != r {
			continue
		}
		b := int(bonus[j])
		if i == 0 {
			row[j] = scoreMatch + b*firstTimes
			continue
		}
		if j > 0 && above[j-1] > none {
			row[j], from[j] = above[j-1]+scoreMatch+max(b, bonusNext), j-1
		}
		before := near
		if b > 0 || unicode.IsDigit(r) {
			before = open
		}
		if s := before.score + scoreMatch + b; !tight && before.score > none/2 && s > row[j] {
			row[j], from[j] = s, before.at
		}
	}
}

// gap is the best way to have come to a gap in an alignment.
type gap struct {
	score int
	at    int // the rune before the gap
}

// extend makes the gap one rune longer, or begins it after rune at, whichever
// is better; above are the scores of matches.
func (g *gap) extend(above []int, at int) {
	g.score += scoreGapMore
	if s := above[at]; s > none && s+scoreGap > g.score {
		g.score, g.at = s+scoreGap, at
	}
}

// alignment returns the runes of the name that the word matches, in order; none
// when it does not.
func (m *matcher) alignment(it *item, w *word) []int {
	rows, cols := len(w.runes), len(it.name.runes)
	at := make([]int, rows)
	if from, _, ok := literal(it, w); ok {
		for i := range at {
			at[i] = from + i
		}
		return at
	}
	if w.exact {
		return nil
	}
	if _, ok := m.spread(it, w); !ok {
		return nil
	}
	last, best := 0, none
	for j := range cols {
		if s := m.score[(rows-1)*m.width+j]; s > best {
			last, best = j, s
		}
	}
	for i := rows - 1; i >= 0; i-- {
		at[i] = last
		last = m.from[i*m.width+last]
	}
	return at
}

func (m *matcher) resize(rows, cols int) {
	m.width = cols
	if n := rows * cols; cap(m.score) < n {
		m.score, m.from = make([]int, n), make([]int, n)
	}
	m.score, m.from = m.score[:rows*cols], m.from[:rows*cols]
}

// subsequence reports whether word's runes occur in text in their order.
func subsequence(text, word []rune) bool {
	for _, r := range text {
		if len(word) == 0 {
			break
		}
		if r == word[0] {
			word = word[1:]
		}
	}
	return len(word) == 0
}

// within looks for the word as it stands in the fields other than the name, and
// returns its first place at the beginning of a word there, or else its first
// place: an offset in bytes into the text it looked at, item.others for a word
// matched by case and item.lower for others.
func within(it *item, w *word) (at, score int, ok bool) {
	hay, text := it.lower, w.text
	if w.cased {
		hay = it.others
	}
	skip := 0
	if w.prefix {
		text, skip = separator+text, len(separator)
	}
	if w.suffix {
		text += separator
	}
	for from := 0; ; {
		i := strings.Index(hay[from:], text)
		if i < 0 {
			return at, score, ok
		}
		i += from + skip
		before, _ := utf8.DecodeLastRuneInString(hay[:i])
		if !unicode.IsLetter(before) && !unicode.IsDigit(before) {
			return i, elsewhere + scoreOther*len(w.runes) + bonusBoundary, true
		}
		if !ok {
			at, score, ok = i, elsewhere+scoreOther*len(w.runes), true
		}
		from = i
		if _, n := utf8.DecodeRuneInString(hay[from:]); n > 0 {
			from += n
		}
	}
}
