package inflate

import (
	"hash/adler32"
	"math/rand/v2"
	"testing"
)

func TestAdler32IsThatOfTheStandardLibrary(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 4))
	random, ones := make([]byte, 70000), make([]byte, 70000)
	for i := range random {
		random[i], ones[i] = byte(rng.Uint32()), 0xff
	}
	for n := 0; n <= len(random); n += 1 + n/50 {
		for _, p := range [][]byte{random[:n], ones[:n], random[len(random)-n:]} {
			want := adler32.Checksum(p)
			if got, words := adler32sum(p), wordAdler(p); got != want || words != want {
				t.Fatalf("%d bytes: %#x, by words %#x, want %#x", n, got, words, want)
			}
		}
	}
}

func BenchmarkAdler32(b *testing.B) {
	p := make([]byte, 64<<10)
	b.Run("ours", func(b *testing.B) {
		b.SetBytes(int64(len(p)))
		for b.Loop() {
			adler32sum(p)
		}
	})
	b.Run("words", func(b *testing.B) {
		b.SetBytes(int64(len(p)))
		for b.Loop() {
			wordAdler(p)
		}
	})
	b.Run("standard", func(b *testing.B) {
		b.SetBytes(int64(len(p)))
		for b.Loop() {
			adler32.Checksum(p)
		}
	})
}
