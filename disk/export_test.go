package disk

// FileError is fileError, for tests.
var FileError = fileError

// CachedPages is how many tables a writer holds in memory.
func (w *Qcow2) CachedPages() int { return len(w.pages.pages) }

// PageCacheSize is the most that it may hold.
const PageCacheSize = pageCacheSize

// BreakFile lets every further use of the file fail.
func (w *Qcow2) BreakFile() error { return w.f.Close() }
