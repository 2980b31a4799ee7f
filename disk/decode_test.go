package disk_test

import (
	"bytes"
	"context"
	"path/filepath"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/disk/disktest"
	"github.com/hyper2kvm/hyper2kvm/disk/internal/testvmdk"
	"github.com/hyper2kvm/hyper2kvm/disk/qcow2"
	"github.com/hyper2kvm/hyper2kvm/disk/vmdk"
)

// disks are disks of every shape, by name.
func disks() map[string][]byte {
	return map[string][]byte{
		"empty":               make([]byte, 3*mib),
		"dense":               disktest.Content(1, 4*mib, 10),
		"with holes":          disktest.Content(2, 40*mib, 2),
		"one sector":          bytes.Repeat([]byte{5}, 512),
		"one sector too many": disktest.Content(3, 4*mib+512, 10),
		"odd, hole at end":    append(disktest.Content(4, 2*mib, 10), make([]byte, 11*512)...),
		"odd, 127 sectors":    disktest.Content(5, 3*mib+127*512, 8),
		"a grain":             disktest.Content(6, grain, 10),
	}
}

func TestDecodedImagesAreIdenticalToTheDisk(t *testing.T) {
	t.Parallel()
	for name, want := range disks() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rawPath := filepath.Join(t.TempDir(), "source.raw")
			disktest.WriteRaw(t, rawPath, want)
			front := disktest.ReadFile(t, frontLayout(t, rawPath))
			streams := map[vmdk.Layout][]byte{vmdk.LayoutFront: front, vmdk.LayoutTail: disktest.TailLayout(want, testvmdk.Options{})}
			for layout, stream := range streams {
				for _, tg := range targets() {
					path := filepath.Join(t.TempDir(), "image")
					var last int64
					sum := decode(t, bytes.NewReader(stream), tg, path, disk.Options{
						Capacity: int64(len(want)), Workers: 3,
						OnPosition: func(n int64) {
							if n < last {
								t.Errorf("%s, %s: position goes from %d back to %d", layout, tg.name, last, n)
							}
							last = n
						},
					})
					disktest.Judge(t, tg.format, path, rawPath)
					if sum.Layout != layout || sum.Capacity != int64(len(want)) || sum.StreamBytes != int64(len(stream)) || last != sum.Capacity {
						t.Errorf("%s, %s: last position %d, summary %+v", layout, tg.name, last, sum)
					}
				}
			}
		})
	}
}

func TestVariantsOfTheTailLayoutAreRead(t *testing.T) {
	t.Parallel()
	want := make([]byte, 34*mib+512*3)
	copy(want, disktest.Content(11, 2*mib, 5))
	copy(want[33*mib+grain:], disktest.Content(12, mib-grain+512*3, 5))
	for name, o := range map[string]testvmdk.Options{
		"grains of 4 KiB":             {GrainSize: 4 * kib},
		"grains of 1 MiB":             {GrainSize: 1 * mib},
		"tables for holes":            {EmptyTables: true},
		"progress markers":            {Progress: true},
		"directory in header":         {KnownGD: true},
		"grains of zeros":             {KeepZeros: true},
		"tables behind all":           {TablesLast: true, GrainSize: 4 * kib},
		"tables for holes behind all": {TablesLast: true, EmptyTables: true, GrainSize: 4 * kib},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			rawPath := filepath.Join(dir, "source.raw")
			disktest.WriteRaw(t, rawPath, want)
			stream := disktest.TailLayout(want, o)
			for _, tg := range targets() {
				path := filepath.Join(dir, "image")
				sum := decode(t, bytes.NewReader(stream), tg, path, disk.Options{Capacity: int64(len(want))})
				disktest.Judge(t, tg.format, path, rawPath)
				if o.GrainSize <= grain && sum.DataBytes > int64(len(want))/2 {
					t.Errorf("%s: %d bytes written, holes are not kept", tg.name, sum.DataBytes)
				}
				if o.KeepZeros && sum.ZeroGrains < 300 {
					t.Errorf("%s: %d grains of zeros dropped", tg.name, sum.ZeroGrains)
				}
			}
		})
	}
}

func TestHolesStayHoles(t *testing.T) {
	t.Parallel()
	d := testvmdk.Sparse(1*gib, 64*mib)
	stream := testvmdk.Encode(d, testvmdk.Options{})
	for _, tg := range targets() {
		path := filepath.Join(t.TempDir(), "image")
		decode(t, bytes.NewReader(stream), tg, path, disk.Options{Capacity: d.Capacity})
		if n := allocated(t, path); n > 4*mib {
			t.Errorf("%s: 1 MiB of data takes %d bytes", tg.name, n)
		}
	}
}

func TestVerifyWithCompressionNoticesBadChecksums(t *testing.T) {
	t.Parallel()
	want := disktest.Content(21, 2*mib, 10)
	stream := disktest.TailLayout(want, testvmdk.Options{})
	g := middleGrain(t, stream)
	stream[g.Offset+12+int64(g.Size)-1] ^= 1
	w, err := qcow2.Create(filepath.Join(t.TempDir(), "image"), int64(len(want)), qcow2.Options{Compress: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Discard() }()
	_, err = disk.DecodeStream(context.Background(), bytes.NewReader(stream), w, disk.Options{Verify: true})
	wantStreamError(t, err, disk.ErrCorrupt, g.Offset, g.LBA)
	if _, err = disk.DecodeStream(context.Background(), bytes.NewReader(stream), nil, disk.Options{Verify: true}); err == nil {
		t.Error("a bad checksum passes a check of the data without a writer")
	}
	if _, err = disk.DecodeStream(context.Background(), bytes.NewReader(stream), nil, disk.Options{}); err != nil {
		t.Errorf("a check of the structure only looks at the data: %v", err)
	}
}

func TestQemuWritesToACompressedImage(t *testing.T) {
	t.Parallel()
	want := disktest.Content(31, 8*mib, 10)
	dir := t.TempDir()
	rawPath, path := filepath.Join(dir, "source.raw"), filepath.Join(dir, "image.qcow2")
	tg := targets()[2]
	decode(t, bytes.NewReader(disktest.TailLayout(want, testvmdk.Options{})), tg, path, disk.Options{Capacity: int64(len(want))})
	for off := 1000 * 512; off < len(want); off += mib {
		copy(want[off:], bytes.Repeat([]byte{0xab}, 3*4096))
		qemuIO(t, path, off, 3*4096)
		if off > 5*mib {
			break
		}
	}
	disktest.WriteRaw(t, rawPath, want)
	disktest.Judge(t, tg.format, path, rawPath)
}
