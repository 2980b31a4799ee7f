package disk_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/disk/internal/testvmdk"
)

// FuzzDecodeStream gives arbitrary bytes to the decoder. It must return a disk
// of a bounded size, or an error of its own kind; what it accepts must be
// accepted again from a stream that is cut in two by a resume.
func FuzzDecodeStream(f *testing.F) {
	p := make([]byte, 40*4*kib+512)
	copy(p[4096:], "some data")
	copy(p[9*4096:], bytes.Repeat([]byte("more "), 3000))
	f.Add(tailLayout(p, testvmdk.Options{Compact: true, GrainSize: 4 * kib}))
	f.Add(tailLayout(p, testvmdk.Options{Compact: true, GrainSize: 4 * kib, Progress: true, EmptyTables: true}))
	f.Add(tailLayout(p, testvmdk.Options{Compact: true, KnownGD: true}))
	f.Add(tailLayout(make([]byte, 512), testvmdk.Options{Compact: true}))
	rawPath := filepath.Join(f.TempDir(), "source.raw")
	write(f, rawPath, p)
	front := readFile(f, frontLayout(f, rawPath))
	f.Add(compactFront(front))
	const most = 1 * mib
	got, again := make(memory, most), make(memory, most)
	f.Fuzz(func(t *testing.T, stream []byte) {
		clear(got)
		var positions []disk.Position
		sum, err := disk.DecodeStream(context.Background(), bytes.NewReader(stream), got, disk.Options{
			Workers: 2, MaxCapacity: most, CheckpointEvery: 1,
			OnCheckpoint: func(p disk.Position) error {
				positions = append(positions, p)
				return nil
			},
		})
		if err != nil {
			var se *disk.StreamError
			if !errors.As(err, &se) {
				t.Fatalf("error %v is not a StreamError", err)
			}
			return
		}
		if len(positions) == 0 {
			return
		}
		clear(again)
		p := positions[len(positions)/2]
		copy(again, got) // the writer holds what was written
		resumed, err := disk.DecodeStream(context.Background(), bytes.NewReader(stream[p.StreamOffset:]), again, disk.Options{Resume: &p})
		if err != nil || resumed != sum || !bytes.Equal(got, again) {
			t.Fatalf("resumed at %d: %+v, in one go %+v, error %v", p.StreamOffset, resumed, sum, err)
		}
	})
}

// FuzzQcow2 damages images and part files: patch holds records of an offset and
// a word to be put there, and cut shortens the file. The check must find it
// good, corrupt or unsupported; OpenQcow2 must refuse it, or go on with it to an
// image that passes the check.
func FuzzQcow2(f *testing.F) {
	const capacity = 600*mib + 512
	bases := partFiles(f, capacity)
	f.Add(uint8(0), []byte{}, uint32(0))
	f.Add(uint8(1), []byte{0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0}, uint32(0))
	f.Add(uint8(2), []byte{0, 3, 0, 8, 0x80, 0, 0, 0, 0, 5, 0, 0}, uint32(1))
	f.Add(uint8(3), []byte{0, 0, 0, 40, 0, 0, 0, 0, 0, 1, 0, 0}, uint32(70000))
	f.Fuzz(func(t *testing.T, base uint8, patch []byte, cut uint32) {
		p := bytes.Clone(bases[int(base)%len(bases)])
		for ; len(patch) >= 12; patch = patch[12:] {
			copy(p[int(binary.BigEndian.Uint32(patch))%len(p):], patch[4:12])
		}
		p = p[:len(p)-int(cut)%len(p)]
		path := filepath.Join(t.TempDir(), "image")
		if err := os.WriteFile(path, p, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := disk.CheckQcow2(context.Background(), path); err != nil &&
			!errors.Is(err, disk.ErrCorrupt) && !errors.Is(err, disk.ErrUnsupported) {
			t.Fatalf("check: error %v", err)
		}
		w, err := disk.OpenQcow2(path, capacity, disk.Qcow2Options{})
		if err != nil {
			if !errors.Is(err, disk.ErrNotResumable) {
				t.Fatalf("open: error %v", err)
			}
			return
		}
		defer func() { _ = w.Discard() }()
		if _, err := w.WriteAt([]byte("more data"), 3*grain); err != nil && !errors.Is(err, disk.ErrUnsupported) {
			t.Fatalf("write: error %v", err)
		}
		if err := w.Commit(); err != nil {
			t.Fatal(err)
		}
		if _, err := disk.CheckQcow2(context.Background(), path); err != nil {
			t.Fatalf("committed image: %v", err)
		}
	})
}

// partFiles are a part file and its image, plain and with compressed clusters.
func partFiles(f *testing.F, capacity int64) [][]byte {
	path := filepath.Join(f.TempDir(), "part")
	var out [][]byte
	for _, compress := range []bool{false, true} {
		w, err := disk.CreateQcow2(path, capacity, disk.Qcow2Options{Compress: compress})
		if err != nil {
			f.Fatal(err)
		}
		for _, off := range []int64{mib - 3, 550 * mib} {
			if _, err := w.WriteAt([]byte("some data"), off); err != nil {
				f.Fatal(err)
			}
		}
		z := tailLayout(bytes.Repeat([]byte("ab"), grain), testvmdk.Options{})
		if compress {
			if _, err := disk.DecodeStream(context.Background(), bytes.NewReader(z), w, disk.Options{}); err != nil {
				f.Fatal(err)
			}
		}
		if err := w.Checkpoint(); err != nil {
			f.Fatal(err)
		}
		out = append(out, readFile(f, path))
		if err := w.Commit(); err != nil {
			f.Fatal(err)
		}
		out = append(out, readFile(f, path))
	}
	return out
}
