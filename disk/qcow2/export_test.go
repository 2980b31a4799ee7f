package qcow2

import (
	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/internal/directio"
)

// CreateOver makes a part file in an empty file that a test lets fail.
func CreateOver(h directio.Handle, capacity int64, o Options) (*Writer, error) {
	return create(disk.Path(h.Name()), directio.Over(h), capacity, o)
}

// CachedPages is how many tables a writer holds in memory.
func (w *Writer) CachedPages() int { return len(w.pages.pages) }

// TableCacheSize is the most that it may hold.
const TableCacheSize = tableCacheSize

// BreakFile lets every further use of the file fail.
func (w *Writer) BreakFile() error { return w.file.F.Close() }
