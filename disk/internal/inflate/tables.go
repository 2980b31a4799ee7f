package inflate

import (
	"math/bits"
	"sync"
)

// Sizes of the tables: the largest that complete codes can need is 2342 for
// literals with 11 bits, and 402 for distances with 8. Powers of two let an
// index be masked.
const (
	litBits  = 11
	litSize  = 1 << 12
	distBits = 8
	distSize = 1 << 9
	preBits  = 7
	preSize  = 1 << preBits

	maxLit  = 288
	maxDist = 32
	maxPre  = 19
	maxCode = 15
)

// An entry of a table:
//
//	bits 0-5    how many bits of input the symbol takes, extra bits included
//	bits 8-11   how many of them are the code; of a link, the index bits of the second table
//	bits 16-30  the lowest length or distance, or where the second table begins
//
// An entry of literals has one, or two whose codes fit the index together:
//
//	bits 0-5    how many bits of input both take
//	bits 8-15   the first
//	bits 16-23  the second
//	bit  24     there is a second
//	bits 25-28  how many bits of input the first takes
const (
	isLiteral = 1 << 31
	second    = 1 << 24
	isSpecial = 1 << 15 // end of block, link, or no symbol
	isLink    = 1 << 14
	isEnd     = 1 << 13
)

var (
	lengthBase = [29]uint16{
		3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31,
		35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258,
	}
	lengthExtra = [29]uint8{
		0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2,
		3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0,
	}
	distBase = [30]uint16{
		1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193,
		257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577,
	}
	distExtra = [30]uint8{
		0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6,
		7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13,
	}
	preOrder = [maxPre]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}
)

func litEntry(sym int, code uint32) uint32 {
	switch {
	case sym < 256:
		return isLiteral | code<<25 | uint32(sym)<<8 | code
	case sym == 256:
		return isSpecial | isEnd | code
	case sym < 257+len(lengthBase):
		return uint32(lengthBase[sym-257])<<16 | code<<8 | (code + uint32(lengthExtra[sym-257]))
	}
	return isSpecial | code
}

func distEntry(sym int, code uint32) uint32 {
	if sym < len(distBase) {
		return uint32(distBase[sym])<<16 | code<<8 | (code + uint32(distExtra[sym]))
	}
	return isSpecial | code
}

func preEntry(sym int, code uint32) uint32 { return uint32(sym)<<16 | code }

// build makes the table of a canonical code from its code lengths. A code must
// be complete, except that one with a single symbol of one bit, or (for
// distances) with none, may stand.
func (d *Decoder) build(table []uint32, root uint, lens []uint8, entry func(int, uint32) uint32, emptyOK bool) error {
	var count, next [maxCode + 1]int
	for _, l := range lens {
		count[l]++
	}
	left := 1
	longest := 0
	for l := 1; l <= maxCode; l++ {
		next[l] = next[l-1]
		if l > 1 {
			next[l] += count[l-1]
		}
		left = left<<1 - count[l]
		if left < 0 {
			return ErrData
		}
		if count[l] > 0 {
			longest = l
		}
	}
	total := len(lens) - count[0]
	switch {
	case total == 0 && emptyOK, total == 1 && longest == 1:
	case left > 0:
		return ErrData
	}
	for sym, l := range lens {
		if l > 0 {
			d.sorted[next[l]] = uint16(sym)
			next[l]++
		}
	}
	d.place(table, root, d.sorted[:total], lens, count, entry)
	return nil
}

// place fills the table with the symbols in the order of their codes. What no
// code leads to is isSpecial.
func (d *Decoder) place(table []uint32, root uint, sorted []uint16, lens []uint8, count [maxCode + 1]int, entry func(int, uint32) uint32) {
	code := uint32(0) // next code, highest bit first
	table[0] = isSpecial
	for l := uint(1); l <= root; l++ {
		// One more bit of index, which means nothing to shorter codes.
		copy(table[1<<(l-1):1<<l], table[:1<<(l-1)])
		code <<= 1
		for _, s := range sorted[:count[l]] {
			table[bits.Reverse32(code)>>(32-l)] = entry(int(s), uint32(l))
			code++
		}
		sorted = sorted[count[l]:]
	}
	d.placeLong(table, root, sorted, lens, count, code, entry)
}

// placeLong makes the second tables, for codes longer than root bits. code is
// the first of them, at root bits.
func (d *Decoder) placeLong(table []uint32, root uint, sorted []uint16, lens []uint8, count [maxCode + 1]int, code uint32, entry func(int, uint32) uint32) {
	last := root      // length of code
	free := 1 << root // where the next second table begins
	prefix := -1      // the second table's first bits
	var sub, subBits uint
	for _, s := range sorted {
		l := uint(lens[s])
		code <<= l - last
		last = l
		rev := uint(bits.Reverse32(code) >> (32 - l))
		if p := int(rev & (1<<root - 1)); p != prefix {
			prefix = p
			sub = uint(free)
			subBits = l - root
			for room := 1<<subBits - count[l]; room > 0 && subBits+root < maxCode; {
				subBits++
				room = room<<1 - count[subBits+root]
			}
			free += 1 << subBits
			table[p] = isSpecial | isLink | uint32(sub)<<16 | uint32(subBits)<<8
		}
		e := entry(int(s), uint32(l-root))
		for i := rev >> root; i < 1<<subBits; i += 1 << (l - root) {
			table[sub+i] = e
		}
		count[l]--
		code++
	}
}

// pair puts literals together whose codes fit the index of the first table one
// after the other, so that one look finds both.
func pair(table *[litSize]uint32) {
	for i := 1<<litBits - 1; i >= 0; i-- { // what is looked up is not paired yet
		e := table[i]
		if e&isLiteral == 0 {
			continue
		}
		code := e & 63
		next := table[uint32(i)>>code]
		if next&isLiteral != 0 && code+next&63 <= litBits {
			table[i] = e + next&63 | second | next&0xff00<<8
		}
	}
}

// fixed has the tables of RFC 1951, section 3.2.6.
var fixed = sync.OnceValue(func() *tables {
	d := new(Decoder)
	for i := range maxLit {
		switch {
		case i < 144:
			d.lens[i] = 8
		case i < 256:
			d.lens[i] = 9
		case i < 280:
			d.lens[i] = 7
		default:
			d.lens[i] = 8
		}
	}
	for i := range maxDist {
		d.lens[maxLit+i] = 5
	}
	// Both codes are complete.
	_ = d.build(d.own.lit[:], litBits, d.lens[:maxLit], litEntry, false)
	_ = d.build(d.own.dist[:], distBits, d.lens[maxLit:], distEntry, false)
	pair(&d.own.lit)
	return &d.own
})

// readTables reads the code lengths of a dynamic block (section 3.2.7).
func (d *Decoder) readTables() error {
	if err := d.need(14); err != nil {
		return err
	}
	nlit, ndist, npre := int(d.take(5))+257, int(d.take(5))+1, int(d.take(4))+4
	if nlit > 286 || ndist > 30 {
		return ErrData
	}
	var pre [maxPre]uint8
	for _, i := range preOrder[:npre] {
		if err := d.need(3); err != nil {
			return err
		}
		pre[i] = uint8(d.take(3))
	}
	if err := d.build(d.pre[:], preBits, pre[:], preEntry, false); err != nil {
		return err
	}
	if err := d.readLengths(d.lens[:nlit+ndist]); err != nil {
		return err
	}
	if d.lens[256] == 0 {
		return ErrData // a block without an end
	}
	if err := d.build(d.own.dist[:], distBits, d.lens[nlit:nlit+ndist], distEntry, true); err != nil {
		return err
	}
	if err := d.build(d.own.lit[:], litBits, d.lens[:nlit], litEntry, false); err != nil {
		return err
	}
	pair(&d.own.lit)
	return nil
}

// readLengths reads the run-length coded code lengths.
func (d *Decoder) readLengths(lens []uint8) error {
	for i := 0; i < len(lens); {
		for d.n < 14 && d.pos < len(d.src) {
			d.buf |= uint64(d.src[d.pos]) << d.n
			d.pos++
			d.n += 8
		}
		e := d.pre[d.buf&(preSize-1)]
		sym, code := e>>16&31, uint(e&63)
		if e&isSpecial != 0 {
			return ErrData
		}
		value, n, extra := uint8(sym), 1, uint(0)
		switch sym {
		case 16:
			if i == 0 {
				return ErrData
			}
			value, n, extra = lens[i-1], 3, 2
		case 17:
			value, n, extra = 0, 3, 3
		case 18:
			value, n, extra = 0, 11, 7
		}
		if d.n < code+extra {
			return ErrShort
		}
		d.take(code)
		n += int(d.take(extra))
		if n > len(lens)-i {
			return ErrData
		}
		for range n {
			lens[i] = value
			i++
		}
	}
	return nil
}
