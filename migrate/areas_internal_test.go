package migrate

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/transfer"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

func TestAreasWithSmallGapsBecomeOne(t *testing.T) {
	t.Parallel()
	const far = mergeGap + 1
	l := newLayout([]vsphere.Area{{Offset: 0, Length: 10}, {Offset: 10 + mergeGap, Length: 5}, {Offset: 15 + mergeGap + far, Length: 7}})
	want := []vsphere.Area{{Offset: 0, Length: 15 + mergeGap}, {Offset: 15 + mergeGap + far, Length: 7}}
	if !slices.Equal(l.areas, want) || l.total != 22+mergeGap {
		t.Errorf("areas %v of %d bytes, want %v", l.areas, l.total, want)
	}
}

func TestPlacesInADiskAndInItsPackedAreasAgree(t *testing.T) {
	t.Parallel()
	l := newLayout([]vsphere.Area{{Offset: 1 << 20, Length: 100}, {Offset: 2 << 20, Length: 200}, {Offset: 9 << 20, Length: 300}})
	for pos := range l.total {
		a := l.at(pos)
		if got := l.packed(a.Offset); got != pos || a.Length < 1 {
			t.Fatalf("packed byte %d is at %+v, which is packed byte %d", pos, a, got)
		}
	}
	for off, want := range map[int64]int64{0: 0, 1<<20 + 100: 100, 3 << 20: 300, 9<<20 + 300: 600, 1 << 40: 600} {
		if got := l.packed(off); got != want {
			t.Errorf("%d bytes lie before %d, want %d", got, off, want)
		}
	}
	if none := newLayout(nil); none.total != 0 || none.packed(5) != 0 {
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
	var areas []vsphere.Area
	var want []byte
	for off := int64(0); off < int64(len(disk))-(2<<20); off += mergeGap + 1 + r.Int64N(1<<20) {
		n := 1 + r.Int64N(900_000)
		for i := range n {
			disk[off+i] = byte(r.Uint32() | 1)
		}
		areas = append(areas, vsphere.Area{Offset: off, Length: n})
		want = append(want, disk[off:off+n]...)
		off += n
	}
	s := areaSource{layout: newLayout(areas), base: bytesSource(disk), size: int64(len(disk))}
	for _, from := range []int64{0, 1, s.total / 2, s.total - 1} {
		in, err := transfer.NewReader(t.Context(), s, transfer.Info{Size: s.total, Ranges: true}, transfer.Options{Workers: 3, ChunkSize: 1 << 20, Offset: from})
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

// writes remembers where something was written.
type writes struct {
	disk []byte
	at   []vsphere.Area
}

func (w *writes) WriteAt(p []byte, off int64) (int, error) {
	w.at = append(w.at, vsphere.Area{Offset: off, Length: int64(len(p))})
	return copy(w.disk[off:], p), nil
}

func TestBlocksOfZerosAreNotWritten(t *testing.T) {
	t.Parallel()
	const k = zeroBlock
	p := make([]byte, 5*k)
	p[0], p[3*k+1], p[4*k] = 1, 1, 1
	for _, off := range []int64{0, k, k - 512} {
		w := &writes{disk: make([]byte, 8*k)}
		if err := writeData(w, p, off); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(w.disk[off:off+int64(len(p))], p) {
			t.Errorf("at %d: the disk differs", off)
		}
		if off%k == 0 && !slices.Equal(w.at, []vsphere.Area{{Offset: off, Length: k}, {Offset: off + 3*k, Length: 2 * k}}) {
			t.Errorf("at %d: written were %v", off, w.at)
		}
	}
}
