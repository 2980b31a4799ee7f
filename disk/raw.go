package disk

import (
	"fmt"
	"os"

	"github.com/hyper2kvm/hyper2kvm/internal/directio"
)

// Raw writes a raw image: byte n of the file is byte n of the disk. What is
// never written stays a hole. It implements [Writer].
type Raw struct {
	partFile
	capacity int64
}

// CreateRaw makes a sparse file of capacity bytes, a multiple of 512, at path,
// replacing what is there.
func CreateRaw(path string, capacity int64) (*Raw, error) {
	if err := checkCapacity(capacity); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, partMode)
	if err != nil {
		return nil, fileError("create", path, err)
	}
	if err := f.Truncate(capacity); err != nil {
		_ = f.Close()
		_ = os.Remove(path)
		return nil, fileError("create", path, err)
	}
	return &Raw{partFile: partFile{path: path, f: directio.NewFile(f)}, capacity: capacity}, nil
}

// OpenRaw goes on with a file that [CreateRaw] made. A file of another size
// gives ErrNotResumable. A raw file does not tell how far its checkpoint came:
// the caller keeps that ([Position]).
func OpenRaw(path string, capacity int64) (*Raw, error) {
	if err := checkCapacity(capacity); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fileError("open", path, err)
	}
	st, err := f.Stat()
	if err == nil && (!st.Mode().IsRegular() || st.Size() != capacity) {
		err = fmt.Errorf("not a raw image of %d bytes: %w", capacity, ErrNotResumable)
	}
	if err != nil {
		_ = f.Close()
		return nil, fileError("open", path, err)
	}
	return &Raw{partFile: partFile{path: path, f: directio.NewFile(f)}, capacity: capacity}, nil
}

// WriteAt implements [io.WriterAt].
func (w *Raw) WriteAt(p []byte, off int64) (int, error) {
	if err := checkRange(w.path, off, len(p), w.capacity); err != nil {
		return 0, err
	}
	n, err := w.f.WriteAt(p, off)
	return n, fileError("write", w.path, err)
}

// Checkpoint makes everything written durable.
func (w *Raw) Checkpoint() error { return fileError("sync", w.path, w.f.Sync()) }

// Commit makes the file durable and closes it.
func (w *Raw) Commit() error {
	return w.complete(func() error {
		if err := w.f.Sync(); err != nil {
			return err
		}
		return w.f.Close()
	})
}
