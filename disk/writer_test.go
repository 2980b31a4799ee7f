package disk_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/klauspost/compress/zlib"
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
		want := content(uint64(71+i), size, 5)
		rawPath := filepath.Join(t.TempDir(), "source.raw")
		write(t, rawPath, want)
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
			judge(t, tg, path, rawPath)
		}
	}
}

func TestLaterWritesReplaceEarlierOnes(t *testing.T) {
	t.Parallel()
	want := content(81, 4*mib, 10)
	first := content(82, 4*mib, 10)
	rawPath := filepath.Join(t.TempDir(), "source.raw")
	write(t, rawPath, want)
	for _, tg := range targets() {
		path := filepath.Join(t.TempDir(), "image")
		w, err := tg.create(path, int64(len(want)))
		if err != nil {
			t.Fatal(err)
		}
		scatter(t, w, first, 1)
		if gw, ok := w.(disk.GrainWriter); ok && gw.GrainSize() != 0 {
			if err := gw.WriteGrains(compressed(t, gw, first)); err != nil {
				t.Fatal(err)
			}
			if _, err := w.WriteAt(want[100:200], 100); !errors.Is(err, disk.ErrUnsupported) {
				t.Errorf("changing a part of a compressed cluster: error %v", err)
			}
			if err := gw.WriteGrains(compressed(t, gw, first)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.WriteAt(want, 0); err != nil {
			t.Fatal(err)
		}
		if err := w.Commit(); err != nil {
			t.Fatal(err)
		}
		judge(t, tg, path, rawPath)
	}
}

// compressed are the grains of a disk that fit.
func compressed(t *testing.T, w disk.GrainWriter, p []byte) []disk.Grain {
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
		qemuImg(t, "info", "-f", tg.format, path)
		if tg.format == "qcow2" {
			judge(t, tg, path, os.DevNull)
		}
	}
}

func TestAFullFileSystemIsNamed(t *testing.T) {
	t.Parallel()
	err := disk.FileError("write", "/images/vm.part", &os.PathError{Op: "write", Path: "/images/vm.part", Err: syscall.ENOSPC})
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "/images/vm.part") || !strings.Contains(err.Error(), "free some space") {
		t.Errorf("error %v", err)
	}
}

func TestCheckQcow2AcceptsWhatQemuWrites(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rawPath := filepath.Join(dir, "source.raw")
	write(t, rawPath, content(91, 10*mib+512, 7))
	for name, args := range map[string][]string{
		"plain":           {"-O", "qcow2"},
		"compressed":      {"-O", "qcow2", "-c"},
		"small clusters":  {"-O", "qcow2", "-o", "cluster_size=512"},
		"large clusters":  {"-O", "qcow2", "-o", "cluster_size=2M"},
		"old version":     {"-O", "qcow2", "-o", "compat=0.10"},
		"preallocated":    {"-O", "qcow2", "-o", "preallocation=metadata"},
		"small and zlib":  {"-O", "qcow2", "-c", "-o", "cluster_size=4k"},
		"zeros in places": {"-O", "qcow2", "-S", "0"},
	} {
		path := filepath.Join(dir, "image.qcow2")
		qemuImg(t, append(append([]string{"convert", "-f", "raw"}, args...), rawPath, path)...)
		info, err := disk.CheckQcow2(context.Background(), path)
		if err != nil || info.Capacity != 10*mib+512 || info.Plain+info.Compressed == 0 {
			t.Errorf("%s: %+v, error %v", name, info, err)
		}
	}
}

func TestCheckQcow2RefusesDamagedImages(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "image.qcow2")
	w, err := disk.CreateQcow2(path, 10*mib, disk.Qcow2Options{Compress: true})
	if err != nil {
		t.Fatal(err)
	}
	want := content(92, 10*mib, 10)
	if _, err := w.WriteAt(want[:5*mib], 0); err != nil {
		t.Fatal(err)
	}
	zipped := compressed(t, w, want)
	if err := w.WriteGrains(zipped[len(zipped)-30:]); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	good := readFile(t, path)
	info, err := disk.CheckQcow2(context.Background(), path)
	if err != nil || info.Compressed != 30 {
		t.Fatalf("%+v, error %v", info, err)
	}
	be := binary.BigEndian
	l1 := int(be.Uint64(good[40:]))
	l2 := int(be.Uint64(good[l1:]) & (1<<56 - 1))
	refs := int(be.Uint64(good[int(be.Uint64(good[48:])):]))
	put := func(off int, v uint64) func([]byte) { return func(p []byte) { be.PutUint64(p[off:], v) } }
	for name, c := range map[string]struct {
		damage func([]byte)
		want   error
	}{
		"another magic":            {put(0, 0), disk.ErrCorrupt},
		"version 9":                {func(p []byte) { be.PutUint32(p[4:], 9) }, disk.ErrUnsupported},
		"backing file":             {put(8, 4096), disk.ErrUnsupported},
		"encryption":               {func(p []byte) { be.PutUint32(p[32:], 1) }, disk.ErrUnsupported},
		"snapshots":                {func(p []byte) { be.PutUint32(p[60:], 1) }, disk.ErrUnsupported},
		"dirty":                    {put(72, 1), disk.ErrCorrupt},
		"unknown feature":          {put(72, 1<<40), disk.ErrUnsupported},
		"level 1 table far away":   {put(40, 1<<40), disk.ErrCorrupt},
		"level 1 table too short":  {func(p []byte) { be.PutUint32(p[36:], 0) }, disk.ErrCorrupt},
		"level 1 table too long":   {func(p []byte) { be.PutUint32(p[36:], 1<<31) }, disk.ErrCorrupt},
		"refcount table far away":  {put(48, 1<<40), disk.ErrCorrupt},
		"level 2 table far away":   {put(l1, 1<<40|1<<63), disk.ErrCorrupt},
		"level 2 table in header":  {put(l1, 1<<63), disk.ErrCorrupt},
		"cluster far away":         {put(l2, 1<<40|1<<63), disk.ErrCorrupt},
		"cluster not aligned":      {put(l2, 1<<20|512|1<<63), disk.ErrCorrupt},
		"cluster used twice":       {put(l2, be.Uint64(good[l2+8:])), disk.ErrCorrupt},
		"cluster lost":             {put(l2, 0), disk.ErrCorrupt},
		"compressed data far away": {put(l2+8*159, 1<<62|1<<40), disk.ErrCorrupt},
		"count too low":            {func(p []byte) { p[refs+1] = 0 }, disk.ErrCorrupt},
		"count too high":           {func(p []byte) { p[refs+1] = 2 }, disk.ErrCorrupt},
		"capacity of 2^63":         {put(24, 1<<63), disk.ErrCorrupt},
	} {
		p := bytes.Clone(good)
		c.damage(p)
		bad := filepath.Join(dir, "bad.qcow2")
		if err := os.WriteFile(bad, p, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := disk.CheckQcow2(context.Background(), bad); !errors.Is(err, c.want) || !strings.Contains(err.Error(), bad) {
			t.Errorf("%s: error %v; want %v that names the file", name, err, c.want)
		}
	}
	if err := os.WriteFile(path, good[:len(good)-3*grain], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := disk.CheckQcow2(context.Background(), path); !errors.Is(err, disk.ErrCorrupt) {
		t.Errorf("cut off: error %v", err)
	}
}
