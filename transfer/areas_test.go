package transfer_test

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/transfer"
)

func TestAreasWithSmallGapsBecomeOne(t *testing.T) {
	t.Parallel()
	const far = transfer.MergeGap + 1
	l := transfer.NewAreas([]transfer.Area{{Offset: 0, Length: 10}, {Offset: 10 + transfer.MergeGap, Length: 5}, {Offset: 15 + transfer.MergeGap + far, Length: 7}})
	want := []transfer.Area{{Offset: 0, Length: 15 + transfer.MergeGap}, {Offset: 15 + transfer.MergeGap + far, Length: 7}}
	var got []transfer.Area
	for pos := int64(0); pos < l.Total(); pos += got[len(got)-1].Length {
		got = append(got, l.At(pos))
	}
	if !slices.Equal(got, want) || l.Total() != 22+transfer.MergeGap {
		t.Errorf("areas %v of %d bytes, want %v", got, l.Total(), want)
	}
}

func TestPlacesInADiskAndInItsPackedAreasAgree(t *testing.T) {
	t.Parallel()
	l := transfer.NewAreas([]transfer.Area{{Offset: 1 << 20, Length: 100}, {Offset: 2 << 20, Length: 200}, {Offset: 9 << 20, Length: 300}})
	for pos := range l.Total() {
		a := l.At(pos)
		if got := l.Packed(a.Offset); got != pos || a.Length < 1 {
			t.Fatalf("packed byte %d is at %+v, which is packed byte %d", pos, a, got)
		}
	}
	for off, want := range map[int64]int64{0: 0, 1<<20 + 100: 100, 3 << 20: 300, 9<<20 + 300: 600, 1 << 40: 600} {
		if got := l.Packed(off); got != want {
			t.Errorf("%d bytes lie before %d, want %d", got, off, want)
		}
	}
	if none := transfer.NewAreas(nil); none.Total() != 0 || none.Packed(5) != 0 {
		t.Errorf("a disk without areas: %+v", none)
	}
}

// bytesSource is a Source of bytes in memory.
type bytesSource []byte

func (s bytesSource) Probe(context.Context) (transfer.Info, error) {
	return transfer.Info{Size: int64(len(s)), Ranges: true}, nil
}

func (s bytesSource) Open(_ context.Context, off, n int64) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(s[off : off+n])), nil
}

func TestOneReaderTakesAllAreas(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	disk := make([]byte, 64<<20)
	var areas []transfer.Area
	var want []byte
	for off := int64(0); off < int64(len(disk))-(2<<20); off += transfer.MergeGap + 1 + r.Int64N(1<<20) {
		n := 1 + r.Int64N(900_000)
		for i := range n {
			disk[off+i] = byte(r.Uint32() | 1)
		}
		areas = append(areas, transfer.Area{Offset: off, Length: n})
		want = append(want, disk[off:off+n]...)
		off += n
	}
	packed := transfer.NewAreas(areas)
	s := packed.Source(bytesSource(disk), int64(len(disk)))
	for _, from := range []int64{0, 1, packed.Total() / 2, packed.Total() - 1} {
		in, err := transfer.NewReader(t.Context(), s, transfer.Info{Size: packed.Total(), Ranges: true}, transfer.Options{Workers: 3, ChunkSize: 1 << 20, Offset: from})
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(in)
		if err != nil || !bytes.Equal(got, want[from:]) {
			t.Errorf("from %d: %d bytes of %d, equal %v, %v", from, len(got), len(want)-int(from), bytes.Equal(got, want[from:]), err)
		}
		if err := in.Close(); err != nil {
			t.Error(err)
		}
	}
}
