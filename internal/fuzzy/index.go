package fuzzy

import (
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// separator stands between the fields of a haystack, and counts as a space
// anywhere else.
const separator = "\x1f"

// item is one item made ready for search.
type item struct {
	name   text
	length int    // of the name as given, in runes
	bonus  []int8 // for a match at that rune of the name
	others string // the other fields without accents, a separator around each
	lower  string // the same, in lower case
	mask   uint64 // of all fields
}

// Index is a list of items made ready for search. It does not change; any
// goroutine may use it.
type Index struct{ items []item }

// NewIndex prepares items, each a list of fields of which the first is the
// name.
func NewIndex(items [][]string) *Index {
	x := &Index{items: make([]item, len(items))}
	for i, fields := range items {
		x.items[i] = prepare(fields)
	}
	return x
}

func prepare(fields []string) item {
	var it item
	if len(fields) == 0 {
		return it
	}
	it.name, it.length = plain(fields[0]), utf8.RuneCountInString(fields[0])
	it.bonus = make([]int8, len(it.name.runes))
	for i := range it.bonus {
		it.bonus[i] = bonusAt(it.name.runes, i)
	}
	others := plain(joined(fields[1:]))
	it.others, it.lower = string(others.runes), others.lower
	it.mask = maskOf(it.name.lower) | maskOf(it.lower)
	return it
}

// joined are the fields with a separator around each.
func joined(fields []string) string {
	var b strings.Builder
	for _, f := range fields {
		b.WriteString(separator + strings.ReplaceAll(f, separator, " "))
	}
	return b.String() + separator
}

// Len is the number of items.
func (x *Index) Len() int { return len(x.items) }

// Finder answers queries on an [Index], one after the other. It belongs to one
// goroutine.
type Finder struct {
	x       *Index
	literal bool
	flag    string              // "" for none
	flagged func(item int) bool // who has it
	query   string
	left    []int32  // items that match query, in the order of the index
	spare   []int32  // what left was before, to be written over
	keys    []uint64 // of the ranking
	hits    []int
	m       matcher
}

// Finder returns a Finder whose query is empty.
func (x *Index) Finder() *Finder {
	f := &Finder{x: x}
	f.all()
	return f
}

// Literally makes f spread no letters: every word must stand as it is.
func (f *Finder) Literally() *Finder {
	f.literal = true
	return f
}

// Flag adds a word such as is:selected that the items have for which has says so.
// What has says may change: see [Finder.Again].
func (f *Finder) Flag(name string, has func(item int) bool) { f.flag, f.flagged = name, has }

// Again answers the last query anew, because flags have changed, and reports
// whether that can make a difference.
func (f *Finder) Again() bool {
	for _, words := range parse(f.query) {
		for i := range words {
			if f.means(&words[i]) {
				query := f.query
				f.all()
				f.Find(query)
				return true
			}
		}
	}
	return false
}

// means reports whether a word, or its beginning, is the flag.
func (f *Finder) means(w *word) bool {
	kind, _, _ := strings.Cut(f.flag, ":")
	return f.flag != "" && strings.HasPrefix(w.text, kind+":") && strings.HasPrefix(f.flag, w.text)
}

// all forgets the query.
func (f *Finder) all() {
	f.query, f.left = "", f.left[:0]
	for i := range f.x.items {
		f.left = append(f.left, int32(i))
	}
}

// Find returns the items that match query, the best first; an empty query
// matches all of them, in their order. The slice is good until the next call.
func (f *Finder) Find(query string) []int {
	if !narrows(f.query, query) {
		f.all()
	}
	f.query = query
	groups := parse(query)
	for _, words := range groups {
		for i := range words {
			words[i].exact = words[i].exact || f.literal
			words[i].flag = f.means(&words[i])
		}
	}
	f.keys = f.keys[:0]
	kept := f.spare[:0]
	for _, i := range f.left {
		score, named, ok := f.every(int(i), groups)
		if !ok {
			continue
		}
		length := 0
		if named {
			length = f.x.items[i].length
		}
		kept = append(kept, i)
		f.keys = append(f.keys, rankKey(score, length, i))
	}
	f.left, f.spare = kept, f.left
	if len(groups) > 0 {
		slices.Sort(f.keys)
	}
	f.hits = f.hits[:0]
	for i, key := range f.keys {
		if len(groups) == 0 {
			f.hits = append(f.hits, int(f.left[i]))
		} else {
			f.hits = append(f.hits, int(key&math.MaxUint32))
		}
	}
	return f.hits
}

// every scores an item by all groups; each must match. named says that a word
// matches the name.
func (f *Finder) every(i int, groups []group) (score int, named, ok bool) {
	for _, words := range groups {
		s, in, ok := f.some(i, words)
		if !ok {
			return 0, false, false
		}
		score, named = score+s, named || in
	}
	return score, named, true
}

// some scores an item by the word of a group that counts most.
func (f *Finder) some(i int, words group) (best int, named, ok bool) {
	it := &f.x.items[i]
	for j := range words {
		w := &words[j]
		s, inName, in := 0, false, false
		if w.mask&^it.mask == 0 {
			s, inName, in = f.m.one(it, w)
		}
		in = in || w.flag && f.flagged(i)
		if w.not {
			s, inName, in = 0, false, !in
		}
		if in {
			best, named, ok = max(best, s), named || inName, true
		}
	}
	return best, named, ok
}

// rankKey orders hits: the higher score first, then the shorter name, then the
// order of the index. Where the name was not searched for, its length is 0.
func rankKey(score, length int, item int32) uint64 {
	const top = 1<<20 - 1
	rank := uint64(top - min(max(score, 0), top))
	return rank<<44 | uint64(min(length, 1<<12-1))<<32 | uint64(uint32(item))
}

// Positions returns where query matches in text, a name as given to [NewIndex]
// when name is set and one of the other fields otherwise: offsets in runes,
// ascending. It is for highlights.
func Positions(query, text string, name bool) []int {
	shown := plain(text)
	it := item{name: shown}
	if name {
		it = prepare([]string{text})
	} else {
		shown = plain(joined([]string{text}))
		it.others, it.lower = string(shown.runes), shown.lower
	}
	var m matcher
	var at []int
	for _, words := range parse(query) {
		for i := range words {
			if w := &words[i]; !w.not {
				at = append(at, m.positions(&it, w, &shown, name)...)
			}
		}
	}
	slices.Sort(at)
	return slices.Compact(at)
}

// positions are where one word matches in the name or in the other fields, which
// shown is.
func (m *matcher) positions(it *item, w *word, shown *text, name bool) []int {
	var at []int
	if name {
		for _, i := range m.alignment(it, w) {
			at = append(at, shown.origin(i))
		}
		return at
	}
	from, _, ok := within(it, w)
	if !ok {
		return nil
	}
	hay := it.lower
	if w.cased {
		hay = it.others
	}
	start := utf8.RuneCountInString(hay[:from])
	for i := range w.runes {
		at = append(at, shown.origin(start+i)-1) // the separator before the field
	}
	return at
}

// bonusAt is what a match at rune i of a name is worth beyond the match
// itself: most at the beginning and after a space, slash, dash or the like,
// some where a new part begins within letters (camelCase, app01).
func bonusAt(name []rune, i int) int8 {
	if i == 0 {
		return bonusStart
	}
	before, r := name[i-1], name[i]
	word := func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }
	switch {
	case !word(r):
		return 0
	case !word(before):
		return bonusBoundary
	case unicode.IsLower(before) && unicode.IsUpper(r), unicode.IsLetter(before) && unicode.IsDigit(r),
		unicode.IsDigit(before) && unicode.IsLetter(r):
		return bonusPart
	}
	return 0
}
