package qcow2

import (
	"encoding/binary"
	"io"
	"slices"

	"github.com/hyper2kvm/hyper2kvm/internal/directio"
)

// tableCacheSize is how many pages a tableCache holds: level 2 tables for 16 GiB
// of disk and some refcount blocks, 3 MiB.
const tableCacheSize = 48

// tableCache holds the clusters of a file that are tables, least recently used
// first to go. It is for one goroutine at a time.
type tableCache struct {
	f     *directio.File
	pages map[int64]*page
	front page // ring of pages, most recently used behind it
}

// page is a table in memory.
type page struct {
	off        int64 // in the file
	dirty      bool
	next, prev *page
	data       [clusterSize]byte
}

func newTableCache(f *directio.File) *tableCache {
	c := &tableCache{f: f, pages: make(map[int64]*page)}
	c.front.next, c.front.prev = &c.front, &c.front
	return c
}

// get returns the page at off in the file, valid until the next call. A fresh
// one is all zeros and is not read.
func (c *tableCache) get(off int64, fresh bool) (*page, error) {
	p, ok := c.pages[off]
	if ok {
		p.prev.next, p.next.prev = p.next, p.prev
	} else {
		var err error
		if p, err = c.take(); err != nil {
			return nil, err
		}
		p.off, p.dirty = off, false
		if !fresh {
			if _, err := c.f.ReadAt(p.data[:], off); err != nil {
				if err == io.EOF {
					err = io.ErrUnexpectedEOF
				}
				return nil, err
			}
		}
		c.pages[off] = p
	}
	if fresh {
		p.data = [clusterSize]byte{}
		p.dirty = true
	}
	p.next, p.prev = c.front.next, &c.front
	p.next.prev, p.prev.next = p, p
	return p, nil
}

// take returns an unused page, writing the least recently used one if it must.
func (c *tableCache) take() (*page, error) {
	if len(c.pages) < tableCacheSize {
		return new(page), nil
	}
	p := c.front.prev
	if err := c.write(p); err != nil {
		return nil, err
	}
	p.prev.next, p.next.prev = p.next, p.prev
	delete(c.pages, p.off)
	return p, nil
}

func (c *tableCache) write(p *page) error {
	if !p.dirty {
		return nil
	}
	if _, err := c.f.WriteAt(p.data[:], p.off); err != nil {
		return err
	}
	p.dirty = false
	return nil
}

// flush writes all changed pages, in the order of the file.
func (c *tableCache) flush() error {
	offs := make([]int64, 0, len(c.pages))
	for off := range c.pages {
		offs = append(offs, off)
	}
	slices.Sort(offs)
	for _, off := range offs {
		if err := c.write(c.pages[off]); err != nil {
			return err
		}
	}
	return nil
}

// entry and setEntry are the big-endian 64-bit words of a page, ref and setRef
// its 16-bit words.
func (p *page) entry(i int64) uint64 { return binary.BigEndian.Uint64(p.data[i*8:]) }

func (p *page) setEntry(i int64, v uint64) {
	binary.BigEndian.PutUint64(p.data[i*8:], v)
	p.dirty = true
}

func (p *page) ref(i int64) uint16 { return binary.BigEndian.Uint16(p.data[i*2:]) }

func (p *page) setRef(i int64, v uint16) {
	binary.BigEndian.PutUint16(p.data[i*2:], v)
	p.dirty = true
}
