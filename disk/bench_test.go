package disk_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/disk/disktest"
	"github.com/hyper2kvm/hyper2kvm/disk/internal/testvmdk"
	"github.com/hyper2kvm/hyper2kvm/disk/vmdk"
)

// nowhere is a writer that keeps nothing.
type nowhere struct{}

func (nowhere) WriteAt(p []byte, off int64) (int, error) { return len(p), nil }

// benchStream is a stream of some hundred MiB: half text of some entropy, some
// random data, some holes.
func benchStream(b *testing.B, size int64) (stream []byte, data int64) {
	b.Helper()
	p := disktest.Content(99, 8*mib, 9)
	d := testvmdk.Disk{Capacity: size, Grains: func(yield func(int64, []byte) bool) {
		for i := range size / grain {
			at := i % 128 * grain
			if !yield(i, p[at:at+grain]) {
				return
			}
		}
	}}
	return testvmdk.Encode(d, testvmdk.Options{Level: 6}), size
}

func BenchmarkDecodeStream(b *testing.B) {
	const size = 256 * mib
	stream, data := benchStream(b, size)
	run := func(b *testing.B, name string, create func(path string) (io.WriterAt, error), o disk.Options) {
		b.Run(name, func(b *testing.B) {
			dir := b.TempDir()
			b.SetBytes(data)
			b.ReportAllocs()
			for b.Loop() {
				w, err := create(filepath.Join(dir, "image"))
				if err != nil {
					b.Fatal(err)
				}
				if _, err := disk.DecodeStream(context.Background(), bytes.NewReader(stream), w, o); err != nil {
					b.Fatal(err)
				}
				if w, ok := w.(disk.Writer); ok {
					if err := w.Commit(); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
	run(b, "structure", func(string) (io.WriterAt, error) { return nil, nil }, disk.Options{})
	for _, n := range []int{1, 2} {
		run(b, fmt.Sprintf("nowhere, %d workers", n), func(string) (io.WriterAt, error) { return nowhere{}, nil }, disk.Options{Workers: n})
	}
	for _, tg := range targets() {
		run(b, tg.name, func(p string) (io.WriterAt, error) { return tg.create(p, size) }, disk.Options{})
	}
	run(b, "compressed qcow2, verified", func(p string) (io.WriterAt, error) { return targets()[2].create(p, size) }, disk.Options{Verify: true})
}

// allocations returns how many objects this process has allocated.
func allocations() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}

// BenchmarkGrain shows the cost of one more grain in a long stream, from the
// reader to the file: nothing is allocated for it. What the metric allocs/grain
// has behind the point is taken once for a call, for a table of 512 grains (also
// by who writes the stream here), and for a block of 1 MiB of compressed clusters.
func BenchmarkGrain(b *testing.B) {
	p := make([]byte, grain) // deflates to half: each byte has four bits
	rng := rand.New(rand.NewPCG(98, 7))
	for i := range p {
		p[i] = byte(rng.IntN(16))
	}
	run := func(name string, create func(path string, size int64) (io.WriterAt, error), o disk.Options) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(grain)
			b.ReportAllocs()
			size := int64(b.N) * grain
			image := filepath.Join(b.TempDir(), "image")
			before := allocations()
			w, err := create(image, size)
			if err != nil {
				b.Fatal(err)
			}
			r, stream := io.Pipe()
			go func() {
				_ = stream.CloseWithError(testvmdk.Write(stream, testvmdk.Disk{Capacity: size, Grains: func(yield func(int64, []byte) bool) {
					for i := range int64(b.N) {
						if !yield(i, p) {
							return
						}
					}
				}}, testvmdk.Options{Repeat: true}))
			}()
			sum, err := disk.DecodeStream(context.Background(), r, w, o)
			if err != nil {
				b.Fatal(err)
			}
			if w, ok := w.(disk.Writer); ok {
				if err := w.Commit(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(allocations()-before)/float64(b.N), "allocs/grain")
			if w != nil && sum.DataBytes != size {
				b.Fatalf("%d bytes were written, want %d", sum.DataBytes, size)
			}
		})
	}
	run("structure", func(string, int64) (io.WriterAt, error) { return nil, nil }, disk.Options{})
	run("nowhere", func(string, int64) (io.WriterAt, error) { return nowhere{}, nil }, disk.Options{})
	for _, tg := range targets() {
		run(tg.name, func(path string, size int64) (io.WriterAt, error) { return tg.create(path, size) }, disk.Options{})
	}
	run("compressed qcow2, verified", func(path string, size int64) (io.WriterAt, error) { return targets()[2].create(path, size) }, disk.Options{Verify: true})
}

// BenchmarkFile decodes the stream in the file that DISK_BENCH_VMDK names, as
// one would compare it with other tools.
func BenchmarkFile(b *testing.B) {
	path := os.Getenv("DISK_BENCH_VMDK")
	if path == "" {
		b.Skip("DISK_BENCH_VMDK names no stream-optimized VMDK")
	}
	for _, tg := range targets() {
		b.Run(tg.name, func(b *testing.B) {
			image := filepath.Join(b.TempDir(), "image")
			for b.Loop() {
				f, err := os.Open(path)
				if err != nil {
					b.Fatal(err)
				}
				s, err := vmdk.NewReader(f, vmdk.Options{})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := f.Seek(0, io.SeekStart); err != nil {
					b.Fatal(err)
				}
				sum := decode(b, f, tg, image, disk.Options{Capacity: s.Geometry().Capacity})
				b.SetBytes(sum.DataBytes)
				_ = f.Close()
			}
		})
	}
}

// BenchmarkFileNowhere decodes the same stream without writing it.
func BenchmarkFileNowhere(b *testing.B) {
	path := os.Getenv("DISK_BENCH_VMDK")
	if path == "" {
		b.Skip("DISK_BENCH_VMDK names no stream-optimized VMDK")
	}
	for b.Loop() {
		f, err := os.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		sum, err := disk.DecodeStream(context.Background(), f, nowhere{}, disk.Options{})
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(sum.DataBytes)
		_ = f.Close()
	}
}
