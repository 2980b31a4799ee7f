package disk_test

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/disk/disktest"
	"github.com/hyper2kvm/hyper2kvm/disk/internal/testvmdk"
	"github.com/hyper2kvm/hyper2kvm/disk/vmdk"
)

// FuzzDecodeStream gives arbitrary bytes to the decoder. It must return a disk
// of a bounded size, or an error of its own kind; what it accepts must be
// accepted again from a stream that is cut in two by a resume.
func FuzzDecodeStream(f *testing.F) {
	p := make([]byte, 40*4*kib+512)
	copy(p[4096:], "some data")
	copy(p[9*4096:], bytes.Repeat([]byte("more "), 3000))
	f.Add(disktest.TailLayout(p, testvmdk.Options{Compact: true, GrainSize: 4 * kib}))
	f.Add(disktest.TailLayout(p, testvmdk.Options{Compact: true, GrainSize: 4 * kib, Progress: true, EmptyTables: true}))
	f.Add(disktest.TailLayout(p, testvmdk.Options{Compact: true, KnownGD: true}))
	f.Add(disktest.TailLayout(make([]byte, 512), testvmdk.Options{Compact: true}))
	rawPath := filepath.Join(f.TempDir(), "source.raw")
	disktest.WriteRaw(f, rawPath, p)
	front := disktest.ReadFile(f, frontLayout(f, rawPath))
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
			var se *vmdk.StreamError
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
