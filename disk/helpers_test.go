package disk_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/disk/disktest"
	"github.com/hyper2kvm/hyper2kvm/disk/qcow2"
	"github.com/hyper2kvm/hyper2kvm/disk/vmdk"
	"go.uber.org/goleak"
)

const (
	kib   = 1 << 10
	mib   = 1 << 20
	gib   = 1 << 30
	tib   = 1 << 40
	grain = 64 * kib
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// target is a kind of image to write.
type target struct {
	name   string
	format string // for qemu-img
	create func(path string, capacity int64) (disk.Writer, error)
	open   func(path string, capacity int64) (disk.Writer, error)
}

func targets() []target {
	plain, zipped := qcow2.Options{}, qcow2.Options{Compress: true}
	return []target{
		{
			"raw", "raw",
			func(p string, n int64) (disk.Writer, error) { return disk.CreateRaw(p, n) },
			func(p string, n int64) (disk.Writer, error) { return disk.OpenRaw(p, n) },
		},
		{
			"qcow2", "qcow2",
			func(p string, n int64) (disk.Writer, error) { return qcow2.Create(p, n, plain) },
			func(p string, n int64) (disk.Writer, error) { return qcow2.Open(p, n, plain) },
		},
		{
			"compressed qcow2", "qcow2",
			func(p string, n int64) (disk.Writer, error) { return qcow2.Create(p, n, zipped) },
			func(p string, n int64) (disk.Writer, error) { return qcow2.Open(p, n, zipped) },
		},
	}
}

// decode decodes a stream into a new image at path and commits it.
func decode(t testing.TB, r io.Reader, tg target, path string, o disk.Options) disk.Summary {
	t.Helper()
	w, err := tg.create(path, o.Capacity)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Discard() }()
	sum, err := disk.DecodeStream(context.Background(), r, w, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	return sum
}

// allocated is the number of bytes a file takes on its file system.
func allocated(t testing.TB, path string) int64 {
	t.Helper()
	out, err := exec.Command("stat", "-c", "%b", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	var n int64
	for _, c := range strings.TrimSpace(string(out)) {
		n = n*10 + int64(c-'0')
	}
	return n * 512
}

// frontLayout makes qemu-img write the stream of a disk.
func frontLayout(t testing.TB, rawPath string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "front.vmdk")
	disktest.QemuImg(t, "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", rawPath, path)
	return path
}

// memory is an io.WriterAt that holds a disk.
type memory []byte

func (m memory) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > int64(len(m)) {
		return 0, errors.New("write outside the disk")
	}
	return copy(m[off:], p), nil
}

// qemuIO makes QEMU write n bytes 0xab into an image.
func qemuIO(t testing.TB, path string, off, n int) {
	t.Helper()
	out, err := exec.Command("qemu-io", "-f", "qcow2", "-c", fmt.Sprintf("write -P 0xab %d %d", off, n), path).CombinedOutput()
	if err != nil {
		t.Fatalf("qemu-io: %v\n%s", err, out)
	}
}

// wantStreamError checks an error's identity and place.
func wantStreamError(t testing.TB, err, identity error, offset, lba int64) {
	t.Helper()
	var se *vmdk.StreamError
	if !errors.Is(err, identity) || !errors.As(err, &se) || se.Offset != offset || se.LBA != lba {
		t.Errorf("error %v; want %v at byte %d, sector %d", err, identity, offset, lba)
	}
}

// compactFront moves the grains of a small stream of qemu-img's up to its
// tables.
func compactFront(p []byte) []byte {
	const tablesEnd = 31 // sectors: header, descriptor, two directories with a table each
	le := binary.LittleEndian
	moved := le.Uint64(p[64:]) - tablesEnd
	out := append(bytes.Clone(p[:tablesEnd*512]), bytes.TrimRight(p[128*512:], "\x00")...)
	out = append(out, make([]byte, 512-len(out)%512)...)
	le.PutUint64(out[64:], tablesEnd)
	for off := 27 * 512; off < tablesEnd*512; off += 4 {
		if e := le.Uint32(out[off:]); e != 0 {
			le.PutUint32(out[off:], e-uint32(moved))
		}
	}
	return out
}

// middleGrain is a grain that is neither tiny nor incompressible.
func middleGrain(t testing.TB, stream []byte) (g vmdk.GrainMarker) {
	t.Helper()
	s, err := vmdk.NewReader(bytes.NewReader(stream), vmdk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for g.Size < 1000 || g.Size > 60000 {
		if g, err = s.Next(); err != nil {
			t.Fatal(err)
		}
	}
	return g
}
