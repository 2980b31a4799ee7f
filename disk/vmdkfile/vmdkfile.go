// Package vmdkfile reads disks whose VMDK lies in files here: a stream-optimized one, a
// monolithic sparse one, or a descriptor with its flat or sparse extents, whole or in
// pieces of 2 GiB.
//
// A descriptor names files, and may come from anybody. So an extent is only looked for
// beside its descriptor, through the directory's handle ([os.Root]): a name with a
// directory in it, a link that leads out, and what is no regular file are refused, and
// so are extents that lie outside of their file or overlap there.
//
// Not promised: that what is read is what was written. Only stream-optimized VMDKs have
// checksums.
package vmdkfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/disk/vmdk"
)

// File is an open file that holds a VMDK, or a part of one that is a file inside of
// another.
type File interface {
	io.ReaderAt
	Size() int64
}

// Disk is a disk that is open.
type Disk struct {
	Capacity int64  // bytes
	Kind     string // what it is, for people: "stream-optimized", "sparse", "flat", …
	// Stream: the file is a stream that carries its own checksums. It is read once,
	// from its beginning to its end.
	Stream bool

	name  string
	file  File
	parts []part
	files []*os.File // to be closed
}

// Open looks what is in file, called name, and opens the extents beside it, in dir. A
// nil dir has none. The errors name the file and wrap those of package disk.
func Open(dir *os.Root, name string, file File) (*Disk, error) {
	d := &Disk{name: name, file: file}
	if err := d.open(dir); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), d.Close())
	}
	return d, nil
}

func (d *Disk) open(dir *os.Root) error {
	head := make([]byte, min(vmdk.SectorSize, d.file.Size()))
	if err := readFull(d.file, head, 0); err != nil {
		return err
	}
	switch vmdk.KindOf(head) {
	case vmdk.KindStream:
		r, err := vmdk.NewReader(io.NewSectionReader(d.file, 0, d.file.Size()), vmdk.Options{})
		if err != nil {
			return err
		}
		d.Stream, d.Kind, d.Capacity = true, "stream-optimized", r.Geometry().Capacity
		return nil
	case vmdk.KindSparse:
		return d.openSparse(dir)
	case vmdk.KindDescriptor:
		text := make([]byte, min(d.file.Size(), vmdk.MaxDescriptor+1))
		if err := readFull(d.file, text, 0); err != nil {
			return err
		}
		return d.openDescriptor(dir, text)
	case vmdk.KindESX:
		return fmt.Errorf("a sparse extent of ESXi's own kind, as snapshots are made of; consolidate the VM's snapshots, or export it again as OVF: %w", disk.ErrUnsupported)
	}
	if strings.HasSuffix(d.name, "-flat.vmdk") {
		return fmt.Errorf("the content of a flat disk without its descriptor; give the smaller file beside it, %s: %w",
			strings.TrimSuffix(d.name, "-flat.vmdk")+".vmdk", disk.ErrUnsupported)
	}
	return fmt.Errorf("not a VMDK: %w", disk.ErrUnsupported)
}

// openSparse opens a sparse extent that is the whole disk.
func (d *Disk) openSparse(dir *os.Root) error {
	s, err := vmdk.OpenSparse(d.file, d.file.Size())
	if err != nil {
		return err
	}
	if text := s.Descriptor(); text != nil {
		about, err := vmdk.ParseDescriptor(text)
		if err != nil {
			return err
		}
		if len(about.Extents) > 1 {
			return d.openDescriptor(dir, text)
		}
		if len(about.Extents) == 1 && about.Capacity() != s.Capacity() {
			return fmt.Errorf("the embedded descriptor speaks of %d bytes, the extent of %d: %w", about.Capacity(), s.Capacity(), disk.ErrCorrupt)
		}
	}
	d.Kind, d.Capacity = "sparse", s.Capacity()
	d.parts = []part{{size: s.Capacity(), data: s}}
	return nil
}

// Close closes the extents. The file that Open was given stays open.
func (d *Disk) Close() error {
	var err error
	for _, f := range d.files {
		err = errors.Join(err, f.Close())
	}
	d.files = nil
	return err
}

// Stat describes the extents that are open, in the order of the descriptor.
func (d *Disk) Stat() ([]fs.FileInfo, error) {
	var out []fs.FileInfo
	for _, f := range d.files {
		st, err := f.Stat()
		if err != nil {
			return nil, err
		}
		out = append(out, st)
	}
	return out, nil
}

// Options are the options of [Disk.CopyTo]. The zero value works.
type Options struct {
	// Verify inflates every grain of a stream also where the writer takes it as it is.
	Verify bool
	// Tee receives every byte of a stream, in order; nothing of other kinds.
	Tee io.Writer
	// OnPosition is called, in order, with how many bytes of the disk are passed. It
	// must not block.
	OnPosition func(bytes int64)
	// OnRead is called with how many bytes were read of the files. It must not block.
	OnRead func(bytes int64)
}

// CopyTo writes the disk to w. See [disk.DecodeStream] and [disk.CopyImage]; the errors
// are theirs, with the name of the file.
func (d *Disk) CopyTo(ctx context.Context, w io.WriterAt, o Options) (err error) {
	if d.Stream {
		_, err = disk.DecodeStream(ctx, &until{ctx, io.NewSectionReader(d.file, 0, d.file.Size()), o.OnRead}, w,
			disk.Options{Capacity: d.Capacity, Verify: o.Verify, Tee: o.Tee, OnPosition: o.OnPosition})
	} else {
		err = disk.CopyImage(ctx, (*image)(d), d.Capacity, w, disk.CopyOptions{OnPosition: o.OnPosition, OnRead: o.OnRead})
	}
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("%s: %w", d.name, err)
	}
	return err
}

// until is a reader that ends with a context.
type until struct {
	ctx    context.Context //nolint:containedctx // io.Reader takes none
	r      io.Reader
	onRead func(int64) // may be nil
}

func (u *until) Read(p []byte) (int, error) {
	if u.ctx.Err() != nil {
		return 0, context.Cause(u.ctx)
	}
	n, err := u.r.Read(p)
	if u.onRead != nil {
		u.onRead(int64(n))
	}
	return n, err
}

// readFull reads all of p. That the file has become shorter is an error.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	if n, err := r.ReadAt(p, off); n < len(p) {
		if err == nil || errors.Is(err, io.EOF) {
			err = disk.ErrTruncated
		}
		return err
	}
	return nil
}

// regular opens a file of dir for reading, which must be a plain name and a regular
// file.
func regular(dir *os.Root, name string) (*os.File, int64, error) {
	switch {
	case !Plain(name):
		return nil, 0, fmt.Errorf("%.200q is not the plain name of a file beside the descriptor: %w", name, disk.ErrCorrupt)
	case dir == nil:
		return nil, 0, fmt.Errorf("%q: %w", name, fs.ErrNotExist)
	}
	st, err := dir.Stat(name)
	if err == nil && !st.Mode().IsRegular() { // a pipe would be waited for
		err = errors.New("not a regular file")
	}
	if err != nil {
		return nil, 0, fmt.Errorf("%q: %w", name, err)
	}
	f, err := dir.Open(name)
	if err != nil {
		return nil, 0, fmt.Errorf("%q: %w", name, err)
	}
	if st, err = f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, 0, errors.Join(fmt.Errorf("%q: not a regular file", name), err, f.Close())
	}
	return f, st.Size(), nil
}

// Plain reports whether name is that of a file in a directory, with nothing before it.
func Plain(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\\\x00") && fs.ValidPath(name)
}
