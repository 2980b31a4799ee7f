// Package testvmdk writes stream-optimized VMDKs in the layout of an ESXi host,
// for tests: tables behind their grains, then the directory, a footer and the
// end-of-stream marker.
package testvmdk

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"iter"

	"github.com/klauspost/compress/zlib"
)

const sector = 512

// Disk is what is to be written. Grains yields the number and content of each
// grain that is not a hole, in ascending order.
type Disk struct {
	Capacity int64 // bytes
	Grains   iter.Seq2[int64, []byte]
}

// Sparse is a disk that has one grain of 64 KiB in every stride bytes, each with
// another content.
func Sparse(capacity, stride int64) Disk {
	const grain = 64 << 10
	p := make([]byte, grain)
	return Disk{Capacity: capacity, Grains: func(yield func(int64, []byte) bool) {
		for off := int64(0); off < capacity; off += stride {
			binary.BigEndian.PutUint64(p, uint64(off)+1)
			if !yield(off/grain, p) {
				return
			}
		}
	}}
}

// Options change the stream. The zero value gives what a host sends.
type Options struct {
	GrainSize   int64 // bytes; 0 is 64 KiB
	Level       int   // of zlib; 0 is the default
	EmptyTables bool  // write a table, without entries, for holes as well
	Progress    bool  // put a progress marker before each table
	KnownGD     bool  // the header tells where the directory is
	KeepZeros   bool  // write grains of zeros too
	TablesLast  bool  // write all tables behind all grains
	Repeat      bool  // every grain is like the first: compress only that
	Compact     bool  // no padding before the first grain
	Descriptor  string
}

// Bytes makes a Disk of a whole disk's content.
func Bytes(p []byte, grain int64) Disk {
	return Disk{Capacity: int64(len(p)), Grains: func(yield func(int64, []byte) bool) {
		for off := int64(0); off < int64(len(p)); off += grain {
			if !yield(off/grain, p[off:min(off+grain, int64(len(p)))]) {
				return
			}
		}
	}}
}

// Encode returns the stream of a disk.
func Encode(d Disk, o Options) []byte {
	var b bytes.Buffer
	if err := Write(&b, d, o); err != nil {
		panic(err) // a Buffer takes everything
	}
	return b.Bytes()
}

// Write writes the stream of a disk to w.
func Write(w io.Writer, d Disk, o Options) error {
	if o.GrainSize == 0 {
		o.GrainSize = 64 << 10
	}
	if o.Level == 0 {
		o.Level = zlib.DefaultCompression
	}
	e := &encoder{w: w, d: d, o: o}
	if !o.KnownGD {
		return e.run(1<<64 - 1)
	}
	e.w = io.Discard
	if err := e.run(1); err != nil {
		return err
	}
	return (&encoder{w: w, d: d, o: o}).run(e.gd)
}

type encoder struct {
	w     io.Writer
	d     Disk
	o     Options
	at    uint64 // sectors written
	dir   []uint32
	table [512]uint32
	used  bool
	cur   int64 // number of the table being filled
	late  [][512]uint32
	lates []int64
	gd    uint64
	first []byte // the first grain with its marker, for Repeat
	err   error
}

func (e *encoder) run(gd uint64) error {
	per := e.o.GrainSize * 512
	e.dir = make([]uint32, (e.d.Capacity+per-1)/per)
	e.sectors(e.header(gd))
	e.sectors(padded([]byte(e.descriptor()), e.descriptorSectors()*sector))
	if !e.o.Compact {
		e.sectors(make([]byte, (128-21)*sector))
	}
	for i, data := range e.d.Grains {
		if !e.o.KeepZeros && len(bytes.Trim(data, "\x00")) == 0 {
			continue
		}
		for e.cur < i/512 {
			e.endTable()
		}
		e.grain(i, data)
	}
	for e.cur < int64(len(e.dir)) {
		e.endTable()
	}
	for k, n := range e.lates {
		e.writeTable(n, e.late[k])
	}
	var dir []byte
	for _, s := range e.dir {
		dir = binary.LittleEndian.AppendUint32(dir, s)
	}
	dir = padded(dir, (len(dir)+sector-1)/sector*sector)
	e.marker(uint64(len(dir)/sector), 2)
	e.gd = e.at
	e.sectors(dir)
	e.marker(1, 3)
	e.sectors(e.header(e.gd))
	e.marker(0, 0)
	return e.err
}

func (e *encoder) sectors(p []byte) {
	if e.err == nil {
		_, e.err = e.w.Write(p)
	}
	e.at += uint64(len(p) / sector)
}

func padded(p []byte, n int) []byte {
	return append(p, make([]byte, n-len(p))...)
}

func (e *encoder) header(gd uint64) []byte {
	le := binary.LittleEndian
	h := make([]byte, sector)
	copy(h, "KDMV")
	le.PutUint32(h[4:], 3)
	le.PutUint32(h[8:], 1|1<<16|1<<17)
	le.PutUint64(h[12:], uint64(e.d.Capacity/sector))
	le.PutUint64(h[20:], uint64(e.o.GrainSize/sector))
	le.PutUint64(h[28:], 1)
	le.PutUint64(h[36:], uint64(e.descriptorSectors()))
	le.PutUint32(h[44:], 512)
	le.PutUint64(h[56:], gd)
	le.PutUint64(h[64:], 128)
	if e.o.Compact {
		le.PutUint64(h[64:], uint64(1+e.descriptorSectors()))
	}
	copy(h[73:], "\n \r\n")
	le.PutUint16(h[77:], 1)
	return h
}

func (e *encoder) descriptorSectors() int {
	if e.o.Compact {
		return 1
	}
	return 20
}

func (e *encoder) descriptor() string {
	if e.o.Descriptor != "" {
		return e.o.Descriptor
	}
	return fmt.Sprintf("# Disk DescriptorFile\nversion=1\nCID=7e5b80a7\nparentCID=ffffffff\ncreateType=\"streamOptimized\"\n\n"+
		"RDONLY %d SPARSE \"call-me-stream.vmdk\"\n\nddb.adapterType = \"lsilogic\"\n", e.d.Capacity/sector)
}

func (e *encoder) marker(value uint64, kind uint32) {
	m := make([]byte, sector)
	binary.LittleEndian.PutUint64(m, value)
	binary.LittleEndian.PutUint32(m[12:], kind)
	e.sectors(m)
}

// compress returns a grain with room for its marker.
func (e *encoder) compress(data []byte) []byte {
	if e.first != nil {
		return e.first
	}
	var z bytes.Buffer
	z.Write(make([]byte, 12))
	zw, err := zlib.NewWriterLevel(&z, e.o.Level)
	if err == nil {
		_, err = zw.Write(data)
	}
	if err == nil {
		err = zw.Close()
	}
	if err != nil {
		e.err = err
	}
	n := z.Len()
	p := padded(z.Bytes(), (n+sector-1)/sector*sector)
	binary.LittleEndian.PutUint32(p[8:], uint32(n-12))
	if e.o.Repeat {
		e.first = p
	}
	return p
}

func (e *encoder) grain(i int64, data []byte) {
	p := e.compress(data)
	binary.LittleEndian.PutUint64(p, uint64(i*e.o.GrainSize/sector))
	e.table[i%512], e.used = uint32(e.at), true
	e.sectors(p)
}

// endTable writes the current table and begins the next.
func (e *encoder) endTable() {
	if e.used || e.o.EmptyTables {
		if e.o.TablesLast {
			e.late, e.lates = append(e.late, e.table), append(e.lates, e.cur)
		} else {
			e.writeTable(e.cur, e.table)
		}
	}
	e.cur, e.used, e.table = e.cur+1, false, [512]uint32{}
}

func (e *encoder) writeTable(n int64, table [512]uint32) {
	if e.o.Progress {
		e.marker(0, 4)
	}
	e.marker(4, 1)
	e.dir[n] = uint32(e.at)
	p := make([]byte, 0, 4*512)
	for _, s := range table {
		p = binary.LittleEndian.AppendUint32(p, s)
	}
	e.sectors(p)
}
