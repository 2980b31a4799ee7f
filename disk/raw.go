package disk

import (
	"fmt"

	"github.com/hyper2kvm/hyper2kvm/disk/internal/block"
	"github.com/hyper2kvm/hyper2kvm/disk/internal/part"
	"github.com/hyper2kvm/hyper2kvm/internal/directio"
)

// Raw writes a raw image: byte n of the file is byte n of the disk. What is
// never written stays a hole. It implements [Writer].
type Raw struct {
	file     part.File
	capacity int64
}

// CreateRaw makes a sparse file of capacity bytes, a multiple of 512, at path,
// replacing what is there.
func CreateRaw(path string, capacity int64) (*Raw, error) {
	if err := block.CheckCapacity(capacity); err != nil {
		return nil, err
	}
	f, err := part.Create(path)
	if err != nil {
		return nil, part.Error("create", path, err)
	}
	return createRaw(path, f, capacity)
}

// createRaw begins an image in an empty file, which it takes over.
func createRaw(path string, f *directio.File, capacity int64) (*Raw, error) {
	if err := f.Truncate(capacity); err != nil {
		_ = part.Discard(f, path)
		return nil, part.Error("create", path, err)
	}
	return &Raw{file: part.File{Path: path, F: f}, capacity: capacity}, nil
}

// OpenRaw resumes a file that [CreateRaw] made. A file of another size
// gives ErrNotResumable. A raw file does not tell how far its checkpoint came:
// the caller keeps that ([Position]).
func OpenRaw(path string, capacity int64) (*Raw, error) {
	if err := block.CheckCapacity(capacity); err != nil {
		return nil, err
	}
	f, err := part.Open(path)
	if err != nil {
		return nil, part.Error("open", path, err)
	}
	st, err := f.Stat()
	if err == nil && (!st.Mode().IsRegular() || st.Size() != capacity) {
		err = fmt.Errorf("not a raw image of %d bytes: %w", capacity, ErrNotResumable)
	}
	if err != nil {
		_ = f.Close()
		return nil, part.Error("open", path, err)
	}
	return &Raw{file: part.File{Path: path, F: f}, capacity: capacity}, nil
}

// WriteAt implements [io.WriterAt].
func (w *Raw) WriteAt(p []byte, off int64) (int, error) {
	if err := w.file.CheckRange(off, len(p), w.capacity); err != nil {
		return 0, err
	}
	n, err := w.file.F.WriteAt(p, off)
	return n, part.Error("write", w.file.Path, err)
}

// Checkpoint makes everything written durable.
func (w *Raw) Checkpoint() error { return part.Error("sync", w.file.Path, w.file.F.Sync()) }

// Commit makes the file durable and closes it.
func (w *Raw) Commit() error {
	return w.file.Complete(func() error {
		if err := w.file.F.Sync(); err != nil {
			return err
		}
		return w.file.F.Close()
	})
}

// Close implements [Writer].
func (w *Raw) Close() error { return w.file.Close() }

// Discard implements [Writer].
func (w *Raw) Discard() error { return w.file.Discard() }

var _ Writer = (*Raw)(nil)
