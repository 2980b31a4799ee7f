package convert

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/disk/vmdkfile"
	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/ova"
)

// source is what is converted.
type source struct {
	name     string // of the VM
	envelope *ova.Envelope
	pkg      *ova.Package // nil for a single disk
	file     *os.File     // of a single disk that is a file
	export   *export      // of a single disk that an NBD server has
	disks    []*sourceDisk
	notes    []string
}

// sourceDisk is a disk of it.
type sourceDisk struct {
	id       string // in the descriptor; empty for a single disk
	capacity int64
	data     *vmdkfile.Disk // nil for one that is empty, or the source's export
	file     *ova.File      // nil for one that is not in a package
}

// openSource looks what is at path and opens it, with all its disks.
func openSource(ctx context.Context, path string) (*source, error) {
	if IsExport(path) {
		return openExport(ctx, path)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	st, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, fault.Permanent(err)
	case st.IsDir():
		return nil, fault.Permanent(fault.WithHint(fmt.Errorf("%s is a directory", path), "name the .ovf, .ova or .vmdk file in it"))
	case !st.Mode().IsRegular(): // a pipe would be waited for
		return nil, fault.Permanent(fmt.Errorf("%s is no regular file: an OVA is read at several places", path))
	}
	f, err := os.Open(path) //nolint:gosec // the user names it
	if err != nil {
		return nil, err
	}
	head := make([]byte, 512)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, errors.Join(err, f.Close())
	}
	if head = head[:n]; !ova.IsTar(head) && !ova.IsEnvelope(head) {
		return openDisk(path, f, st.Size())
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	return openPackage(path)
}

// openDisk opens a single disk. f is closed with it.
func openDisk(path string, f *os.File, size int64) (*source, error) {
	dir, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	defer func() { _ = dir.Close() }()
	d, err := vmdkfile.Open(dir, filepath.Base(path), io.NewSectionReader(f, 0, size))
	if err != nil {
		return nil, errors.Join(fault.Permanent(fault.WithHint(err, "an OVA, an OVF descriptor or a VMDK can be converted; other disk images can be handed over by qemu-nbd (docs/convert.md), or qemu-img convert reads them")), f.Close())
	}
	base := filepath.Base(path)
	return &source{
		name: strings.TrimSuffix(base, filepath.Ext(base)), file: f,
		disks: []*sourceDisk{{capacity: d.Capacity, data: d}},
	}, nil
}

// openPackage opens an OVF package.
func openPackage(path string) (*source, error) {
	p, err := ova.Open(path)
	if err != nil {
		return nil, fault.Permanent(err)
	}
	s := &source{pkg: p, envelope: p.Envelope}
	system := p.Envelope.Systems[0]
	for _, name := range []string{system.Name, system.ID, p.Base} {
		if s.name = strings.TrimSpace(name); s.name != "" {
			break
		}
	}
	if err := s.openDisks(); err != nil {
		if err = fmt.Errorf("%s: %w", path, err); errors.Is(err, disk.ErrUnsupported) {
			err = fault.WithHint(err, "disks that are VMDKs can be converted; unpack others with tar, and use qemu-img convert")
		}
		return nil, errors.Join(fault.Permanent(err), s.close())
	}
	s.about()
	return s, nil
}

// openDisks opens the disks in the order in which the VM has them.
func (s *source) openDisks() error {
	for _, d := range inOrder(s.envelope) {
		capacity, known := ova.Bytes(d.Capacity, d.Units)
		ref, has := s.envelope.File(d.FileRef)
		if !has {
			if !known || capacity%512 != 0 {
				return fmt.Errorf("disk %q has no file, and no size either: capacity %.40q: %w", d.ID, d.Capacity, ova.ErrInvalid)
			}
			s.disks = append(s.disks, &sourceDisk{id: d.ID, capacity: capacity})
			continue
		}
		f, err := s.pkg.File(ref.Href)
		if err != nil {
			return err
		}
		data, err := vmdkfile.Open(s.pkg.Dir(), f.Name, f)
		if err != nil {
			return fmt.Errorf("disk %q: %w", d.ID, err)
		}
		if known && capacity != data.Capacity {
			s.notes = append(s.notes, fmt.Sprintf("disk %q: the descriptor says %d bytes, the disk itself %d, which is what it becomes", d.ID, capacity, data.Capacity))
		}
		s.disks = append(s.disks, &sourceDisk{id: d.ID, capacity: data.Capacity, data: data, file: f})
	}
	if len(s.disks) == 0 {
		return fmt.Errorf("the VM has no disks: %w", ova.ErrInvalid)
	}
	return nil
}

// about notes what people should know of the package.
func (s *source) about() {
	if s.pkg.Manifest == nil {
		s.notes = append(s.notes, "there is no manifest (.mf): nothing vouches for the files but their own checksums")
	}
	if s.pkg.Signed {
		s.notes = append(s.notes, "the package is signed (.cert); the signature was not checked")
	}
	for _, d := range s.disks {
		if d.file != nil && s.pkg.Manifest != nil && d.file.Entry.Algorithm == "" {
			s.notes = append(s.notes, fmt.Sprintf("the manifest does not list %s", d.file.Name))
		}
	}
}

// inOrder is the disks of the package: those that the VM's devices name, in their order,
// and then the others.
func inOrder(e *ova.Envelope) []ova.Disk {
	var out []ova.Disk
	seen := map[string]bool{}
	add := func(d ova.Disk) {
		if !seen[d.ID] {
			seen[d.ID] = true
			out = append(out, d)
		}
	}
	for _, item := range items(e) {
		for _, r := range item.HostResource {
			if d, ok := e.Disk(r); ok && item.Type == rasdDisk {
				add(d)
			}
		}
	}
	for _, d := range e.Disks {
		add(d)
	}
	return out
}

// close closes everything.
func (s *source) close() error {
	var err error
	for _, d := range s.disks {
		if d.data != nil {
			err = errors.Join(err, d.data.Close())
		}
	}
	if s.export != nil {
		s.export.r.Close()
	}
	if s.pkg != nil {
		err = errors.Join(err, s.pkg.Close())
	}
	if s.file != nil {
		err = errors.Join(err, s.file.Close())
	}
	return err
}

// identityPrefix tells the identity of what is here from that of a VM.
const identityPrefix = "file:"

// identity is the same for as long as every file is: of each the name, the size, and
// when it was written last. That of an export is its address and size.
func (s *source) identity() (string, error) {
	if s.export != nil {
		return s.export.identity(), nil
	}
	h := sha256.New()
	add := func(st os.FileInfo, err error) error {
		if err == nil {
			fmt.Fprintf(h, "%q %d %s\n", st.Name(), st.Size(), strconv.FormatInt(st.ModTime().UnixNano(), 10))
		}
		return err
	}
	if s.file != nil {
		if err := add(s.file.Stat()); err != nil {
			return "", err
		}
	}
	if s.pkg != nil {
		for _, f := range s.pkg.About() {
			if err := add(s.pkg.Stat(f)); err != nil {
				return "", err
			}
		}
	}
	for _, d := range s.disks {
		fmt.Fprintf(h, "disk %q %d\n", d.id, d.capacity)
		if d.file != nil {
			if err := add(s.pkg.Stat(d.file)); err != nil {
				return "", err
			}
		}
		if d.data == nil {
			continue
		}
		extents, err := d.data.Stat()
		if err != nil {
			return "", err
		}
		for _, st := range extents {
			_ = add(st, nil)
		}
	}
	return fmt.Sprintf(identityPrefix+"%x", h.Sum(nil)[:16]), nil
}
