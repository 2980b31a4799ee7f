package directio

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// noise returns n bytes that depend on seed.
func noise(seed byte, n int) []byte {
	p := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(p)
	return p
}

// appendAll writes p in pieces of uneven size, with a Sync now and then.
func appendAll(t *testing.T, a *Appender, p []byte) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, uint64(len(p))))
	for len(p) > 0 {
		n := min(len(p), 1+r.IntN(700<<10))
		if m, err := a.Write(p[:n]); m != n || err != nil {
			t.Fatalf("wrote %d of %d bytes: %v", m, n, err)
		}
		p = p[n:]
		if r.IntN(5) == 0 {
			if err := a.Sync(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func finishAppend(t *testing.T, a *Appender) {
	t.Helper()
	if err := errors.Join(a.Sync(), a.Close()); err != nil {
		t.Fatal(err)
	}
}

func mustHold(t *testing.T, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("the file has %d bytes, which are not the %d that were written", len(got), len(want))
	}
}

func TestAFileWrittenInPiecesHasTheBytesOfThePieces(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, Align - 1, appendBlock, 3*appendBlock + Align, 7*appendBlock + 513} {
		path := filepath.Join(t.TempDir(), "part")
		want := noise(1, size)
		a, err := OpenAppender(path, 0)
		if err != nil {
			t.Fatal(err)
		}
		appendAll(t, a, want)
		finishAppend(t, a)
		mustHold(t, path, want)
	}
}

func TestWhatWasSyncedIsThereForTheNextRunToGoOnFrom(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "part")
	want := noise(2, 5*appendBlock+512)
	off := 0
	for _, stop := range []int{512, appendBlock - 512, 2*appendBlock + 1024, 4 * appendBlock, len(want)} {
		a, err := OpenAppender(path, int64(off))
		if err != nil {
			t.Fatal(err)
		}
		appendAll(t, a, want[off:stop])
		if err := a.Sync(); err != nil {
			t.Fatal(err)
		}
		mustHold(t, path, want[:stop])
		if stop < len(want) { // never synced
			if _, err := a.Write(noise(3, appendBlock)); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.HasPrefix(got, want[:stop]) {
			t.Fatalf("after Close the file has lost what was synced: %v", err)
		}
		off = stop
	}
	mustHold(t, path, want)
}

func TestAPartFileShorterThanItsCheckpointIsNotGoneOnFrom(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "part")
	if err := os.WriteFile(path, noise(4, 600), 0o600); err != nil {
		t.Fatal(err)
	}
	if a, err := OpenAppender(path, 1024); err == nil {
		t.Errorf("opened at byte 1024 of 600: %v", a.Close())
	}
}

func TestAFailedWriteIsReportedAndNothingFollowsIt(t *testing.T) {
	t.Parallel()
	a, err := OpenAppender(filepath.Join(t.TempDir(), "part"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.f.Close(); err != nil { // every write fails from now on
		t.Fatal(err)
	}
	n, err := a.Write(make([]byte, (appendBlocks+2)*appendBlock))
	if err == nil || n > (appendBlocks+1)*appendBlock {
		t.Errorf("wrote %d bytes to a closed file: %v", n, err)
	}
	if err := a.Sync(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Sync after the failure: %v", err)
	}
	if err := a.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Close: %v", err)
	}
	if err := a.Close(); err != nil {
		t.Errorf("the second Close: %v", err)
	}
}

// syncWriter is what both files of the benchmark are.
type syncWriter interface {
	io.WriteCloser
	Sync() error
}

func BenchmarkAppend(b *testing.B) {
	p := noise(6, 256<<10)
	for _, bc := range []struct {
		name string
		open func(path string) (syncWriter, error)
	}{
		{"direct", func(path string) (syncWriter, error) { return OpenAppender(path, 0) }},
		{"cached", func(path string) (syncWriter, error) { return os.Create(path) }},
	} {
		b.Run(bc.name, func(b *testing.B) {
			f, err := bc.open(filepath.Join(b.TempDir(), "part"))
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(p)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := f.Write(p); err != nil {
					b.Fatal(err)
				}
			}
			if err := errors.Join(f.Sync(), f.Close()); err != nil {
				b.Fatal(err)
			}
		})
	}
}
