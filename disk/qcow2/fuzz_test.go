package qcow2_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/disk/disktest"
	"github.com/hyper2kvm/hyper2kvm/disk/internal/testvmdk"
	"github.com/hyper2kvm/hyper2kvm/disk/qcow2"
)

// FuzzQcow2 damages images and part files: patch holds records of an offset and
// a word to be put there, and cut shortens the file. The check must find it
// good, corrupt or unsupported; OpenQcow2 must refuse it, or go on with it to an
// image that passes the check.
func FuzzQcow2(f *testing.F) {
	const capacity = 600*mib + 512
	bases := partFiles(f, capacity)
	f.Add(uint8(0), []byte{}, uint32(0))
	f.Add(uint8(1), []byte{0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0}, uint32(0))
	f.Add(uint8(2), []byte{0, 3, 0, 8, 0x80, 0, 0, 0, 0, 5, 0, 0}, uint32(1))
	f.Add(uint8(3), []byte{0, 0, 0, 40, 0, 0, 0, 0, 0, 1, 0, 0}, uint32(70000))
	f.Fuzz(func(t *testing.T, base uint8, patch []byte, cut uint32) {
		p := bytes.Clone(bases[int(base)%len(bases)])
		for ; len(patch) >= 12; patch = patch[12:] {
			copy(p[int(binary.BigEndian.Uint32(patch))%len(p):], patch[4:12])
		}
		p = p[:len(p)-int(cut)%len(p)]
		path := filepath.Join(t.TempDir(), "image")
		if err := os.WriteFile(path, p, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := qcow2.CheckData(context.Background(), path, qcow2.CheckOptions{Workers: 2, Adler: true}); err != nil &&
			!errors.Is(err, disk.ErrCorrupt) && !errors.Is(err, disk.ErrUnsupported) {
			t.Fatalf("check: error %v", err)
		}
		w, err := qcow2.Open(path, capacity, qcow2.Options{})
		if err != nil {
			if !errors.Is(err, disk.ErrNotResumable) {
				t.Fatalf("open: error %v", err)
			}
			return
		}
		defer func() { _ = w.Discard() }()
		if _, err := w.WriteAt([]byte("more data"), 3*grain); err != nil && !errors.Is(err, disk.ErrUnsupported) {
			t.Fatalf("write: error %v", err)
		}
		if err := w.Commit(); err != nil {
			t.Fatal(err)
		}
		if _, err := qcow2.Check(context.Background(), path); err != nil {
			t.Fatalf("committed image: %v", err)
		}
	})
}

// partFiles are a part file and its image, plain and with compressed clusters.
func partFiles(f *testing.F, capacity int64) [][]byte {
	path := filepath.Join(f.TempDir(), "part")
	var out [][]byte
	for _, compress := range []bool{false, true} {
		w, err := qcow2.Create(path, capacity, qcow2.Options{Compress: compress})
		if err != nil {
			f.Fatal(err)
		}
		for _, off := range []int64{mib - 3, 550 * mib} {
			if _, err := w.WriteAt([]byte("some data"), off); err != nil {
				f.Fatal(err)
			}
		}
		z := disktest.TailLayout(bytes.Repeat([]byte("ab"), grain), testvmdk.Options{})
		if compress {
			if _, err := disk.DecodeStream(context.Background(), bytes.NewReader(z), w, disk.Options{}); err != nil {
				f.Fatal(err)
			}
		}
		if err := w.Checkpoint(); err != nil {
			f.Fatal(err)
		}
		out = append(out, disktest.ReadFile(f, path))
		if err := w.Commit(); err != nil {
			f.Fatal(err)
		}
		out = append(out, disktest.ReadFile(f, path))
	}
	return out
}
