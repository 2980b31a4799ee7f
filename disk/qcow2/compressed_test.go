package qcow2_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/disk/disktest"
	"github.com/hyper2kvm/hyper2kvm/disk/qcow2"
)

// mixed is the content of a disk, in the forms in which it is written: some
// clusters as grains, the others plainly.
type mixed struct {
	grains []disk.Grain
	plain  []int64 // offsets
}

func split(t *testing.T, w *qcow2.Writer, want []byte, seed uint64) mixed {
	t.Helper()
	var m mixed
	zipped := make(map[int64]bool)
	for _, g := range disktest.Grains(t, w, want) {
		zipped[g.Offset] = true
		m.grains = append(m.grains, g)
	}
	for off := int64(0); off < int64(len(want)); off += grain {
		if !zipped[off] {
			m.plain = append(m.plain, off)
		}
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	rng.Shuffle(len(m.grains), func(i, k int) { m.grains[i], m.grains[k] = m.grains[k], m.grains[i] })
	return m
}

// write writes part number part of parts, on several goroutines.
func (m mixed) write(t *testing.T, w *qcow2.Writer, want []byte, part, parts int) {
	t.Helper()
	var wg sync.WaitGroup
	const workers = 4
	for k := range workers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(part), uint64(k)))
			mine := len(m.grains) * (part*workers + k) / (parts * workers)
			end := len(m.grains) * (part*workers + k + 1) / (parts * workers)
			for mine < end {
				n := min(1+rng.IntN(20), end-mine)
				if err := w.WriteGrains(m.grains[mine : mine+n]); err != nil {
					t.Error(err)
				}
				mine += n
			}
		})
	}
	for i := part; i < len(m.plain); i += parts {
		off := m.plain[i]
		if _, err := w.WriteAt(want[off:min(off+grain, int64(len(want)))], off); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
}

func TestGrainsFromManyGoroutinesAmongPlainClustersGiveTheDisk(t *testing.T) {
	t.Parallel()
	want := disktest.Content(81, 40*mib+512, 8)
	dir := t.TempDir()
	source, path := filepath.Join(dir, "source.raw"), filepath.Join(dir, "image")
	disktest.WriteRaw(t, source, want)
	w, err := qcow2.Create(path, int64(len(want)), qcow2.Options{Compress: true})
	if err != nil {
		t.Fatal(err)
	}
	m := split(t, w, want, 1)
	const parts = 4
	for part := range parts {
		m.write(t, w, want, part, parts)
		if err := w.Checkpoint(); err != nil {
			t.Fatal(err)
		}
		// Lost with the crash that follows: what the next part writes again.
		m.write(t, w, want, (part+1)%parts, parts)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if w, err = qcow2.Open(path, int64(len(want)), qcow2.Options{Compress: true}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	disktest.Judge(t, "qcow2", path, source)
}

// A grain is staged, so that the call that stored it may have ended well before
// its bytes could not be written.
func TestAGrainThatCouldNotBeWrittenFailsTheCommit(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "image")
	w, err := qcow2.Create(path, mib, qcow2.Options{Compress: true})
	if err != nil {
		t.Fatal(err)
	}
	g := disktest.Grains(t, w, bytes.Repeat([]byte("grain"), grain/5+1)[:grain])
	if err := w.WriteGrains(g); err != nil {
		t.Fatal(err)
	}
	if err := w.BreakFile(); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(); err == nil {
		t.Error("Commit succeeded")
	}
	if err := w.WriteGrains(g); err == nil {
		t.Error("WriteGrains succeeded after the failure")
	}
	if err := w.Discard(); err != nil {
		t.Errorf("Discard: %v", err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the part file is left: %v", err)
	}
}
