// Package inflate decompresses zlib streams (RFC 1950, RFC 1951) that are whole
// in memory into a buffer that is large enough. That is all a disk grain needs,
// and it allows what a streaming decompressor cannot do: no window, no copy out
// of it, eight input bytes at a time, and matches copied in words.
//
// Symbols are looked up in a table by the next bits of input, 11 for literals
// and lengths and 8 for distances; a longer code leads to a second table, and two
// literals that fit the 11 bits are found with one look. The main loop runs while
// enough input and output is left for its longest round, and checks nothing else;
// the last symbols go through a careful one.
//
// On amd64 the main loop and Adler-32 are in assembly where the processor has the
// instructions; [Switch] turns that off.
package inflate

import (
	"encoding/binary"
	"errors"
)

// Errors of a Decoder.
var (
	ErrHeader   = errors.New("invalid zlib header")
	ErrData     = errors.New("invalid deflate data")
	ErrShort    = errors.New("compressed data ends early")
	ErrLong     = errors.New("data is longer than expected")
	ErrChecksum = errors.New("Adler-32 checksum does not match")
)

// maxMatch is the length of the longest match, and slack what literals
// before it and copying in words may write beyond it.
const (
	maxMatch = 258
	slack    = 32
)

// zlibHead is the length of a zlib stream's header in bytes.
const zlibHead = 2

// tables are those of a block.
type tables struct {
	lit  [litSize]uint32
	dist [distSize]uint32
}

// Decoder holds the tables. The zero value is ready; it is for one goroutine.
type Decoder struct {
	own    tables // of the last dynamic block
	pre    [preSize]uint32
	lens   [maxLit + maxDist]uint8
	sorted [maxLit]uint16

	src []byte
	pos int    // next byte of src
	buf uint64 // the next bits, lowest first
	n   uint   // how many of them count
}

// Zlib decompresses the zlib stream at the start of src into dst and returns
// its length in bytes. Bytes of dst behind it may be changed. What follows the
// stream in src is ignored.
func (d *Decoder) Zlib(dst, src []byte) (int, error) {
	if err := CheckHeader(src); err != nil {
		return 0, err
	}
	n, used, err := d.Deflate(dst, src[zlibHead:])
	if err != nil {
		return n, err
	}
	return n, CheckAdler(dst[:n], src[zlibHead+used:])
}

// Deflate decompresses the raw deflate data at the start of src into dst. It
// returns the length in bytes of the result, and how many bytes of src it is made
// of. Bytes of dst behind the result may be changed. What follows in src is
// ignored.
func (d *Decoder) Deflate(dst, src []byte) (n, used int, err error) {
	d.src, d.pos, d.buf, d.n = src, 0, 0, 0
	defer func() { d.src = nil }()
	n, err = d.blocks(dst)
	if err != nil {
		return n, 0, err
	}
	d.align()
	return n, d.pos, nil
}

// CheckAdler compares p with its Adler-32 at the start of tail, as it stands
// behind the deflate data of a zlib stream.
func CheckAdler(p, tail []byte) error {
	if len(tail) < 4 {
		return ErrShort
	}
	if binary.BigEndian.Uint32(tail) != adler32sum(p) {
		return ErrChecksum
	}
	return nil
}

// CheckHeader tells whether src begins like a zlib stream without a preset
// dictionary.
func CheckHeader(src []byte) error {
	switch {
	case len(src) < 2:
		return ErrShort
	case src[0]&15 != 8 || src[0]>>4 > 7 || binary.BigEndian.Uint16(src)%31 != 0 || src[1]&0x20 != 0:
		return ErrHeader
	}
	return nil
}

// need makes at least k bits available, k at most 56.
func (d *Decoder) need(k uint) error {
	for d.n < k {
		if d.pos >= len(d.src) {
			return ErrShort
		}
		d.buf |= uint64(d.src[d.pos]) << d.n
		d.pos++
		d.n += 8
	}
	return nil
}

// take returns the next k bits, which are available.
func (d *Decoder) take(k uint) uint {
	v := uint(d.buf & (1<<k - 1))
	d.buf >>= k
	d.n -= k
	return v
}

// align drops the rest of the current byte and gives whole bytes back.
func (d *Decoder) align() {
	d.pos -= int(d.n / 8)
	d.buf, d.n = 0, 0
}

// blocks decompresses blocks up to the final one.
func (d *Decoder) blocks(dst []byte) (int, error) {
	out := 0
	for {
		if err := d.need(3); err != nil {
			return out, err
		}
		final := d.take(1) == 1
		var err error
		switch d.take(2) {
		case 0:
			out, err = d.stored(dst, out)
		case 1:
			out, err = d.compressed(dst, out, fixed())
		case 2:
			if err = d.readTables(); err == nil {
				out, err = d.compressed(dst, out, &d.own)
			}
		default:
			err = ErrData
		}
		if err != nil || final {
			return out, err
		}
	}
}

// stored copies a block that is not compressed.
func (d *Decoder) stored(dst []byte, out int) (int, error) {
	d.align()
	if len(d.src)-d.pos < 4 {
		return out, ErrShort
	}
	n := int(binary.LittleEndian.Uint16(d.src[d.pos:]))
	if n != int(^binary.LittleEndian.Uint16(d.src[d.pos+2:])) {
		return out, ErrData
	}
	d.pos += 4
	switch {
	case len(d.src)-d.pos < n:
		return out, ErrShort
	case len(dst)-out < n:
		return out, ErrLong
	}
	copy(dst[out:], d.src[d.pos:d.pos+n])
	d.pos += n
	return out + n, nil
}

// compressed decompresses a block by the tables.
func (d *Decoder) compressed(dst []byte, out int, t *tables) (int, error) {
	out, ended, err := d.fast(dst, out, t)
	if err != nil || ended {
		return out, err
	}
	return d.careful(dst, out, t)
}

// loop is the main loop. It stops at the end of the block (ended) or when
// little input or output is left.
func (d *Decoder) loop(dst []byte, out int, t *tables) (_ int, ended bool, err error) {
	var (
		src     = d.src
		pos     = d.pos
		buf     = d.buf
		n       = d.n
		lit     = &t.lit
		dist    = &t.dist
		lastIn  = len(src) - 16
		lastOut = len(dst) - (maxMatch + slack)
	)
	for pos <= lastIn && out <= lastOut {
		// At least 56 bits after this.
		buf |= binary.LittleEndian.Uint64(src[pos:]) << (n & 63)
		pos += int((63 - n) >> 3)
		n |= 56

		// Up to three entries of literals, of at most 11 bits each. Two are
		// written for each, whether there are two or not.
		e := lit[buf&(1<<litBits-1)]
		if e&isLiteral != 0 {
			buf >>= e & 63
			n -= uint(e & 63)
			binary.LittleEndian.PutUint16(dst[out:], uint16(e>>8))
			out += 1 + int(e>>24&1)
			e = lit[buf&(1<<litBits-1)]
			if e&isLiteral != 0 {
				buf >>= e & 63
				n -= uint(e & 63)
				binary.LittleEndian.PutUint16(dst[out:], uint16(e>>8))
				out += 1 + int(e>>24&1)
				e = lit[buf&(1<<litBits-1)]
				if e&isLiteral != 0 {
					buf >>= e & 63
					n -= uint(e & 63)
					binary.LittleEndian.PutUint16(dst[out:], uint16(e>>8))
					out += 1 + int(e>>24&1)
					continue
				}
			}
		}
		if e&isSpecial != 0 {
			if e&isLink != 0 {
				buf >>= litBits
				n -= litBits
				e = lit[(uint64(e>>16)+buf&(1<<(e>>8&15)-1))&(litSize-1)]
				if e&isLiteral != 0 {
					buf >>= e & 63
					n -= uint(e & 63)
					dst[out] = byte(e >> 8)
					out++
					continue
				}
			}
			if e&isSpecial != 0 {
				if e&isEnd == 0 {
					err = ErrData
					break
				}
				buf >>= e & 63
				n -= uint(e & 63)
				ended = true
				break
			}
		}
		length := int(e>>16) + int(buf&(1<<(e&63)-1)>>(e>>8&15))
		buf >>= e & 63
		n -= uint(e & 63)

		if n < maxCode+13 { // a distance takes no more
			buf |= binary.LittleEndian.Uint64(src[pos:]) << (n & 63)
			pos += int((63 - n) >> 3)
			n |= 56
		}

		e = dist[buf&(1<<distBits-1)]
		if e&isSpecial != 0 {
			if e&isLink != 0 {
				buf >>= distBits
				n -= distBits
				e = dist[(uint64(e>>16)+buf&(1<<(e>>8&15)-1))&(distSize-1)]
			}
			if e&isSpecial != 0 {
				err = ErrData
				break
			}
		}
		back := int(e>>16) + int(buf&(1<<(e&63)-1)>>(e>>8&15))
		buf >>= e & 63
		n -= uint(e & 63)
		if back > out {
			err = ErrData
			break
		}
		if back < 16 {
			copyNear(dst, out, back, length)
			out += length
			continue
		}
		for from, end := out-back, out+length; ; from += 16 {
			s, t := dst[from:from+16], dst[out:out+16]
			a, b := binary.LittleEndian.Uint64(s), binary.LittleEndian.Uint64(s[8:])
			binary.LittleEndian.PutUint64(t, a)
			binary.LittleEndian.PutUint64(t[8:], b)
			if out += 16; out >= end {
				out = end
				break
			}
		}
	}
	d.pos, d.buf, d.n = pos, buf, n
	return out, ended, err
}

// copyNear copies length bytes from back bytes before out to out; back is less
// than 16. It may write up to slack bytes more.
func copyNear(dst []byte, out, back, length int) {
	from := out - back
	end := out + length
	switch {
	case back >= 8:
		for {
			binary.LittleEndian.PutUint64(dst[out:], binary.LittleEndian.Uint64(dst[from:]))
			if out += 8; out >= end {
				return
			}
			from += 8
		}
	case back == 1:
		v := uint64(dst[from]) * 0x0101010101010101
		for ; out < end; out += 8 {
			binary.LittleEndian.PutUint64(dst[out:], v)
		}
	default:
		for ; out < end; out, from = out+1, from+1 {
			dst[out] = dst[from]
		}
	}
}

// careful decompresses symbol by symbol to the end of the block.
func (d *Decoder) careful(dst []byte, out int, t *tables) (int, error) {
	for {
		e, err := d.symbol(t.lit[:], litBits)
		if err != nil {
			return out, err
		}
		if e&isLiteral != 0 {
			if out >= len(dst) {
				return out, ErrLong
			}
			dst[out] = byte(e >> 8)
			out++
			continue
		}
		if e&isEnd != 0 {
			return out, nil
		}
		length, err := d.value(e)
		if err != nil {
			return out, err
		}
		if e, err = d.symbol(t.dist[:], distBits); err != nil {
			return out, err
		}
		back, err := d.value(e)
		if err != nil {
			return out, err
		}
		switch {
		case back > out:
			return out, ErrData
		case length > len(dst)-out:
			return out, ErrLong
		}
		for end := out + length; out < end; out++ {
			dst[out] = dst[out-back]
		}
	}
}

// symbol looks the next symbol up. It consumes the code of a literal or end,
// and the link to a second table; the rest of another symbol is left to value.
func (d *Decoder) symbol(table []uint32, root uint) (uint32, error) {
	for d.n < 48 && d.pos < len(d.src) {
		d.buf |= uint64(d.src[d.pos]) << d.n
		d.pos++
		d.n += 8
	}
	e := table[d.buf&(1<<root-1)]
	if e&(isLiteral|isLink) == isLink {
		if d.n < root {
			return 0, ErrShort
		}
		d.take(root)
		e = table[uint64(e>>16)+d.buf&(1<<(e>>8&15)-1)]
	}
	bits := uint(e & 63)
	switch {
	case e&isLiteral != 0:
		bits = uint(e >> 25 & 15) // one at a time
	case e&(isSpecial|isEnd) == isSpecial:
		if d.pos == len(d.src) && d.n < root {
			return 0, ErrShort
		}
		return 0, ErrData
	}
	switch {
	case bits > d.n:
		return 0, ErrShort
	case e&(isLiteral|isEnd) != 0:
		d.take(bits)
	}
	return e, nil
}

// value returns the length or distance of a symbol.
func (d *Decoder) value(e uint32) (int, error) {
	bits := uint(e & 63)
	if d.n < bits {
		return 0, ErrShort
	}
	v := d.take(bits)
	return int(e>>16) + int(v>>(e>>8&15)), nil
}
