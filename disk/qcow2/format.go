package qcow2

import (
	"encoding/binary"
	"fmt"

	"github.com/hyper2kvm/hyper2kvm/disk/internal/block"
)

// Values of the qcow2 format, version 3, as this package writes it: clusters of
// 64 KiB, reference counts of 16 bits.
const (
	magic          = "QFI\xfb"
	headerBytes    = 104 // length of the header in bytes
	refcountOrder  = 4   // reference counts have 1<<4 bits
	clusterBits    = 16
	clusterSize    = 1 << clusterBits
	l2Entries      = clusterSize / 8
	blockRefs      = clusterSize / 2      // reference counts in a refcount block
	extraBit       = 62 - clusterBits + 8 // compressed entry: where the sector count begins
	flagCopied     = 1 << 63              // the reference count is exactly one
	flagCompressed = 1 << 62              // the entry is that of a compressed cluster
	flagZero       = 1                    // the cluster reads as zeros
	offsetMask     = 1<<56 - 1<<9         // of plain entries
	minCompressed  = 36                   // least bytes of deflate data and Adler-32; 64 KiB cannot take less than 68
	maxRefcountV3  = 1<<16 - 1
)

// layout is where the tables at fixed places are. Offsets are bytes.
type layout struct {
	capacity   int64
	refTable   int64 // offset of the refcount table
	refBlocks  int64 // its entries
	l1Table    int64 // offset of the level 1 table
	l1Entries  int64
	firstFree  int64 // number of the first cluster behind them
	refTableSz int64 // clusters of the refcount table
}

// layOut lays the fixed tables out. The refcount table has room for a file
// of twice the disk's size, more than any order of writes can need.
func layOut(capacity int64) layout {
	q := layout{capacity: capacity}
	q.l1Entries = block.RoundUp(capacity, clusterSize*l2Entries) / (clusterSize * l2Entries)
	most := 2*capacity + 64*clusterSize
	q.refBlocks = block.RoundUp(block.RoundUp(most, clusterSize*blockRefs)/(clusterSize*blockRefs), clusterSize/8)
	q.refTable = clusterSize
	q.refTableSz = q.refBlocks * 8 / clusterSize
	q.l1Table = q.refTable + q.refTableSz*clusterSize
	q.firstFree = q.l1Table/clusterSize + block.RoundUp(q.l1Entries*8, clusterSize)/clusterSize
	return q
}

// header is the image's header with its end-of-extensions mark.
func (q *layout) header() []byte {
	be := binary.BigEndian
	h := make([]byte, headerBytes+8)
	copy(h, magic)
	be.PutUint32(h[4:], 3)
	be.PutUint32(h[20:], clusterBits)
	be.PutUint64(h[24:], uint64(q.capacity))
	be.PutUint32(h[36:], uint32(q.l1Entries))
	be.PutUint64(h[40:], uint64(q.l1Table))
	be.PutUint64(h[48:], uint64(q.refTable))
	be.PutUint32(h[56:], uint32(q.refTableSz))
	be.PutUint32(h[96:], refcountOrder)
	be.PutUint32(h[100:], headerBytes)
	return h
}

// compressedEntry is the level 2 entry of n bytes of compressed data at off.
func compressedEntry(off int64, n int) uint64 {
	extra := (off+int64(n)-1)>>9 - off>>9
	return flagCompressed | uint64(extra)<<extraBit | uint64(off)
}

// compressedExtent takes the level 2 entry of a compressed cluster apart, in an image
// with clusters of 1<<bits bytes: the data is within the whole sectors from
// start to end, in bytes, and begins at off.
func compressedExtent(entry uint64, bits uint) (off, start, end int64) {
	at := 62 - (bits - 8)
	off = int64(entry & (1<<at - 1))
	extra := int64(entry & (1<<62 - 1) >> at)
	start = off &^ (block.SectorSize - 1)
	return off, start, start + (extra+1)*block.SectorSize
}

// corruptError is an error of an image's content.
func corruptError(path, format string, a ...any) error {
	return fmt.Errorf("qcow2 image %s: %w: %w", path, fmt.Errorf(format, a...), block.ErrCorrupt)
}
