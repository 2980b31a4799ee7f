// Package disktest has what tests of the image formats share: contents of disks,
// and QEMU's tools, which judge the images.
package disktest

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/klauspost/compress/zlib"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/disk/internal/testvmdk"
	"github.com/hyper2kvm/hyper2kvm/disk/qcow2"
)

const grain = 64 << 10 // bytes

// QemuImg runs qemu-img, which judges the images. Without it the test fails.
func QemuImg(t testing.TB, args ...string) {
	t.Helper()
	out, err := exec.Command("qemu-img", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("qemu-img %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// Content makes the content of a disk: of each grain, one in fill out of ten is
// not a hole, and holds text, random bytes or, in parts, zeros.
func Content(seed uint64, size int64, fill int) []byte {
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

// WriteRaw makes a file with the given content, sparse where it is zeros.
func WriteRaw(t testing.TB, path string, p []byte) {
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

// Judge holds an image against a raw file with the right content.
func Judge(t testing.TB, format, path, rawPath string) {
	t.Helper()
	if format == "qcow2" {
		QemuImg(t, "check", "-f", "qcow2", path)
		if _, err := qcow2.Check(context.Background(), path); err != nil {
			t.Fatal(err)
		}
	}
	QemuImg(t, "compare", "-f", "raw", "-F", format, rawPath, path)
}

// ReadFile returns a file's content.
func ReadFile(t testing.TB, path string) []byte {
	t.Helper()
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TailLayout is the ESXi stream of a disk's content.
func TailLayout(p []byte, o testvmdk.Options) []byte {
	g := o.GrainSize
	if g == 0 {
		g = grain
	}
	return testvmdk.Encode(testvmdk.Bytes(p, g), o)
}

// Grains are the grains of a disk that fit.
func Grains(t testing.TB, w disk.GrainWriter, p []byte) []disk.Grain {
	t.Helper()
	var out []disk.Grain
	for off := 0; off+grain <= len(p); off += grain {
		var z bytes.Buffer
		zw := zlib.NewWriter(&z)
		if _, err := zw.Write(p[off : off+grain]); err != nil {
			t.Fatal(err)
		}
		if err := zw.Close(); err != nil {
			t.Fatal(err)
		}
		if w.FitsGrain(z.Len()) {
			out = append(out, disk.Grain{Offset: int64(off), Zlib: z.Bytes()})
		}
	}
	return out
}
