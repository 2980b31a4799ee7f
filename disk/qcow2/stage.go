package qcow2

import (
	"io"
	"sync"

	"github.com/hyper2kvm/hyper2kvm/internal/directio"
)

// runClusters is how many clusters are taken at a time for compressed data.
const runClusters = 16

// stage gathers compressed clusters, which have any length, into blocks that
// can be written directly. put and flush are guarded by the image's lock; write
// is not, so that several blocks are on their way at once.
type stage struct {
	cur    *stagedBlock // being filled; nil at first
	free   sync.Pool    // *stagedBlock
	flying sync.WaitGroup
}

// stagedBlock is a part of the file.
type stagedBlock struct {
	at  int64 // offset in the file, a multiple of [directio.Align]
	n   int
	buf []byte // runClusters clusters, aligned
}

// put adds data that is to lie at offset at of the file. It appends the blocks
// that are complete with it to full: they have to be passed to write.
func (s *stage) put(full []*stagedBlock, z []byte, at int64) []*stagedBlock {
	if s.cur != nil && at != s.cur.at+int64(s.cur.n) {
		full = s.complete(full)
	}
	for len(z) > 0 {
		if s.cur == nil {
			s.cur = s.take(at)
		}
		n := copy(s.cur.buf[s.cur.n:], z)
		s.cur.n += n
		z, at = z[n:], at+int64(n)
		if s.cur.n == len(s.cur.buf) {
			full = s.complete(full)
		}
	}
	return full
}

// take returns an empty block. at is the start of a cluster, or where a block
// ended.
func (s *stage) take(at int64) *stagedBlock {
	b, _ := s.free.Get().(*stagedBlock)
	if b == nil {
		b = &stagedBlock{buf: directio.Buffer(runClusters * clusterSize)}
	}
	b.at, b.n = at, 0
	return b
}

// complete makes the current block one that has to be written.
func (s *stage) complete(full []*stagedBlock) []*stagedBlock {
	s.flying.Add(1)
	full, s.cur = append(full, s.cur), nil
	return full
}

// padded is the block's data with zeros up to a length that can be written
// directly. The zeros lie in clusters that were taken for compressed data.
func (b *stagedBlock) padded() []byte {
	n := (b.n + directio.Align - 1) / directio.Align * directio.Align
	clear(b.buf[b.n:n])
	return b.buf[:n]
}

// write writes blocks. The file keeps a failure, so that a later flush fails too.
func (s *stage) write(f io.WriterAt, full []*stagedBlock) error {
	var failed error
	for _, b := range full {
		if failed == nil {
			_, failed = f.WriteAt(b.padded(), b.at)
		}
		s.free.Put(b)
		s.flying.Done()
	}
	return failed
}

// flush waits for the blocks on their way and writes the one that is not full,
// which goes to the same place again later.
func (s *stage) flush(f io.WriterAt) error {
	s.flying.Wait()
	if s.cur == nil {
		return nil
	}
	_, err := f.WriteAt(s.cur.padded(), s.cur.at)
	return err
}
