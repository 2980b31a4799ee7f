package migrate

import (
	"bytes"
	"slices"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/transfer"
)

// writes remembers where something was written.
type writes struct {
	disk []byte
	at   []transfer.Area
}

func (w *writes) WriteAt(p []byte, off int64) (int, error) {
	w.at = append(w.at, transfer.Area{Offset: off, Length: int64(len(p))})
	return copy(w.disk[off:], p), nil
}

func TestBlocksOfZerosAreNotWritten(t *testing.T) {
	t.Parallel()
	const k = zeroBlock
	p := make([]byte, 5*k)
	p[0], p[3*k+1], p[4*k] = 1, 1, 1
	for _, off := range []int64{0, k, k - 512} {
		w := &writes{disk: make([]byte, 8*k)}
		if err := writeData(w, p, off); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(w.disk[off:off+int64(len(p))], p) {
			t.Errorf("at %d: the disk differs", off)
		}
		if off%k == 0 && !slices.Equal(w.at, []transfer.Area{{Offset: off, Length: k}, {Offset: off + 3*k, Length: 2 * k}}) {
			t.Errorf("at %d: written were %v", off, w.at)
		}
	}
}
