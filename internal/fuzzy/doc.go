// Package fuzzy finds items by words that stand in any of their fields, and
// ranks them as people who use fzf expect.
//
// A query is words apart by spaces; an item matches when every word does, in
// any order and in any field. In the first field, the name, a word's letters
// may be spread: over one part of the name (prd finds prod), and on to the
// beginnings of other parts (prdb finds prod-db). What fzf finds beyond that,
// such as db in prod-web, is noise that one would not want to select along. The
// digits of a number are not spread, but need not be its first. In the other fields, where almost any few
// letters are found somewhere, a word must stand as it is.
//
// Accents make no difference, however they are encoded: zurich finds Zürich, and
// zürich finds zurich. A word with an upper-case letter is matched by case, any
// other is not. As in fzf, 'word switches spreading off, ^word wants the beginning
// of a field, word$ its end, !word excludes, and of words with | between them one
// must match: prod web | db is what has prod, and web or db.
//
// A word that stands in an item as it is counts more than one whose letters are
// spread, and in the name it counts most. There the score is that of the best place:
// a word at the beginning of a part of the name counts more, and so does one that is
// the whole part. Of spread letters the best alignment counts, gaps make it less.
// Among equals the shorter name comes first where the name was searched for, then
// the order of the items.
//
// [Finder] keeps what the query before has left, so that typing one more letter
// looks only at that.
//
// Not promised: that scores mean anything beyond one query.
package fuzzy
