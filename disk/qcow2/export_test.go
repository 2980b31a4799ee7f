package qcow2

// CachedPages is how many tables a writer holds in memory.
func (w *Writer) CachedPages() int { return len(w.pages.pages) }

// TableCacheSize is the most that it may hold.
const TableCacheSize = tableCacheSize

// BreakFile lets every further use of the file fail.
func (w *Writer) BreakFile() error { return w.file.F.Close() }
