//go:build !purego

package inflate

// loop is the state of loopBMI2.
type loop struct {
	src     *byte
	pos     int // next byte of src
	lastIn  int // no round begins after it
	dst     *byte
	out     int // next byte of dst
	lastOut int // no round begins after it
	buf     uint64
	n       uint64
	lit     *[litSize]uint32
	dist    *[distSize]uint32
}

// What loopBMI2 ends with.
const (
	loopLittle = iota // little input or output is left
	loopEnd           // the block has ended
	loopBad           // the data is invalid
)

// A round of loopBMI2 advances in src by at most 14 bytes before it reads 8, and
// writes at most 4 bytes of literals, a match, and less than 32 bytes more.
const (
	roundIn  = 24
	roundOut = maxMatch + 40
)

// loopBMI2 is [Decoder.loop] in instructions that Go's compiler does not use
// without being told that every processor has them. It reads 24 bytes from
// lastIn and writes 298 from lastOut at most, whatever the data.
//
//go:noescape
func loopBMI2(l *loop) int

// fast decompresses most of a block by the tables; see [Decoder.loop].
func (d *Decoder) fast(dst []byte, out int, t *tables) (_ int, ended bool, err error) {
	if !inUse().loop {
		return d.loop(dst, out, t)
	}
	if len(d.src) < roundIn || len(dst) < roundOut {
		return out, false, nil
	}
	l := loop{
		src: &d.src[0], pos: d.pos, lastIn: len(d.src) - roundIn,
		dst: &dst[0], out: out, lastOut: len(dst) - roundOut,
		buf: d.buf, n: uint64(d.n), lit: &t.lit, dist: &t.dist,
	}
	how := loopBMI2(&l)
	d.pos, d.buf, d.n = l.pos, l.buf, uint(l.n)
	if how == loopBad {
		err = ErrData
	}
	return l.out, how == loopEnd, err
}
