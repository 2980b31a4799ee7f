package inflate

import "encoding/binary"

// adlerMod is the largest prime below 2^16.
const adlerMod = 65521

// adlerWords is how many words of 8 bytes are summed before the sums are
// folded: 22*21/2*255 still fits 16 bits.
const adlerWords = 22

// wordAdler is the checksum of RFC 1950: b sums all bytes, plus one, and a sums b
// after every byte. It goes through p in words of 8 bytes, whose even and odd
// bytes are added up in four lanes of 16 bits each.
func wordAdler(p []byte) uint32 {
	const lanes = 0x00ff00ff00ff00ff
	b, a := uint64(1), uint64(0)
	for len(p) >= 8*adlerWords {
		// Of the words so far, even and odd are the sums by place; earlier is
		// the sum of both over the words: how often a later word counts each.
		var even, odd, earlierEven, earlierOdd uint64
		q := p[:8*adlerWords]
		for i := 0; i+8 <= len(q); i += 8 {
			w := binary.LittleEndian.Uint64(q[i:])
			earlierEven += even
			earlierOdd += odd
			even += w & lanes
			odd += w >> 8 & lanes
		}
		a += b * 8 * adlerWords
		a += 8 * (sumLanes(earlierEven) + sumLanes(earlierOdd))
		a += weigh(even, 8) + weigh(odd, 7)
		b += sumLanes(even) + sumLanes(odd)
		b, a = b%adlerMod, a%adlerMod
		p = p[len(q):]
	}
	return byteAdler(b, a, p)
}

// byteAdler goes on with a few bytes and returns the checksum.
func byteAdler(b, a uint64, p []byte) uint32 {
	for _, c := range p {
		b += uint64(c)
		a += b
	}
	return uint32(a%adlerMod<<16 | b%adlerMod)
}

// sumLanes adds the four lanes of v.
func sumLanes(v uint64) uint64 {
	return v&0xffff + v>>16&0xffff + v>>32&0xffff + v>>48
}

// weigh adds the four lanes of v, the first of them first times, each further
// one two times less.
func weigh(v, first uint64) uint64 {
	return v&0xffff*first + v>>16&0xffff*(first-2) + v>>32&0xffff*(first-4) + v>>48*(first-6)
}
