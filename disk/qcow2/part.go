package qcow2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/disk/internal/block"
	"github.com/hyper2kvm/hyper2kvm/disk/internal/part"
	"github.com/hyper2kvm/hyper2kvm/internal/directio"
)

// A part file has a record of its last checkpoint where the image will have its
// header. Two slots take turns, so that one is whole whenever a crash comes.
//
// The record says how much of the file the checkpoint covers. What came later
// is recognised when the file is opened again, because clusters are only ever
// taken at the end: entries that point behind the covered part are dropped, and
// so is the part itself. Reference counts are then made anew.
const (
	partMagic  = "h2kvPart"
	partFormat = 2    // 1 had no Adler-32 in compressed clusters
	partSlot   = 4096 // offset of the first slot, and the distance to the second
	partRecord = 60   // bytes: magic, six numbers, CRC-32C
)

// partState is what a record holds.
type partState struct {
	gen, capacity, next, dataAt, dataEnd, format uint64
}

func (s *partState) fields() []*uint64 {
	return []*uint64{&s.gen, &s.capacity, &s.next, &s.dataAt, &s.dataEnd, &s.format}
}

func (s *partState) encode() []byte {
	b := append(make([]byte, 0, partRecord), partMagic...)
	for _, v := range s.fields() {
		b = binary.BigEndian.AppendUint64(b, *v)
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

func (s *partState) decode(b []byte) bool {
	body := b[:partRecord-4]
	if string(b[:8]) != partMagic || crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)) != binary.BigEndian.Uint32(b[partRecord-4:]) {
		return false
	}
	for i, v := range s.fields() {
		*v = binary.BigEndian.Uint64(b[8+8*i:])
	}
	return s.format == partFormat
}

// Checkpoint implements [disk.Writer].
func (w *Writer) Checkpoint() error {
	s, err := w.saveTables()
	if err != nil {
		return part.Error("checkpoint", w.file.Path, err)
	}
	if err := w.file.F.Sync(); err != nil {
		return part.Error("sync", w.file.Path, err)
	}
	if _, err := w.file.F.WriteAt(s.encode(), partSlot*int64(1+s.gen%2)); err != nil {
		return part.Error("checkpoint", w.file.Path, err)
	}
	return part.Error("sync", w.file.Path, w.file.F.Sync())
}

// saveTables writes every table and returns the record to follow.
func (w *Writer) saveTables() (partState, error) {
	w.file.Mu.Lock()
	defer w.file.Mu.Unlock()
	if err := w.usable(); err != nil {
		return partState{}, err
	}
	if err := w.writeTables(); err != nil {
		return partState{}, err
	}
	st, err := w.file.F.Stat()
	if err == nil && st.Size() < w.next*clusterSize {
		err = w.file.F.Truncate(w.next * clusterSize)
	}
	w.gen++
	return partState{
		gen: w.gen, capacity: uint64(w.capacity), next: uint64(w.next),
		dataAt: uint64(w.dataAt), dataEnd: uint64(w.dataEnd), format: partFormat,
	}, err
}

// writeTables writes everything that is in memory yet, data first.
func (w *Writer) writeTables() error {
	if err := w.stage.flush(w.file.F); err != nil {
		return err
	}
	if err := w.pages.flush(); err != nil {
		return err
	}
	if err := writeWords(w.file.F, w.l1, w.l1Table); err != nil {
		return err
	}
	return writeWords(w.file.F, w.refs, w.refTable)
}

// writeWords writes a table of big-endian 64-bit words.
func writeWords(f io.WriterAt, words []uint64, off int64) error {
	b := make([]byte, 0, 8*len(words))
	for _, v := range words {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	_, err := f.WriteAt(b, off)
	return err
}

// readWords reads a table of big-endian 64-bit words.
func readWords(f io.ReaderAt, words []uint64, off int64) error {
	b := make([]byte, 8*len(words))
	if _, err := f.ReadAt(b, off); err != nil {
		return err
	}
	for i := range words {
		words[i] = binary.BigEndian.Uint64(b[8*i:])
	}
	return nil
}

// Commit writes the image's header last, so that the file is an image only when
// everything else is durable.
func (w *Writer) Commit() error { return w.file.Complete(w.commit) }

func (w *Writer) commit() error {
	if err := w.usable(); err != nil {
		return err
	}
	if err := w.writeTables(); err != nil {
		return err
	}
	w.trimRun()
	if err := w.file.F.Truncate(w.next * clusterSize); err != nil {
		return err
	}
	if err := w.file.F.Sync(); err != nil {
		return err
	}
	first := make([]byte, clusterSize)
	copy(first, w.header())
	if _, err := w.file.F.WriteAt(first, 0); err != nil {
		return err
	}
	if err := w.file.F.Sync(); err != nil {
		return err
	}
	return w.file.F.Close()
}

// Close implements [disk.Writer].
func (w *Writer) Close() error { return w.file.Close() }

// Discard implements [disk.Writer].
func (w *Writer) Discard() error { return w.file.Discard() }

var _ disk.GrainWriter = (*Writer)(nil)

// Open is [OpenAt] for a path.
func Open(path string, capacity int64, o Options) (*Writer, error) {
	return OpenAt(disk.Path(path), capacity, o)
}

// OpenAt resumes a part file that [CreateAt] made, from its last
// Checkpoint; later writes are lost. disk.ErrNotResumable means that there is no
// checkpoint or that the file is not the part file of such a disk.
func OpenAt(at disk.At, capacity int64, o Options) (*Writer, error) {
	if err := block.CheckCapacity(capacity); err != nil {
		return nil, err
	}
	f, err := part.Open(at)
	if err != nil {
		return nil, part.Error("open", at.String(), err)
	}
	return resume(at, f, capacity, o)
}

// resume takes over a part file.
func resume(at disk.At, f *directio.File, capacity int64, o Options) (*Writer, error) {
	w := newWriter(at, f, capacity, o)
	if err := w.restore(); err != nil {
		_ = w.file.F.Close()
		return nil, part.Error("open", at.String(), err)
	}
	return w, nil
}

func (w *Writer) restore() error {
	s, err := w.lastCheckpoint()
	if err != nil {
		return err
	}
	w.gen, w.next = s.gen, int64(s.next)
	w.dataAt, w.dataEnd = int64(s.dataAt), int64(s.dataEnd)
	if err := w.file.F.Truncate(w.next * clusterSize); err != nil {
		return err
	}
	if err := readWords(w.file.F, w.l1, w.l1Table); err != nil {
		return err
	}
	if err := readWords(w.file.F, w.refs, w.refTable); err != nil {
		return err
	}
	err = w.rebuildRefcounts()
	w.dataAt = w.dataEnd // what room is left stays a hole
	if errors.Is(err, block.ErrCorrupt) {
		err = fmt.Errorf("%w: %w", err, block.ErrNotResumable)
	}
	return err
}

// lastCheckpoint returns the newer valid record, if it fits the disk and the
// file.
func (w *Writer) lastCheckpoint() (partState, error) {
	var best partState
	found := false
	for slot := range int64(2) {
		var b [partRecord]byte
		var s partState
		if _, err := w.file.F.ReadAt(b[:], partSlot*(1+slot)); err != nil && err != io.EOF {
			return best, err
		}
		if s.decode(b[:]) && (!found || s.gen > best.gen) {
			best, found = s, true
		}
	}
	st, err := w.file.F.Stat()
	if err != nil {
		return best, err
	}
	end := best.next * clusterSize
	switch {
	case !found:
		return best, fmt.Errorf("it has no checkpoint: %w", block.ErrNotResumable)
	case best.capacity != uint64(w.capacity):
		return best, fmt.Errorf("it is for a disk of %d bytes, not %d: %w", best.capacity, w.capacity, block.ErrNotResumable)
	case best.next < uint64(w.firstFree), best.next > uint64(w.refBlocks)*blockRefs, uint64(st.Size()) < end,
		best.dataEnd > end, best.dataAt > best.dataEnd:
		return best, fmt.Errorf("its checkpoint does not fit the file of %d bytes: %w", st.Size(), block.ErrNotResumable)
	}
	return best, nil
}
