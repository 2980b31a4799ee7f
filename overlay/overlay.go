// Package overlay changes the finished images of a VM as a whole or not at all.
//
// Whoever changes them (a guest conversion, the network settings of a guest) works on
// qcow2 overlays ([Open]), over as many images as there are. Nothing is written to an
// image before [Change.Commit], which brings the overlays into the images, one after the
// other, and gives the files that go with them (the domain) their final names.
//
// A [Journal] says what is going on. It is written down, durably, before the first
// overlay is made, and again, with Committing set, before the first image is changed:
// until then [Settle] removes the overlays, and the images are byte for byte what they
// were; from then on it finishes the commit. An overlay stays as it is until every image
// has its content, so that a commit that was broken off, at whatever byte, is done again
// from its beginning.
//
// Not promised: that a commit can be finished where the file system is full. It is not
// begun where it may not fit; if others fill it meanwhile, the journal keeps the change
// until there is room.
package overlay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/hyper2kvm/hyper2kvm/internal/atomicfile"
	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/internal/process"
	"github.com/hyper2kvm/hyper2kvm/internal/volume"
	"github.com/hyper2kvm/hyper2kvm/units"
)

// ErrNoSpace: the overlays, or what is in them, may not fit.
var ErrNoSpace = errors.New("not enough space")

// Tool is the program that makes overlays and commits them, and its Debian package.
const (
	Tool        = "qemu-img"
	ToolPackage = "qemu-utils"
)

// Disk is a finished image and the overlay over it. The paths are relative to the
// directory of the change, which may be moved as a whole, and on one file system.
type Disk struct {
	Image   string `json:"image"`
	Format  string `json:"format"`  // of the image: "raw" or "qcow2"
	Overlay string `json:"overlay"` // a qcow2 image
}

// File is a file that gets its final name with the change, in place of what has it. The
// paths are relative to the directory of the change.
type File struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// Journal says how far a change is.
type Journal struct {
	Disks      []Disk `json:"disks"`
	Files      []File `json:"files,omitempty"`
	Committing bool   `json:"committing,omitempty"` // the change is whole, and an image may have been touched
	Committed  int    `json:"committed,omitempty"`  // images that have all of theirs
}

// Change is a change of images that is not made yet.
type Change struct {
	dir     string
	journal Journal
	write   func(Journal) error
}

// Open makes the overlays of a change in a directory. write makes a journal durable, in
// the place of the one before. room is how many bytes the overlays will need at least:
// where less is free, the error is an [ErrNoSpace]. After an error [Settle] removes what
// was made.
func Open(ctx context.Context, dir string, disks []Disk, room int64, write func(Journal) error) (*Change, error) {
	c := &Change{dir: dir, journal: Journal{Disks: disks}, write: write}
	if err := c.fits(room, "the changes of the guest take at least"); err != nil {
		return nil, err
	}
	if err := write(c.journal); err != nil {
		return nil, err
	}
	for _, d := range disks {
		at := filepath.Join(dir, d.Overlay)
		if err := remove(at); err != nil { // of a run that nobody knows of
			return nil, err
		}
		base, err := filepath.Rel(filepath.Dir(d.Overlay), d.Image)
		if err != nil {
			return nil, err
		}
		if filepath.Base(base) == base {
			base = "./" + base // or QEMU may take its beginning for a protocol
		}
		if _, err := process.Output(ctx, Tool, "create", "-q", "-f", "qcow2", "-F", d.Format, "-b", base, at); err != nil {
			return nil, fmt.Errorf("overlay over %s: %w", d.Image, err)
		}
	}
	return c, nil
}

// fits is an error unless so many bytes are free.
func (c *Change) fits(need int64, what string) error {
	free, err := volume.Free(c.dir)
	if err != nil || free >= need {
		return nil //nolint:nilerr // the first write will tell
	}
	return fault.Permanent(fault.WithHint(fmt.Errorf("%w: %s has %s free, and %s %s", ErrNoSpace, c.dir, units.Bytes(free), what, units.Bytes(need)),
		"free some space there; the images are as they were"))
}

// Overlays are the paths of the overlays, in the order of the disks.
func (c *Change) Overlays() []string {
	var out []string
	for _, d := range c.journal.Disks {
		out = append(out, filepath.Join(c.dir, d.Overlay))
	}
	return out
}

// Replace has files get their final names with the change. They are whole already.
func (c *Change) Replace(files ...File) { c.journal.Files = append(c.journal.Files, files...) }

// Commit makes the change. After an error, [Settle] makes an end of it.
func (c *Change) Commit(ctx context.Context) error {
	var size int64
	for _, d := range c.journal.Disks {
		n, err := sync(filepath.Join(c.dir, d.Overlay))
		if err != nil {
			return err
		}
		size += n
	}
	for _, f := range c.journal.Files {
		if _, err := sync(filepath.Join(c.dir, f.From)); err != nil {
			return err
		}
	}
	if err := c.fits(size, "the changes that are to be written into the images take up to"); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	c.journal.Committing = true
	if err := c.write(c.journal); err != nil {
		return err
	}
	return c.finish(ctx)
}

// Settle makes an end of a change in a directory that was broken off: done says that it
// is made now, otherwise the images are what they were. It may be asked again.
func Settle(ctx context.Context, dir string, j Journal, write func(Journal) error) (done bool, err error) {
	c := &Change{dir: dir, journal: j, write: write}
	if !j.Committing {
		return false, c.drop()
	}
	if err := c.finish(ctx); err != nil {
		return false, fmt.Errorf("a change of the images has begun and is to be finished: %w", err)
	}
	return true, nil
}

// finish brings the overlays into the images that have not all of theirs.
func (c *Change) finish(ctx context.Context) error {
	for j := &c.journal; j.Committed < len(j.Disks); {
		d := j.Disks[j.Committed]
		// -d leaves the overlay as it is, so that this can be done again.
		if _, err := process.Output(ctx, Tool, "commit", "-q", "-d", "-f", "qcow2", filepath.Join(c.dir, d.Overlay)); err != nil {
			return fmt.Errorf("write the changes into %s: %w", d.Image, err)
		}
		if _, err := sync(filepath.Join(c.dir, d.Image)); err != nil {
			return err
		}
		j.Committed++
		if err := c.write(*j); err != nil {
			return err
		}
	}
	for _, f := range c.journal.Files {
		if err := rename(filepath.Join(c.dir, f.From), filepath.Join(c.dir, f.To)); err != nil {
			return err
		}
	}
	return c.drop()
}

// rename gives a file its final name, unless it has it.
func rename(from, to string) error {
	err := os.Rename(from, to)
	if errors.Is(err, fs.ErrNotExist) {
		if _, there := os.Lstat(to); there == nil {
			return nil
		}
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(to))
}

// drop removes overlays, and files without their final names.
func (c *Change) drop() (err error) {
	for _, d := range c.journal.Disks {
		err = errors.Join(err, remove(filepath.Join(c.dir, d.Overlay)))
	}
	for _, f := range c.journal.Files {
		err = errors.Join(err, remove(filepath.Join(c.dir, f.From)))
	}
	return err
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// sync makes what is in a file durable, and returns what it takes of its file system in
// bytes.
func sync(path string) (size int64, err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	err = f.Sync()
	info, unknown := f.Stat()
	if err = errors.Join(err, unknown, f.Close()); err != nil {
		return 0, err
	}
	return volume.Allocated(info), syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	return errors.Join(atomicfile.SyncDir(root, "."), root.Close())
}
