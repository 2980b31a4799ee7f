package inflate_test

import (
	"math/rand/v2"
	"runtime/debug"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/disk/internal/inflate"
)

// guarded is memory between pages that must not be touched, where [newGuarded]
// can make such.
type guarded struct{ mem []byte }

// first and last return n bytes next to the page before and behind.
func (g guarded) first(n int) []byte { return g.mem[:n:n] }
func (g guarded) last(n int) []byte  { return g.mem[len(g.mem)-n:] }

// zlib decompresses with an error of the test when anything outside of the
// buffers is touched.
func zlib(t testing.TB, d *inflate.Decoder, dst, src []byte) (n int, err error) {
	t.Helper()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			t.Fatalf("%d bytes into %d: %v", len(src), len(dst), p)
		}
	}()
	return d.Zlib(dst, src)
}

func TestZlibKeepsToItsBuffers(t *testing.T) {
	t.Parallel()
	var d inflate.Decoder
	in, out := newGuarded(t, 2*grain), newGuarded(t, grain)
	rng := rand.New(rand.NewPCG(5, 6))
	for name, p := range samples() {
		for how, z := range compressions(t, p) {
			src := in.last(len(z))
			for damage := range 8 {
				copy(src, z)
				for range damage {
					src[rng.IntN(len(src))] ^= 1 << rng.IntN(8)
				}
				for _, dst := range [][]byte{out.first(len(p)), out.last(len(p)), out.last(len(p) / 2)} {
					n, err := zlib(t, &d, dst, src)
					if damage == 0 && len(dst) == len(p) && (err != nil || n != len(p)) {
						t.Errorf("%s, %s: %d bytes, error %v", name, how, n, err)
					}
				}
			}
		}
	}
}
