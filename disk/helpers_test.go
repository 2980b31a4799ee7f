package disk_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/disk/internal/testvmdk"
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

// qemuImg runs qemu-img, which judges the images. Without it the test fails.
func qemuImg(t testing.TB, args ...string) {
	t.Helper()
	out, err := exec.Command("qemu-img", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("qemu-img %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// content makes the content of a disk: of each grain, one in fill out of ten is
// not a hole, and holds text, random bytes or, in parts, zeros.
func content(seed uint64, size int64, fill int) []byte {
	rng := rand.New(rand.NewPCG(seed, 7))
	p := make([]byte, size)
	for off := int64(0); off < size; off += grain {
		if rng.IntN(10) >= fill {
			continue
		}
		g := p[off:min(off+grain, size)]
		switch rng.IntN(4) {
		case 0:
			for i := range g {
				g[i] = byte(rng.Uint32())
			}
		case 1:
			g[rng.IntN(len(g))] = 1
		case 2:
			for i := range g[:len(g)/2] {
				g[i] = byte(rng.IntN(3))
			}
		default:
			copy(g, bytes.Repeat([]byte("a block of a file system, again "), len(g)/32))
			g[0] = byte(rng.Uint32())
		}
	}
	return p
}

// write makes a file with the given content, sparse where it is zeros.
func write(t testing.TB, path string, p []byte) {
	t.Helper()
	w, err := disk.CreateRaw(path, int64(len(p)))
	if err != nil {
		t.Fatal(err)
	}
	for off := 0; off < len(p); off += grain {
		g := p[off:min(off+grain, len(p))]
		if len(bytes.Trim(g, "\x00")) > 0 {
			if _, err := w.WriteAt(g, int64(off)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
}

// target is a kind of image to write.
type target struct {
	name   string
	format string // for qemu-img
	create func(path string, capacity int64) (disk.Writer, error)
	open   func(path string, capacity int64) (disk.Writer, error)
}

func targets() []target {
	plain, zipped := disk.Qcow2Options{}, disk.Qcow2Options{Compress: true}
	return []target{
		{
			"raw", "raw",
			func(p string, n int64) (disk.Writer, error) { return disk.CreateRaw(p, n) },
			func(p string, n int64) (disk.Writer, error) { return disk.OpenRaw(p, n) },
		},
		{
			"qcow2", "qcow2",
			func(p string, n int64) (disk.Writer, error) { return disk.CreateQcow2(p, n, plain) },
			func(p string, n int64) (disk.Writer, error) { return disk.OpenQcow2(p, n, plain) },
		},
		{
			"compressed qcow2", "qcow2",
			func(p string, n int64) (disk.Writer, error) { return disk.CreateQcow2(p, n, zipped) },
			func(p string, n int64) (disk.Writer, error) { return disk.OpenQcow2(p, n, zipped) },
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

// judge holds an image against a raw file with the right content.
func judge(t testing.TB, tg target, path, rawPath string) {
	t.Helper()
	if tg.format == "qcow2" {
		qemuImg(t, "check", "-f", "qcow2", path)
		if _, err := disk.CheckQcow2(context.Background(), path); err != nil {
			t.Fatal(err)
		}
	}
	qemuImg(t, "compare", "-f", "raw", "-F", tg.format, rawPath, path)
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

// readFile returns a file's content.
func readFile(t testing.TB, path string) []byte {
	t.Helper()
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// frontLayout makes qemu-img write the stream of a disk.
func frontLayout(t testing.TB, rawPath string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "front.vmdk")
	qemuImg(t, "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", rawPath, path)
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

// tailLayout is the ESXi stream of a disk's content.
func tailLayout(p []byte, o testvmdk.Options) []byte {
	g := o.GrainSize
	if g == 0 {
		g = grain
	}
	return testvmdk.Encode(testvmdk.Bytes(p, g), o)
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
	var se *disk.StreamError
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
