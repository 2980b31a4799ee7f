package disk

// FileError is fileError, for tests.
var FileError = fileError

// CachedPages is how many tables a writer holds in memory.
func (w *Qcow2) CachedPages() int { return len(w.pages.pages) }

// PageCacheSize is the most that it may hold.
const PageCacheSize = pageCacheSize
