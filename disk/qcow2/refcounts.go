package qcow2

// rebuildRefcounts drops what came after the checkpoint and makes the reference counts
// anew from the tables. While it does, exclusiveMark marks the counts of clusters
// that only one entry may use.
func (w *Writer) rebuildRefcounts() error {
	if err := w.emptyRefcounts(); err != nil {
		return err
	}
	for c := range w.firstFree {
		if err := w.countExclusive(c * clusterSize); err != nil {
			return err
		}
	}
	for _, off := range w.refs {
		if off != 0 {
			if err := w.countExclusive(int64(off)); err != nil {
				return err
			}
		}
	}
	for i, entry := range w.l1 {
		off, err := w.keepTable(entry)
		if err != nil {
			return err
		}
		if w.l1[i] = 0; off == 0 {
			continue
		}
		w.l1[i] = uint64(off) | flagCopied
		if err := w.countExclusive(off); err != nil {
			return err
		}
	}
	for _, entry := range w.l1 {
		if entry != 0 {
			if err := w.countTableUses(int64(entry & offsetMask)); err != nil {
				return err
			}
		}
	}
	return w.clearMarks()
}

// emptyRefcounts empties the refcount blocks.
func (w *Writer) emptyRefcounts() error {
	for i, entry := range w.refs {
		off, err := w.keepTable(entry)
		if err != nil {
			return err
		}
		if w.refs[i] = uint64(off); off == 0 {
			continue
		}
		if _, err := w.pages.get(off, true); err != nil {
			return err
		}
	}
	return nil
}

// keepTable returns the offset in an entry that points to a table, 0 if the
// table came after the checkpoint.
func (w *Writer) keepTable(entry uint64) (int64, error) {
	off := int64(entry & offsetMask)
	switch {
	case off == 0 || off >= w.next*clusterSize:
		return 0, nil
	case off%clusterSize != 0 || off < w.firstFree*clusterSize:
		return 0, corruptError(w.file.Path, "table at %d", off)
	}
	return off, nil
}

// exclusiveMark is set in the counts of clusters that one entry alone may use,
// while counts are rebuilt.
const exclusiveMark = 1 << 15

// refPage returns the page with a cluster's reference count.
func (w *Writer) refPage(c int64) (*page, error) {
	b := c / blockRefs
	if b >= w.refBlocks || w.refs[b] == 0 {
		return nil, corruptError(w.file.Path, "no refcount block for cluster %d", c)
	}
	return w.pages.get(int64(w.refs[b]), false)
}

// countExclusive counts a cluster that only one entry may use.
func (w *Writer) countExclusive(off int64) error {
	c := off / clusterSize
	p, err := w.refPage(c)
	if err != nil {
		return err
	}
	if p.ref(c%blockRefs) != 0 {
		return corruptError(w.file.Path, "cluster %d is used twice", c)
	}
	p.setRef(c%blockRefs, 1|exclusiveMark)
	return nil
}

// countShared counts a cluster of compressed data.
func (w *Writer) countShared(c int64) error {
	p, err := w.refPage(c)
	if err != nil {
		return err
	}
	n := p.ref(c % blockRefs)
	if n >= exclusiveMark-1 {
		return corruptError(w.file.Path, "cluster %d is used twice", c)
	}
	p.setRef(c%blockRefs, n+1)
	return nil
}

// clearMarks takes the marks away again.
func (w *Writer) clearMarks() error {
	for _, off := range w.refs {
		if off == 0 {
			continue
		}
		p, err := w.pages.get(int64(off), false)
		if err != nil {
			return err
		}
		for i := range int64(blockRefs) {
			p.setRef(i, p.ref(i)&^exclusiveMark)
		}
	}
	return nil
}

// countTableUses drops later entries of a level 2 table and counts the others.
func (w *Writer) countTableUses(off int64) error {
	p, err := w.pages.get(off, false)
	if err != nil {
		return err
	}
	table := *p // a copy: counting needs other pages
	changed := false
	for i := range int64(l2Entries) {
		entry := table.entry(i)
		if entry == 0 {
			continue
		}
		keep, err := w.keepEntry(entry)
		if err != nil {
			return err
		}
		if !keep {
			table.setEntry(i, 0)
			changed = true
		}
	}
	if !changed {
		return nil
	}
	if p, err = w.pages.get(off, false); err != nil {
		return err
	}
	p.data, p.dirty = table.data, true
	return nil
}

// keepEntry counts a level 2 entry, or tells that it came after the checkpoint.
func (w *Writer) keepEntry(entry uint64) (bool, error) {
	end := w.next * clusterSize
	if entry&flagCompressed != 0 {
		off, start, stop := compressedExtent(entry, clusterBits)
		if stop > end || (off >= w.dataAt && off < w.dataEnd) {
			return false, nil
		}
		if start < w.firstFree*clusterSize {
			return false, corruptError(w.file.Path, "compressed data at %d", off)
		}
		for c := start / clusterSize; c <= (stop-1)/clusterSize; c++ {
			if err := w.countShared(c); err != nil {
				return false, err
			}
		}
		return true, nil
	}
	off := int64(entry & offsetMask)
	if off >= end {
		return false, nil
	}
	if entry&^uint64(offsetMask) != flagCopied || off%clusterSize != 0 || off < w.firstFree*clusterSize {
		return false, corruptError(w.file.Path, "level 2 entry %#x", entry)
	}
	return true, w.countExclusive(off)
}
