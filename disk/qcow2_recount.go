package disk

// recount drops what came after the checkpoint and makes the reference counts
// anew from the tables. While it does, exclusiveRef marks the counts of clusters
// that only one entry may use.
func (w *Qcow2) recount() error {
	if err := w.recountBlocks(); err != nil {
		return err
	}
	for c := range w.firstFree {
		if err := w.onlyRef(c * clusterSize); err != nil {
			return err
		}
	}
	for _, off := range w.refs {
		if off != 0 {
			if err := w.onlyRef(int64(off)); err != nil {
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
		if err := w.onlyRef(off); err != nil {
			return err
		}
	}
	for _, entry := range w.l1 {
		if entry != 0 {
			if err := w.recountTable(int64(entry & offsetMask)); err != nil {
				return err
			}
		}
	}
	return w.clearMarks()
}

// recountBlocks empties the refcount blocks.
func (w *Qcow2) recountBlocks() error {
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
func (w *Qcow2) keepTable(entry uint64) (int64, error) {
	off := int64(entry & offsetMask)
	switch {
	case off == 0 || off >= w.next*clusterSize:
		return 0, nil
	case off%clusterSize != 0 || off < w.firstFree*clusterSize:
		return 0, qcow2Error(w.path, "table at %d", off)
	}
	return off, nil
}

// exclusiveRef is set in the counts of clusters that one entry alone may use,
// during recount.
const exclusiveRef = 1 << 15

// refPage returns the page with a cluster's reference count.
func (w *Qcow2) refPage(c int64) (*page, error) {
	b := c / blockRefs
	if b >= w.refBlocks || w.refs[b] == 0 {
		return nil, qcow2Error(w.path, "no refcount block for cluster %d", c)
	}
	return w.pages.get(int64(w.refs[b]), false)
}

// onlyRef counts a cluster that only one entry may use.
func (w *Qcow2) onlyRef(off int64) error {
	c := off / clusterSize
	p, err := w.refPage(c)
	if err != nil {
		return err
	}
	if p.ref(c%blockRefs) != 0 {
		return qcow2Error(w.path, "cluster %d is used twice", c)
	}
	p.setRef(c%blockRefs, 1|exclusiveRef)
	return nil
}

// sharedRef counts a cluster of compressed data.
func (w *Qcow2) sharedRef(c int64) error {
	p, err := w.refPage(c)
	if err != nil {
		return err
	}
	n := p.ref(c % blockRefs)
	if n >= exclusiveRef-1 {
		return qcow2Error(w.path, "cluster %d is used twice", c)
	}
	p.setRef(c%blockRefs, n+1)
	return nil
}

// clearMarks ends the recount.
func (w *Qcow2) clearMarks() error {
	for _, off := range w.refs {
		if off == 0 {
			continue
		}
		p, err := w.pages.get(int64(off), false)
		if err != nil {
			return err
		}
		for i := range int64(blockRefs) {
			p.setRef(i, p.ref(i)&^exclusiveRef)
		}
	}
	return nil
}

// recountTable drops later entries of a level 2 table and counts the others.
func (w *Qcow2) recountTable(off int64) error {
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
func (w *Qcow2) keepEntry(entry uint64) (bool, error) {
	end := w.next * clusterSize
	if entry&flagZipped != 0 {
		off, start, stop := zipExtent(entry, clusterBits)
		if stop > end || (off >= w.zipAt && off < w.zipEnd) {
			return false, nil
		}
		if start < w.firstFree*clusterSize {
			return false, qcow2Error(w.path, "compressed data at %d", off)
		}
		for c := start / clusterSize; c <= (stop-1)/clusterSize; c++ {
			if err := w.sharedRef(c); err != nil {
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
		return false, qcow2Error(w.path, "level 2 entry %#x", entry)
	}
	return true, w.onlyRef(off)
}
