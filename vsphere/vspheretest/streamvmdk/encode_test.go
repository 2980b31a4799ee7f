package streamvmdk_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest/streamvmdk"
)

const mib = 1 << 20

// sparse makes a raw disk of size bytes with n bytes of text-like data at each offset.
func sparse(t *testing.T, size int64, n int, offsets ...int64) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, uint64(size)))
	for _, off := range offsets {
		b := make([]byte, min(int64(n), size-off))
		for i := range b {
			b[i] = byte(r.IntN(40)) + 'a'
		}
		if _, err := f.WriteAt(b, off); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func encode(t *testing.T, src *os.File, o streamvmdk.Options) (string, streamvmdk.Summary) {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "disk.vmdk"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	sum, err := streamvmdk.Encode(context.Background(), out, src, o)
	if err != nil {
		t.Fatal(err)
	}
	fi, err := out.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if fi.Size() != sum.Size {
		t.Errorf("the file has %d bytes, the summary says %d", fi.Size(), sum.Size)
	}
	return out.Name(), sum
}

func TestQemuReadsWhatIsWritten(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("qemu-img"); err != nil {
		t.Fatalf("%v: run scripts/setup.sh test", err)
	}
	tests := map[string]struct {
		size    int64
		n       int
		offsets []int64
		grains  int64
	}{
		"empty disk":                 {10 * mib, 0, nil, 0},
		"one sector":                 {512, 512, []int64{0}, 1},
		"holes between data":         {200 * mib, 300_000, []int64{0, 33 * mib, 150*mib + 5000}, 15},
		"capacity not a whole grain": {5*mib + 512*7, 100_000, []int64{0, 5*mib - 60_000}, 4},
		"size not a whole sector":    {mib + 100, 1000, []int64{mib - 500}, 2},
		"data across a table's end":  {70 * mib, 2 * mib, []int64{31 * mib}, 32},
		"many empty tables":          {32 << 30, 70_000, []int64{0, 16 << 30, 32<<30 - 65536}, 5},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src := sparse(t, tt.size, tt.n, tt.offsets...)
			path, sum := encode(t, src, streamvmdk.Options{})
			if got := sum.Populated / streamvmdk.GrainSize; got != tt.grains {
				t.Errorf("the stream has %d grains, want %d", got, tt.grains)
			}
			out, err := exec.Command("qemu-img", "compare", "-f", "raw", "-F", "vmdk", src.Name(), path).CombinedOutput()
			if err != nil {
				t.Errorf("qemu-img compare: %v\n%s", err, out)
			}
		})
	}
}

// Comparing 2 TiB would take qemu-img most of a minute, so that one disk is
// judged by its size and by the grains at its start, middle and end.
func TestQemuReadsADiskOfTwoTebibytes(t *testing.T) {
	t.Parallel()
	src := sparse(t, 2<<40, 0)
	offsets := []int64{0, 1 << 40, 2<<40 - streamvmdk.GrainSize}
	for _, off := range offsets {
		if _, err := src.WriteAt(bytes.Repeat([]byte{0x5a}, streamvmdk.GrainSize), off); err != nil {
			t.Fatal(err)
		}
	}
	path, sum := encode(t, src, streamvmdk.Options{})
	if sum.Capacity != 2<<40 || sum.Populated != 3*streamvmdk.GrainSize {
		t.Errorf("summary says capacity %d, populated %d", sum.Capacity, sum.Populated)
	}
	args := []string{"-r", "-f", "vmdk", "-c", fmt.Sprintf("read -P 0 %d 65536", int64(5<<30))}
	for _, off := range offsets {
		args = append(args, "-c", fmt.Sprintf("read -P 0x5a %d 65536", off))
	}
	out, err := exec.Command("qemu-io", append(args, path)...).CombinedOutput()
	if err != nil || bytes.Contains(out, []byte("failed")) {
		t.Errorf("qemu-io: %v\n%s", err, out)
	}
}

func TestTheStreamDoesNotDependOnTheWorkers(t *testing.T) {
	t.Parallel()
	src := sparse(t, 100*mib, 3*mib, 0, 40*mib, 90*mib)
	_, one := encode(t, src, streamvmdk.Options{Workers: 1})
	_, many := encode(t, src, streamvmdk.Options{Workers: 7})
	if one != many {
		t.Errorf("one worker wrote %+v, seven wrote %+v", one, many)
	}
}

func TestEncodeStopsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	src := sparse(t, 100*mib, 3*mib, 0)
	_, err := streamvmdk.Encode(ctx, discard{}, src, streamvmdk.Options{})
	if err == nil {
		t.Error("a cancelled context let the encoder finish")
	}
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }
