package inflate_test

import (
	"bytes"
	"compress/flate"
	stdzlib "compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/adler32"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/disk/internal/inflate"
	kzlib "github.com/klauspost/compress/zlib"
)

const grain = 64 << 10

// samples are pieces of data of several kinds, by name.
func samples() map[string][]byte {
	rng := rand.New(rand.NewPCG(1, 2))
	random := make([]byte, grain)
	for i := range random {
		random[i] = byte(rng.Uint32())
	}
	words := []string{"boot", "lease ", "grain", "\x00\x00\x00\x00", "extent\n", "domain", "0123456789abcdef", "\xff"}
	var text bytes.Buffer
	for text.Len() < grain {
		text.WriteString(words[rng.IntN(len(words))])
		if rng.IntN(5) == 0 {
			text.WriteByte(byte(rng.Uint32()))
		}
	}
	skewed := make([]byte, grain)
	for i := range skewed {
		skewed[i] = byte(1 << rng.IntN(1+rng.IntN(8)) * rng.IntN(3))
	}
	mixed := append(append(append([]byte(nil), random[:20000]...), text.Bytes()[:30000]...), make([]byte, grain-50000)...)
	far := append(append([]byte(nil), random[:32768]...), random[:32768]...)
	return map[string][]byte{
		"nothing": nil, "one byte": {7}, "zeros": make([]byte, grain), "random": random,
		"text": text.Bytes()[:grain], "skewed": skewed, "mixed": mixed, "far matches": far,
		"period 3": bytes.Repeat([]byte("abc"), 21845), "period 9": bytes.Repeat([]byte("abcdefghi"), 7000),
		"short": []byte("a short piece of text, a short piece"),
	}
}

// compressions are zlib streams of p by all encoders and levels at hand.
func compressions(t testing.TB, p []byte) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for level := -2; level <= 9; level++ {
		var a, b bytes.Buffer
		w, err := stdzlib.NewWriterLevel(&a, level)
		if err != nil {
			t.Fatal(err)
		}
		k, err := kzlib.NewWriterLevel(&b, level)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range []io.WriteCloser{w, k} {
			if _, err := w.Write(p); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
		}
		out[fmt.Sprintf("std level %d", level)] = a.Bytes()
		out[fmt.Sprintf("klauspost level %d", level)] = b.Bytes()
	}
	return out
}

func TestZlibReturnsWhatWasCompressed(t *testing.T) {
	t.Parallel()
	var d inflate.Decoder
	dst := make([]byte, grain)
	for name, want := range samples() {
		for how, z := range compressions(t, want) {
			n, err := d.Zlib(dst, z)
			if err != nil || !bytes.Equal(dst[:n], want) {
				t.Errorf("%s, %s: %d bytes, error %v; want the %d bytes compressed", name, how, n, err, len(want))
			}
			if n, err = d.Zlib(dst, append(z[:len(z):len(z)], 1, 2, 3)); err != nil || n != len(want) {
				t.Errorf("%s, %s, with bytes behind it: %d bytes, error %v", name, how, n, err)
			}
		}
	}
}

func TestZlibRefusesEveryTruncation(t *testing.T) {
	t.Parallel()
	var d inflate.Decoder
	dst := make([]byte, grain)
	for name, p := range samples() {
		for how, z := range compressions(t, p[:min(len(p), 3000)]) {
			for n := range z {
				if _, err := d.Zlib(dst, z[:n]); err == nil {
					t.Fatalf("%s, %s: success with %d of %d bytes", name, how, n, len(z))
				}
			}
		}
	}
}

func TestZlibRefusesDataLongerThanTheBuffer(t *testing.T) {
	t.Parallel()
	var d inflate.Decoder
	for name, p := range samples() {
		for how, z := range compressions(t, p) {
			for _, short := range []int{1, 2, 300} {
				if len(p) < short {
					continue
				}
				if _, err := d.Zlib(make([]byte, len(p)-short), z); !errors.Is(err, inflate.ErrLong) {
					t.Errorf("%s, %s, buffer %d too short: error %v", name, how, short, err)
				}
			}
		}
	}
}

func TestZlibNoticesEveryFlippedBit(t *testing.T) {
	t.Parallel()
	var d inflate.Decoder
	want := samples()["text"][:2000]
	dst := make([]byte, grain)
	for how, z := range compressions(t, want) {
		for i := range len(z) * 8 {
			z[i/8] ^= 1 << (i % 8)
			n, err := d.Zlib(dst, z)
			if err == nil && !bytes.Equal(dst[:n], want) {
				t.Errorf("%s: other data and no error with bit %d flipped", how, i)
			}
			z[i/8] ^= 1 << (i % 8)
		}
	}
}

func TestZlibAllocatesNothing(t *testing.T) {
	var d inflate.Decoder
	z := compressions(t, samples()["mixed"])["std level 6"]
	dst := make([]byte, grain)
	if n := testing.AllocsPerRun(20, func() { _, _ = d.Zlib(dst, z) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzZlib holds the decoder against the standard library: where that succeeds,
// so must this, with the same data, and the other way round.
func FuzzZlib(f *testing.F) {
	for _, p := range samples() {
		for _, z := range compressions(f, p[:min(len(p), 2000)]) {
			f.Add(z[2 : len(z)-4])
		}
	}
	var d inflate.Decoder
	in, dst := newGuarded(f, 2<<20), newGuarded(f, grain).last(grain)
	f.Fuzz(func(t *testing.T, deflate []byte) {
		r := bytes.NewReader(deflate)
		standard := flate.NewReader(r)
		want, err := io.ReadAll(io.LimitReader(standard, grain+1))
		long := err == nil && len(want) > grain
		if long { // and whatever comes after it must not fail either
			_, err = io.Copy(io.Discard, io.LimitReader(standard, 16<<20))
		}
		z := append([]byte{0x78, 0x9c}, deflate[:len(deflate)-r.Len()]...)
		z = binary.BigEndian.AppendUint32(z, adler32.Checksum(want))
		if len(z) > len(in.mem) {
			t.Skip()
		}
		src := in.last(len(z))
		copy(src, z)
		n, got := zlib(t, &d, dst, src)
		switch {
		case err == nil && long:
			if !errors.Is(got, inflate.ErrLong) {
				t.Fatalf("error %v from data that is too long", got)
			}
		case (err == nil) != (got == nil):
			t.Fatalf("error %v, the standard library's is %v", got, err)
		case err == nil && !bytes.Equal(dst[:n], want):
			t.Fatal("data differs from the standard library's")
		}
	})
}

func BenchmarkZlib(b *testing.B) {
	for _, name := range []string{"text", "mixed", "skewed", "random"} {
		p := samples()[name]
		z := compressions(b, p)["std level 6"]
		dst := make([]byte, grain)
		b.Run(name+"/ours", func(b *testing.B) {
			b.SetBytes(int64(len(p)))
			b.ReportAllocs()
			var d inflate.Decoder
			for b.Loop() {
				if _, err := d.Zlib(dst, z); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/klauspost", func(b *testing.B) {
			b.SetBytes(int64(len(p)))
			b.ReportAllocs()
			src := bytes.NewReader(z)
			r, err := kzlib.NewReader(src)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				src.Reset(z)
				if err := r.(kzlib.Resetter).Reset(src, nil); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(r, dst[:len(p)]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
