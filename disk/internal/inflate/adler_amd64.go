//go:build !purego

package inflate

// Pieces of vectorAdler: what one instruction takes, and the most whose
// weighted sum fits 32 bits.
const (
	vector    = 32
	mostAdler = 5536
)

// adlerSums returns the sum of the n bytes at p, and that of n times the first,
// n-1 times the second, and so on. n is a multiple of 32, at most 5536, and not
// 0. The processor must have AVX2.
//
//go:noescape
func adlerSums(p *byte, n int) (sum, weighted uint32)

// adler32sum is the checksum of RFC 1950.
func adler32sum(p []byte) uint32 {
	if inUse().adler {
		return vectorAdler(p)
	}
	return wordAdler(p)
}

func vectorAdler(p []byte) uint32 {
	b, a := uint64(1), uint64(0)
	for len(p) >= vector {
		n := min(len(p)/vector*vector, mostAdler)
		sum, weighted := adlerSums(&p[0], n)
		a = (a + uint64(n)*b + uint64(weighted)) % adlerMod
		b = (b + uint64(sum)) % adlerMod
		p = p[n:]
	}
	return byteAdler(b, a, p)
}
