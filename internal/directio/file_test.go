package directio

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// refusing is a file system's direct writes where it has none after all.
type refusing struct{ asked int }

func (r *refusing) WriteAt([]byte, int64) (int, error) { r.asked++; return 0, syscall.EINVAL }
func (r *refusing) Close() error                       { return nil }

func TestAFileSystemThatRefusesADirectWriteGetsAnOrdinaryOne(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	plain, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	f := NewFile(plain)
	if f.direct != nil {
		_ = f.direct.Close()
	}
	r := &refusing{}
	f.direct = r
	p := Buffer(2 * least)
	copy(p, noise(5, len(p)))
	for off := 0; off < len(p); off += least {
		if _, err := f.WriteAt(p[off:off+least], int64(off)); err != nil {
			t.Fatal(err)
		}
	}
	if r.asked != 1 {
		t.Errorf("%d direct writes were tried, want one", r.asked)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	mustHold(t, path, p)
}
