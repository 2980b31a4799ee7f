package disk_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/disk/disktest"
	"github.com/hyper2kvm/hyper2kvm/disk/internal/testvmdk"
	"github.com/hyper2kvm/hyper2kvm/disk/vmdk"
)

// smallDisk spans two grain tables of 4 KiB grains and has holes.
func smallDisk() ([]byte, testvmdk.Options) {
	p := make([]byte, 2*mib+700*512)
	for _, off := range []int{0, 4096, 9 * 4096, mib, 2*mib - 4096, 2 * mib, len(p) - 512} {
		copy(p[off:], "some data in this grain")
	}
	return p, testvmdk.Options{GrainSize: 4 * kib, Compact: true}
}

// smallStreams are a small disk's content and its stream in each layout.
func smallStreams(t testing.TB) (map[vmdk.Layout][]byte, map[vmdk.Layout][]byte) {
	t.Helper()
	tail, o := smallDisk()
	front := make([]byte, 3*grain+3*512)
	for _, g := range []int{0, 3} {
		copy(front[g*grain:], "some data in this grain")
	}
	rawPath := filepath.Join(t.TempDir(), "source.raw")
	disktest.WriteRaw(t, rawPath, front)
	return map[vmdk.Layout][]byte{vmdk.LayoutTail: tail, vmdk.LayoutFront: front},
		map[vmdk.Layout][]byte{
			vmdk.LayoutTail:  disktest.TailLayout(tail, o),
			vmdk.LayoutFront: compactFront(disktest.ReadFile(t, frontLayout(t, rawPath))),
		}
}

func TestTruncationAtEveryByteIsNoticed(t *testing.T) {
	t.Parallel()
	wants, streams := smallStreams(t)
	for layout, stream := range streams {
		t.Run(string(layout), func(t *testing.T) {
			t.Parallel()
			want := wants[layout]
			got := make(memory, len(want))
			for n := range stream {
				_, err := disk.DecodeStream(context.Background(), bytes.NewReader(stream[:n]), nil, disk.Options{})
				if !errors.Is(err, disk.ErrTruncated) {
					t.Fatalf("cut at byte %d of %d, structure only: error %v", n, len(stream), err)
				}
				if n%256 != 0 { // with the data too, but not for all
					continue
				}
				_, err = disk.DecodeStream(context.Background(), bytes.NewReader(stream[:n]), got, disk.Options{Workers: 1})
				if !errors.Is(err, disk.ErrTruncated) {
					t.Fatalf("cut at byte %d of %d: error %v", n, len(stream), err)
				}
			}
		})
	}
}

func TestFlippedBitsNeverChangeDataUnnoticed(t *testing.T) {
	t.Parallel()
	wants, streams := smallStreams(t)
	for layout, stream := range streams {
		t.Run(string(layout), func(t *testing.T) {
			t.Parallel()
			want := wants[layout]
			got := make(memory, len(want))
			damaged := bytes.Clone(stream)
			noticed := 0
			for i := range stream {
				if stream[i] == 0 && i%211 != 0 { // most of it is padding
					continue
				}
				bit := byte(1) << (i % 8)
				damaged[i] ^= bit
				clear(got)
				_, err := disk.DecodeStream(context.Background(), bytes.NewReader(damaged), got,
					disk.Options{Workers: 1, Capacity: int64(len(want))})
				if err == nil && !bytes.Equal(got, want) {
					t.Fatalf("another disk, and no error, with bit %d of byte %d flipped", i%8, i)
				}
				if err != nil {
					noticed++
				}
				damaged[i] ^= bit
			}
			if noticed == 0 {
				t.Error("no flipped bit was noticed")
			}
		})
	}
}

func TestPaddingBehindTheEndIsToleratedAndDataIsNot(t *testing.T) {
	t.Parallel()
	_, streams := smallStreams(t)
	for layout, stream := range streams {
		padded := append(bytes.Clone(stream), make([]byte, 100*kib+7)...)
		sum, err := disk.DecodeStream(context.Background(), bytes.NewReader(padded), nil, disk.Options{})
		if err != nil || sum.StreamBytes != int64(len(padded)) {
			t.Errorf("%s, padded: %d bytes, error %v", layout, sum.StreamBytes, err)
		}
		padded[len(padded)-1] = 1
		_, err = disk.DecodeStream(context.Background(), bytes.NewReader(padded), nil, disk.Options{})
		if !errors.Is(err, disk.ErrCorrupt) || !strings.Contains(err.Error(), "follows the end of the stream") {
			t.Errorf("%s, with data behind the padding: error %v", layout, err)
		}
	}
}

func TestErrorsOfTheReaderStayWhatTheyAre(t *testing.T) {
	t.Parallel()
	_, streams := smallStreams(t)
	cut := errors.New("connection reset")
	for layout, stream := range streams {
		for _, n := range []int{0, 100, 512, len(stream) / 2, len(stream) - 1, len(stream)} {
			r := io.MultiReader(iotest.HalfReader(bytes.NewReader(stream[:n])), iotest.ErrReader(cut))
			_, err := disk.DecodeStream(context.Background(), r, nil, disk.Options{})
			if !errors.Is(err, cut) || errors.Is(err, disk.ErrTruncated) {
				t.Errorf("%s, cut at %d: error %v", layout, n, err)
			}
		}
	}
}

// change makes a copy of a stream with one field changed.
func change(p []byte, off int, v any) []byte {
	p = bytes.Clone(p)
	switch v := v.(type) {
	case uint16:
		binary.LittleEndian.PutUint16(p[off:], v)
	case uint32:
		binary.LittleEndian.PutUint32(p[off:], v)
	case uint64:
		binary.LittleEndian.PutUint64(p[off:], v)
	}
	return p
}

func TestHostileStreamsAreRefused(t *testing.T) {
	t.Parallel()
	p, o := smallDisk()
	s := disktest.TailLayout(p, o)
	roomy := disktest.TailLayout(p, testvmdk.Options{GrainSize: o.GrainSize})
	first, second := 2*512, 3*512 // the first grains' markers
	for name, c := range map[string]struct {
		stream []byte
		want   error
		says   string
	}{
		"nothing":                    {nil, disk.ErrTruncated, "byte 0"},
		"another kind of file":       {change(s, 0, uint32(0x46494651)), disk.ErrCorrupt, "no VMDK header"},
		"version 4":                  {change(s, 4, uint32(4)), disk.ErrUnsupported, "version 4"},
		"not stream-optimized":       {change(s, 8, uint32(1)), disk.ErrUnsupported, "not stream-optimized"},
		"text mode":                  {change(s, 73, uint16(0x0a0d)), disk.ErrCorrupt, "text mode"},
		"another compression":        {change(s, 77, uint16(2)), disk.ErrUnsupported, "compression algorithm 2"},
		"huge capacity":              {change(s, 12, uint64(1)<<62), disk.ErrCorrupt, "capacity"},
		"larger capacity":            {change(s, 12, uint64(9000)), disk.ErrCorrupt, ""},
		"grains of no size":          {change(s, 20, uint64(0)), disk.ErrCorrupt, "grain size"},
		"grains of odd size":         {change(s, 20, uint64(24)), disk.ErrCorrupt, "grain size"},
		"grains of huge size":        {change(s, 20, uint64(1)<<55), disk.ErrCorrupt, "grain size"},
		"tables of huge size":        {change(s, 44, uint32(1)<<31), disk.ErrUnsupported, "grain tables"},
		"descriptor of huge size":    {change(s, 36, uint64(1)<<60), disk.ErrCorrupt, "descriptor"},
		"descriptor behind grains":   {change(s, 28, uint64(1)<<60), disk.ErrCorrupt, "descriptor"},
		"grains far away":            {change(s, 64, uint64(1)<<60), disk.ErrCorrupt, "grains"},
		"directory nowhere":          {change(s, 56, uint64(0)), disk.ErrCorrupt, "grain directory"},
		"a delta disk":               {bytes.Replace(s, []byte("parentCID=ffffffff"), []byte("parentCID=12345678"), 1), disk.ErrUnsupported, "consolidate"},
		"grain outside the disk":     {change(s, first, uint64(1)<<50), disk.ErrCorrupt, "outside the disk"},
		"grain not aligned":          {change(s, first, uint64(1)), disk.ErrCorrupt, "aligned"},
		"grain twice":                {change(s, second, uint64(0)), disk.ErrCorrupt, "out of order"},
		"grain claims 4 GiB":         {change(s, first+8, ^uint32(0)), disk.ErrCorrupt, "claims"},
		"unknown marker":             {change(change(s, first+8, uint32(0)), first+12, uint32(9)), disk.ErrCorrupt, "type 9"},
		"endless table":              {change(change(change(s, first, uint64(1)<<60), first+8, uint32(0)), first+12, uint32(1)), disk.ErrCorrupt, "type 1"},
		"endless progress":           {change(change(change(s, first, uint64(1)<<60), first+8, uint32(0)), first+12, uint32(4)), disk.ErrCorrupt, "type 4"},
		"end without footer":         {append(bytes.Clone(s[:len(s)-3*512]), make([]byte, 512)...), disk.ErrCorrupt, "without a footer"},
		"footer of another disk":     {change(s, len(s)-2*512+12, uint64(8)), disk.ErrCorrupt, "contradicts"},
		"footer without a directory": {change(s, len(s)-2*512+56, uint64(12)), disk.ErrCorrupt, "no grain directory"},
		"front directory too long":   {change(change(s, 56, uint64(30)), 12, uint64(1)<<37-1), disk.ErrUnsupported, "in grains of"},
		"front table behind grains":  {change(change(roomy, 56, uint64(21)), 21*512, uint32(1)<<31), disk.ErrCorrupt, "not before the grains"},
		"front tables out of order":  {change(change(roomy, 56, uint64(21)), 21*512, uint32(2)), disk.ErrCorrupt, "out of order"},
	} {
		_, err := disk.DecodeStream(context.Background(), bytes.NewReader(c.stream), nil, disk.Options{})
		var se *vmdk.StreamError
		if !errors.Is(err, c.want) || !errors.As(err, &se) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: error %v; want %v that says %q", name, err, c.want, c.says)
		}
	}
}

func TestCapacityIsHeldAgainstTheExpectedOne(t *testing.T) {
	t.Parallel()
	p, small := smallDisk()
	stream := disktest.TailLayout(p, small)
	for name, o := range map[string]disk.Options{
		"another":   {Capacity: 512},
		"too large": {MaxCapacity: 1 * mib},
	} {
		if _, err := disk.DecodeStream(context.Background(), bytes.NewReader(stream), nil, o); !errors.Is(err, disk.ErrCapacity) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// failing is a writer that fails.
type failing struct{ err error }

func (f failing) WriteAt(p []byte, off int64) (int, error) { return 0, f.err }

func TestAnErrorOfTheWriterEndsEverything(t *testing.T) {
	t.Parallel()
	stream := disktest.TailLayout(disktest.Content(41, 32*mib, 10), testvmdk.Options{})
	full := errors.New("no space left")
	r := bytes.NewReader(stream)
	_, err := disk.DecodeStream(context.Background(), r, failing{full}, disk.Options{Workers: 2})
	if !errors.Is(err, full) {
		t.Errorf("error %v", err)
	}
	if r.Len() < len(stream)/2 {
		t.Errorf("%d of %d bytes were read in spite of the error", len(stream)-r.Len(), len(stream))
	}
}

func TestCancellingEndsDecoding(t *testing.T) {
	t.Parallel()
	stream := disktest.TailLayout(disktest.Content(42, 16*mib, 10), testvmdk.Options{})
	stop := errors.New("the user changed their mind")
	for name, w := range map[string]io.WriterAt{"writing": make(memory, 16*mib), "structure only": nil} {
		ctx, cancel := context.WithCancelCause(context.Background())
		_, err := disk.DecodeStream(ctx, bytes.NewReader(stream), w, disk.Options{OnPosition: func(n int64) {
			if n > 8*mib {
				cancel(stop)
			}
		}})
		if !errors.Is(err, stop) {
			t.Errorf("%s: error %v", name, err)
		}
		cancel(nil)
	}
}
