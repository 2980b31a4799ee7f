package qcow2_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zlib"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/disk/disktest"
	"github.com/hyper2kvm/hyper2kvm/disk/internal/testvmdk"
	"github.com/hyper2kvm/hyper2kvm/disk/qcow2"
)

// transplanted is an image made of a stream's grains as they are.
func transplanted(t *testing.T, want []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	w, err := qcow2.Create(path, int64(len(want)), qcow2.Options{Compress: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Discard() }()
	stream := disktest.TailLayout(want, testvmdk.Options{})
	if _, err := disk.DecodeStream(context.Background(), bytes.NewReader(stream), w, disk.Options{}); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	return path
}

// compressedAt are the offsets in an image's file of its compressed clusters.
func compressedAt(image []byte) []int64 {
	be := binary.BigEndian
	l1 := be.Uint64(image[40:])
	l2 := be.Uint64(image[l1:]) & (1<<56 - 1<<9)
	var out []int64
	for i := range uint64(grain / 8) {
		if e := be.Uint64(image[l2+8*i:]); e&(1<<62) != 0 {
			out = append(out, int64(e&(1<<54-1)))
		}
	}
	return out
}

func TestDataOfGoodImagesPassesTheCheck(t *testing.T) {
	t.Parallel()
	want := disktest.Content(93, 9*mib+512, 8)
	path := transplanted(t, want)
	var passed []int64
	info, err := qcow2.CheckData(context.Background(), path, qcow2.CheckOptions{
		Adler: true, Workers: 3, OnPosition: func(n int64) { passed = append(passed, n) },
	})
	if err != nil || info.Compressed < 50 {
		t.Errorf("%+v, error %v", info, err)
	}
	for i, n := range passed {
		if i > 0 && n < passed[i-1] || n > int64(len(want)) {
			t.Errorf("position %d after %v", n, passed[:i])
		}
	}
	if len(passed) < 3 || passed[len(passed)-1] != int64(len(want)) {
		t.Errorf("positions %v; want the last one to be %d", passed, len(want))
	}
}

func TestDataOfQemusImagesPassesTheCheck(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	source, path := filepath.Join(dir, "source.raw"), filepath.Join(dir, "image.qcow2")
	disktest.WriteRaw(t, source, disktest.Content(94, 5*mib+512, 8))
	for _, size := range []string{"512", "4k", "64k", "2M"} {
		disktest.QemuImg(t, "convert", "-c", "-f", "raw", "-O", "qcow2", "-o", "cluster_size="+size, source, path)
		if info, err := qcow2.CheckData(context.Background(), path, qcow2.CheckOptions{}); err != nil || info.Compressed == 0 {
			t.Errorf("clusters of %s: %+v, error %v", size, info, err)
		}
	}
}

func TestEveryFlippedBitOfACompressedClusterIsFoundByItsAdler32(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(95, 1))
	want := make([]byte, 2*mib) // every grain of it deflates, so that clusters have no gaps
	for i := range want {
		want[i] = byte(rng.IntN(1 + i/grain))
	}
	path := transplanted(t, want)
	good := disktest.ReadFile(t, path)
	clusters := compressedAt(good)
	slices.Sort(clusters)
	for range 200 {
		k := rng.IntN(len(clusters) - 1)
		at := clusters[k] + rng.Int64N(clusters[k+1]-clusters[k])
		bad := bytes.Clone(good)
		bad[at] ^= 1 << rng.IntN(8)
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := qcow2.CheckData(context.Background(), path, qcow2.CheckOptions{Adler: true})
		if !errors.Is(err, disk.ErrCorrupt) || !strings.Contains(err.Error(), "of the disk") || !strings.Contains(err.Error(), path) {
			t.Fatalf("a bit of byte %d, of the cluster at %d, flipped: error %v", at, clusters[k], err)
		}
		if _, err := qcow2.Check(context.Background(), path); err != nil {
			t.Fatalf("the check of the structure looks at data: %v", err)
		}
	}
}

// A grain over 256 bytes is stored without a look at what it inflates to.
func TestAGrainThatIsNoClusterIsFound(t *testing.T) {
	t.Parallel()
	for _, n := range []int{grain - 1, grain + 1, 40_000, 0} {
		path := filepath.Join(t.TempDir(), "image")
		w, err := qcow2.Create(path, mib, qcow2.Options{Compress: true})
		if err != nil {
			t.Fatal(err)
		}
		var z bytes.Buffer
		zw := zlib.NewWriter(&z)
		for i := range n {
			if _, err := zw.Write([]byte{byte(i) ^ byte(i>>8)}); err != nil {
				t.Fatal(err)
			}
		}
		if err := zw.Close(); err != nil {
			t.Fatal(err)
		}
		z.Write(make([]byte, 300)) // longer than what is inflated to look for zeros
		if err := w.WriteGrains([]disk.Grain{{Offset: grain, Zlib: z.Bytes()}}); err != nil {
			t.Fatal(err)
		}
		if err := w.Commit(); err != nil {
			t.Fatal(err)
		}
		if _, err := qcow2.CheckData(context.Background(), path, qcow2.CheckOptions{}); !errors.Is(err, disk.ErrCorrupt) {
			t.Errorf("a cluster of %d bytes: error %v", n, err)
		}
	}
}

func TestACheckOfDataEndsWithItsContext(t *testing.T) {
	t.Parallel()
	path := transplanted(t, disktest.Content(96, 16*mib, 9))
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(context.Background())
	_, err := qcow2.CheckData(ctx, path, qcow2.CheckOptions{Workers: 1, OnPosition: func(int64) { cancel(why) }})
	if !errors.Is(err, why) {
		t.Errorf("error %v", err)
	}
}
