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

// At says where a file is: at a path, or below a directory that is open.
type At = directio.At

// Path is the place of a file that only its path is known of.
func Path(path string) At { return directio.Path(path) }

// CreateRaw is [CreateRawAt] for a path.
func CreateRaw(path string, capacity int64) (*Raw, error) { return CreateRawAt(Path(path), capacity) }

// CreateRawAt makes a sparse file of capacity bytes, a multiple of 512, replacing
// what is there.
func CreateRawAt(at At, capacity int64) (*Raw, error) {
	if err := block.CheckCapacity(capacity); err != nil {
		return nil, err
	}
	f, err := part.Create(at)
	if err != nil {
		return nil, part.Error("create", at.String(), err)
	}
	return createRaw(at, f, capacity)
}

// createRaw begins an image in an empty file, which it takes over.
func createRaw(at At, f *directio.File, capacity int64) (*Raw, error) {
	if err := f.Truncate(capacity); err != nil {
		_ = part.Discard(f, at)
		return nil, part.Error("create", at.String(), err)
	}
	return &Raw{file: part.File{At: at, Path: at.String(), F: f}, capacity: capacity}, nil
}

// OpenRaw is [OpenRawAt] for a path.
func OpenRaw(path string, capacity int64) (*Raw, error) { return OpenRawAt(Path(path), capacity) }

// OpenRawAt resumes a file that [CreateRawAt] made. A file of another size
// gives ErrNotResumable. A raw file does not tell how far its checkpoint came:
// the caller keeps that ([Position]).
func OpenRawAt(at At, capacity int64) (*Raw, error) {
	if err := block.CheckCapacity(capacity); err != nil {
		return nil, err
	}
	f, err := part.Open(at)
	if err != nil {
		return nil, part.Error("open", at.String(), err)
	}
	st, err := f.Stat()
	if err == nil && (!st.Mode().IsRegular() || st.Size() != capacity) {
		err = fmt.Errorf("not a raw image of %d bytes: %w", capacity, ErrNotResumable)
	}
	if err != nil {
		_ = f.Close()
		return nil, part.Error("open", at.String(), err)
	}
	return &Raw{file: part.File{At: at, Path: at.String(), F: f}, capacity: capacity}, nil
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
