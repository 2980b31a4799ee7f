package vmdk

import (
	"encoding/binary"
	"fmt"

	"github.com/hyper2kvm/hyper2kvm/disk/internal/block"
)

// TableSums compares the grains seen in a stream with what its grain tables and
// directory list, in little memory: sums of hashes of (grain, sector) pairs
// stand for the sets.
//
// In [LayoutFront] the tables come first: Listed is their sum, Seen that of the
// grains, and both must agree at the end.
//
// In [LayoutTail] each table comes after its grains, and does not say which it
// is. So the tables with grains are kept in order in Pending, each until the
// next table in the stream confirms it; then only the pair (table, sector) is
// left of it, in Confirmed. The directory must list the same pairs for all
// tables with grains, which Used marks.
type TableSums struct {
	Listed      uint64         `json:"listed,omitempty"`
	ListedCount int64          `json:"listed_count,omitempty"`
	Seen        uint64         `json:"seen,omitempty"`
	Confirmed   uint64         `json:"confirmed,omitempty"`
	Used        []byte         `json:"used,omitempty"` // bit i%8 of byte i/8: table i has grains
	Pending     []PendingTable `json:"pending,omitempty"`
	Directory   int64          `json:"directory,omitempty"` // its sector in the stream, 0 until known
}

// PendingTable is a grain table that has grains and was not yet met itself.
type PendingTable struct {
	Table int64  `json:"table"` // index in the grain directory
	Sum   uint64 `json:"sum"`
}

// mix hashes a pair of numbers.
func mix(index, sector uint64) uint64 {
	x := index*0x9e3779b97f4a7c15 ^ (sector+1)*0xc2b2ae3d27d4eb4f
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// used tells whether table i has grains.
func (t *TableSums) used(i int64) bool {
	return i/8 < int64(len(t.Used)) && t.Used[i/8]&(1<<(i%8)) != 0
}

// grain counts grain number index, whose marker is at the given sector of the
// stream. Table entries hold 32 bits of a sector number.
func (t *TableSums) grain(layout Layout, index, sector int64) error {
	h := mix(uint64(index), uint64(uint32(sector)))
	if layout == LayoutFront {
		t.Seen += h
		return nil
	}
	table := index / tableEntries
	if n := len(t.Pending); n > 0 && t.Pending[n-1].Table == table {
		t.Pending[n-1].Sum += h
		return nil
	}
	if t.used(table) {
		return fmt.Errorf("grain after the grain table that should list it: %w", block.ErrCorrupt)
	}
	for int64(len(t.Used)) <= table/8 {
		t.Used = append(t.Used, 0)
	}
	t.Used[table/8] |= 1 << (table % 8)
	t.Pending = append(t.Pending, PendingTable{Table: table, Sum: h})
	return nil
}

// sumTable returns the sum and number of the grains that a grain table lists,
// if it is table number table. Entries of 0 and 1 mean that there is no grain,
// or one of zeros.
func sumTable(entries []byte, table int64) (sum uint64, n int64) {
	for i := 0; i+8 <= len(entries); i += 8 {
		pair := binary.LittleEndian.Uint64(entries[i:])
		if pair == 0 {
			continue
		}
		first := uint64(table)*tableEntries + uint64(i/4)
		for k, e := range [2]uint32{uint32(pair), uint32(pair >> 32)} {
			if e > 1 {
				sum += mix(first+uint64(k), uint64(e))
				n++
			}
		}
	}
	return sum, n
}

// list takes in table number table of [LayoutFront].
func (t *TableSums) list(entries []byte, table int64) {
	sum, n := sumTable(entries, table)
	t.Listed += sum
	t.ListedCount += n
}

// confirm compares a table met in the stream, at the given sector, with the
// first pending one.
func (t *TableSums) confirm(entries []byte, sector int64) error {
	if _, n := sumTable(entries, 0); n == 0 {
		return nil
	}
	if len(t.Pending) == 0 {
		return fmt.Errorf("grain table lists grains that are not in the stream: %w", block.ErrCorrupt)
	}
	p := t.Pending[0]
	if sum, _ := sumTable(entries, p.Table); sum != p.Sum {
		return fmt.Errorf("grain table %d does not list the grains that are in the stream: %w", p.Table, block.ErrCorrupt)
	}
	t.Confirmed += mix(uint64(p.Table), uint64(uint32(sector)))
	if len(t.Pending) <= 16 {
		t.Pending = append(t.Pending[:0], t.Pending[1:]...)
	} else {
		t.Pending = t.Pending[1:]
	}
	return nil
}

// listDirectory adds entries of the grain directory, from number first on, to a
// sum to be compared with Confirmed.
func (t *TableSums) listDirectory(entries []byte, first int64) (sum uint64) {
	for i := 0; i+4 <= len(entries); i += 4 {
		table := first + int64(i/4)
		if t.used(table) {
			sum += mix(uint64(table), uint64(binary.LittleEndian.Uint32(entries[i:])))
		}
	}
	return sum
}
