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
	name   []rune // as given
	folded []rune
	bonus  []int8 // for a match at that rune of the name
	others string // the other fields, a separator around each
	lower  string // the same, folded
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
	it.name = []rune(fields[0])
	it.folded = []rune(fold(fields[0]))
	it.bonus = make([]int8, len(it.name))
	for i := range it.name {
		it.bonus[i] = bonusAt(it.name, i)
	}
	var b strings.Builder
	for _, f := range fields[1:] {
		b.WriteString(separator + strings.ReplaceAll(f, separator, " "))
	}
	it.others = b.String() + separator
	it.lower = fold(it.others)
	it.mask = maskOf(string(it.folded)) | maskOf(it.lower)
	return it
}

// Len is the number of items.
func (x *Index) Len() int { return len(x.items) }

// Finder answers queries on an [Index], one after the other. It belongs to one
// goroutine.
type Finder struct {
	x     *Index
	query string
	left  []int32  // items that match query, in the order of the index
	spare []int32  // what left was before, to be written over
	keys  []uint64 // of the ranking
	hits  []int
	m     matcher
}

// Finder returns a Finder whose query is empty.
func (x *Index) Finder() *Finder {
	f := &Finder{x: x, left: make([]int32, len(x.items))}
	for i := range f.left {
		f.left[i] = int32(i)
	}
	return f
}

// Find returns the items that match query, the best first; an empty query
// matches all of them, in their order. The slice is good until the next call.
func (f *Finder) Find(query string) []int {
	if !narrows(f.query, query) {
		f.left = f.left[:0]
		for i := range f.x.items {
			f.left = append(f.left, int32(i))
		}
	}
	f.query = query
	words := parse(query)
	f.keys = f.keys[:0]
	kept := f.spare[:0]
	for _, i := range f.left {
		it := &f.x.items[i]
		score, ok := f.m.all(it, words)
		if !ok {
			continue
		}
		kept = append(kept, i)
		f.keys = append(f.keys, rankKey(score, len(it.name), i))
	}
	f.left, f.spare = kept, f.left
	if len(words) > 0 {
		slices.Sort(f.keys)
	}
	f.hits = f.hits[:0]
	for i, key := range f.keys {
		if len(words) == 0 {
			f.hits = append(f.hits, int(f.left[i]))
		} else {
			f.hits = append(f.hits, int(key&math.MaxUint32))
		}
	}
	return f.hits
}

// rankKey orders hits: the higher score first, then the shorter name, then the
// order of the index.
func rankKey(score, length int, item int32) uint64 {
	const top = 1 << 20
	rank := uint64(top - min(max(score, 0), top))
	return rank<<44 | uint64(min(length, 1<<12-1))<<32 | uint64(uint32(item))
}

// Positions returns where query matches in text, a name as given to [NewIndex]
// when name is set and one of the other fields otherwise: offsets in runes,
// ascending. It is for highlights.
func Positions(query, text string, name bool) []int {
	var it item
	if name {
		it = prepare([]string{text})
	} else {
		it = prepare([]string{"", text})
	}
	var m matcher
	var at []int
	for _, w := range parse(query) {
		if w.not {
			continue
		}
		if name {
			if _, ok := m.name(&it, &w); ok {
				at = append(at, m.alignment(&it, &w)...)
			}
			continue
		}
		if from, _, ok := within(&it, &w); ok {
			hay := it.lower
			if w.cased {
				hay = it.others
			}
			start := utf8.RuneCountInString(hay[:from]) - 1 // the separator before the field
			for i := range w.runes {
				at = append(at, start+i)
			}
		}
	}
	slices.Sort(at)
	return slices.Compact(at)
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
