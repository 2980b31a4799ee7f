package disk_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/disk/disktest"
	"github.com/hyper2kvm/hyper2kvm/disk/internal/testvmdk"
	"github.com/hyper2kvm/hyper2kvm/disk/vmdk"
)

// crash is a part file and a Position as they were at a checkpoint or, of the
// file, some time after it.
type crash struct {
	part     string
	position []byte // JSON
}

func TestDecodingGoesOnFromEveryCheckpoint(t *testing.T) {
	t.Parallel()
	want := disktest.Content(51, 33*mib+5*512, 2)
	dir := t.TempDir()
	rawPath := filepath.Join(dir, "source.raw")
	disktest.WriteRaw(t, rawPath, want)
	for layout, stream := range map[vmdk.Layout][]byte{
		vmdk.LayoutTail:  disktest.TailLayout(want, testvmdk.Options{}),
		vmdk.LayoutFront: disktest.ReadFile(t, frontLayout(t, rawPath)),
	} {
		for _, tg := range targets() {
			t.Run(fmt.Sprintf("%s to %s", layout, tg.name), func(t *testing.T) {
				t.Parallel()
				found, whole := crashes(t, stream, tg, int64(len(want)))
				for _, c := range found {
					if sum := resume(t, stream, tg, c, rawPath, int64(len(want))); sum != whole {
						t.Errorf("resumed: %+v, in one go %+v", sum, whole)
					}
				}
			})
		}
	}
}

// crashes decodes a stream and keeps the part file at each checkpoint, with
// the finished part file with the last position. It returns the summary too.
func crashes(t *testing.T, stream []byte, tg target, capacity int64) ([]crash, disk.Summary) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "part")
	w, err := tg.create(path, capacity)
	if err != nil {
		t.Fatal(err)
	}
	var out []crash
	var last []byte
	keep := func(p disk.Position) error {
		var err error
		if last, err = json.Marshal(p); err != nil {
			return err
		}
		out = append(out, crash{clone(t, path, len(out)), last})
		return nil
	}
	sum, err := disk.DecodeStream(context.Background(), bytes.NewReader(stream), w, disk.Options{
		Workers: 2, CheckpointEvery: int64(len(stream)) / 5, OnCheckpoint: keep,
	})
	if err != nil {
		t.Fatal(err)
	}
	// All was written, and the crash comes just before Commit.
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	out = append(out, crash{path, last})
	if len(out) < 5 {
		t.Fatalf("%d checkpoints", len(out))
	}
	return out, sum
}

func clone(t *testing.T, path string, n int) string {
	t.Helper()
	to := fmt.Sprintf("%s.%d", path, n)
	if err := os.WriteFile(to, disktest.ReadFile(t, path), 0o600); err != nil {
		t.Fatal(err)
	}
	return to
}

// resume goes on after a crash and judges the image.
func resume(t *testing.T, stream []byte, tg target, c crash, rawPath string, capacity int64) disk.Summary {
	t.Helper()
	var pos disk.Position
	if err := json.Unmarshal(c.position, &pos); err != nil {
		t.Fatal(err)
	}
	w, err := tg.open(c.part, capacity)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Discard() }()
	// What was hashed before the checkpoint and what is hashed now must be the
	// stream, without gap or overlap.
	hash := sha256.New()
	hash.Write(stream[:pos.StreamOffset])
	sum, err := disk.DecodeStream(context.Background(), bytes.NewReader(stream[pos.StreamOffset:]), w, disk.Options{
		Resume: &pos, Capacity: capacity, Tee: hash,
	})
	if err != nil {
		t.Fatal(err)
	}
	if [32]byte(hash.Sum(nil)) != sha256.Sum256(stream) {
		t.Errorf("from byte %d: the bytes passed on are not those of the stream", pos.StreamOffset)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	disktest.Judge(t, tg.format, c.part, rawPath)
	return sum
}

func TestTheTeeIsExactAtEachCheckpoint(t *testing.T) {
	t.Parallel()
	stream := disktest.TailLayout(disktest.Content(61, 4*mib, 10), testvmdk.Options{})
	var tee bytes.Buffer
	n := 0
	_, err := disk.DecodeStream(context.Background(), bytes.NewReader(stream), nil, disk.Options{
		Tee: &tee, CheckpointEvery: 1000,
		OnCheckpoint: func(p disk.Position) error {
			n++
			if int64(tee.Len()) != p.StreamOffset {
				t.Errorf("%d bytes passed on at a checkpoint at byte %d", tee.Len(), p.StreamOffset)
			}
			return nil
		},
	})
	if err != nil || n < 10 || !bytes.Equal(tee.Bytes(), stream) {
		t.Errorf("%d checkpoints, %d bytes passed on, error %v", n, tee.Len(), err)
	}
}

func TestPositionsThatDoNotFitAreRefused(t *testing.T) {
	t.Parallel()
	good := disk.Position{
		Geometry:     vmdk.Geometry{Layout: vmdk.LayoutTail, Version: 3, Capacity: 1 * mib, GrainSize: grain},
		StreamOffset: 128 * 512,
	}
	for name, spoil := range map[string]func(*disk.Position){
		"no layout":         func(p *disk.Position) { p.Layout = "" },
		"odd offset":        func(p *disk.Position) { p.StreamOffset = 100 },
		"negative offset":   func(p *disk.Position) { p.StreamOffset = -512 },
		"odd sector":        func(p *disk.Position) { p.LBA = 3 },
		"huge grain":        func(p *disk.Position) { p.GrainSize = 1 << 40 },
		"negative capacity": func(p *disk.Position) { p.Capacity = -512 },
	} {
		p := good
		spoil(&p)
		if _, err := disk.DecodeStream(context.Background(), bytes.NewReader(nil), nil, disk.Options{Resume: &p}); !errors.Is(err, disk.ErrNotResumable) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestPartFilesThatDoNotFitAreRefused(t *testing.T) {
	t.Parallel()
	for _, tg := range targets() {
		dir := t.TempDir()
		path := filepath.Join(dir, "part")
		w, err := tg.create(path, 10*mib)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Checkpoint(); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := tg.open(path, 20*mib); !errors.Is(err, disk.ErrNotResumable) {
			t.Errorf("%s of another capacity: error %v", tg.name, err)
		}
		if err := os.Truncate(path, 1000); err != nil {
			t.Fatal(err)
		}
		if _, err := tg.open(path, 10*mib); !errors.Is(err, disk.ErrNotResumable) {
			t.Errorf("%s, truncated: error %v", tg.name, err)
		}
		if _, err := tg.open(filepath.Join(dir, "none"), 10*mib); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s that is not there: error %v", tg.name, err)
		}
	}
}
