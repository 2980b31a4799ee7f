package disk_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/disk/disktest"
)

// scatter writes pieces of want, in random order and size, on several
// goroutines. Pieces do not overlap and are aligned to nothing.
func scatter(t *testing.T, w disk.Writer, want []byte, seed uint64) {
	t.Helper()
	type piece struct{ from, to int }
	rng := rand.New(rand.NewPCG(seed, seed))
	var pieces []piece
	for at := 0; at < len(want); {
		n := 1 + rng.IntN([]int{100, 5000, grain, 9 * grain, 40 * grain}[rng.IntN(5)])
		to := min(at+n, len(want))
		pieces = append(pieces, piece{at, to})
		at = to
	}
	rng.Shuffle(len(pieces), func(i, k int) { pieces[i], pieces[k] = pieces[k], pieces[i] })
	var wg sync.WaitGroup
	const workers = 4
	for k := range workers {
		wg.Go(func() {
			for i := k; i < len(pieces); i += workers {
				p := want[pieces[i].from:pieces[i].to]
				if n, err := w.WriteAt(p, int64(pieces[i].from)); err != nil || n != len(p) {
					t.Errorf("WriteAt: %d bytes of %d, error %v", n, len(p), err)
					return
				}
				if i%200 == 0 {
					if err := w.Checkpoint(); err != nil {
						t.Errorf("Checkpoint: %v", err)
					}
				}
			}
		})
	}
	wg.Wait()
}

func TestScatteredConcurrentWritesGiveTheSameDisk(t *testing.T) {
	t.Parallel()
	for i, size := range []int64{24 * mib, 5*mib + 512, 3*grain - 512} {
		want := disktest.Content(uint64(71+i), size, 5)
		rawPath := filepath.Join(t.TempDir(), "source.raw")
		disktest.WriteRaw(t, rawPath, want)
		for _, tg := range targets() {
			path := filepath.Join(t.TempDir(), "image")
			w, err := tg.create(path, size)
			if err != nil {
				t.Fatal(err)
			}
			scatter(t, w, want, uint64(i))
			if err := w.Commit(); err != nil {
				t.Fatal(err)
			}
			disktest.Judge(t, tg.format, path, rawPath)
		}
	}
}

func TestLaterWritesReplaceEarlierOnes(t *testing.T) {
	t.Parallel()
	want := disktest.Content(81, 4*mib, 10)
	first := disktest.Content(82, 4*mib, 10)
	rawPath := filepath.Join(t.TempDir(), "source.raw")
	disktest.WriteRaw(t, rawPath, want)
	for _, tg := range targets() {
		path := filepath.Join(t.TempDir(), "image")
		w, err := tg.create(path, int64(len(want)))
		if err != nil {
			t.Fatal(err)
		}
		scatter(t, w, first, 1)
		if gw, ok := w.(disk.GrainWriter); ok && gw.GrainSize() != 0 {
			if err := gw.WriteGrains(disktest.Grains(t, gw, first)); err != nil {
				t.Fatal(err)
			}
			if _, err := w.WriteAt(want[100:200], 100); !errors.Is(err, disk.ErrUnsupported) {
				t.Errorf("changing a part of a compressed cluster: error %v", err)
			}
			if err := gw.WriteGrains(disktest.Grains(t, gw, first)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.WriteAt(want, 0); err != nil {
			t.Fatal(err)
		}
		if err := w.Commit(); err != nil {
			t.Fatal(err)
		}
		disktest.Judge(t, tg.format, path, rawPath)
	}
}

func TestWritesOutsideTheDiskAreRefused(t *testing.T) {
	t.Parallel()
	for _, tg := range targets() {
		w, err := tg.create(filepath.Join(t.TempDir(), "image"), mib)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = w.Discard() }()
		for _, off := range []int64{-1, mib - 3, mib, 1 << 62} {
			if n, err := w.WriteAt([]byte("data"), off); err == nil || n != 0 {
				t.Errorf("%s: %d bytes written at %d", tg.name, n, off)
			}
		}
	}
	for _, size := range []int64{-512, 511, disk.MaxCapacity + 512} {
		for _, tg := range targets() {
			if _, err := tg.create(filepath.Join(t.TempDir(), "image"), size); !errors.Is(err, disk.ErrCapacity) {
				t.Errorf("%s of %d bytes: error %v", tg.name, size, err)
			}
		}
	}
}

func TestADiskOfNoSizeIsAnImage(t *testing.T) {
	t.Parallel()
	for _, tg := range targets() {
		path := filepath.Join(t.TempDir(), "image")
		w, err := tg.create(path, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Commit(); err != nil {
			t.Fatal(err)
		}
		disktest.QemuImg(t, "info", "-f", tg.format, path)
		if tg.format == "qcow2" {
			disktest.Judge(t, tg.format, path, os.DevNull)
		}
	}
}
