package ova

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Identities of errors, for [errors.Is].
var (
	// ErrInvalid: the package contradicts its specification or itself.
	ErrInvalid = errors.New("the OVF package is not valid")
	// ErrUnsupported: the package is of a kind that is not read.
	ErrUnsupported = errors.New("not supported")
	// ErrMissing: a file that the descriptor names is not in the package.
	ErrMissing = errors.New("is not in the package")
	// ErrTruncated: the package ends before one of its files does.
	ErrTruncated = errors.New("the package is truncated")
	// ErrChecksum: a file is not what the manifest says.
	ErrChecksum = errors.New("the checksum is wrong")
)

// Package is an OVF package that is open.
type Package struct {
	Path     string // of the descriptor or the tar
	Base     string // file name without its extension
	Envelope *Envelope
	Manifest []Entry // nil when there is none
	Signed   bool    // there is a certificate, which was not looked at

	tar   *os.File // nil for a directory
	dir   *os.Root
	files map[string]*File // of a tar, all; of a directory, those that were asked for
	names []string         // of a tar, in its order
	about []*File          // the descriptor, and the manifest if there is one
}

// File is a file of a package.
type File struct {
	*io.SectionReader
	Name string
	// Entry is the manifest's line; the zero value when there is none.
	Entry Entry
	f     *os.File // nil for one in a tar
}

// About are the files that say what the package is: the descriptor, and the manifest if
// there is one.
func (p *Package) About() []*File { return p.about }

// Stat describes the file on disk: itself, or the tar that it is in.
func (p *Package) Stat(f *File) (fs.FileInfo, error) {
	if f.f != nil {
		return f.f.Stat()
	}
	return p.tar.Stat()
}

// Dir is the directory beside the descriptor, in which the files of a disk in pieces
// are; nil for a tar.
func (p *Package) Dir() *os.Root {
	if p.tar != nil {
		return nil
	}
	return p.dir
}

// IsTar reports whether the first 512 bytes of a file are those of a tar.
func IsTar(head []byte) bool { return len(head) >= 512 && string(head[257:262]) == "ustar" }

// IsEnvelope reports whether a file that begins so may be an OVF descriptor.
func IsEnvelope(head []byte) bool {
	text := strings.TrimLeft(strings.TrimPrefix(string(head), "\ufeff"), " \t\r\n")
	return strings.HasPrefix(text, "<?xml") || strings.HasPrefix(text, "<Envelope") || strings.HasPrefix(text, "<ovf:Envelope")
}

// Open opens the package at name, an OVA or an OVF descriptor, and reads its descriptor
// and its manifest, which must agree.
func Open(name string) (*Package, error) {
	p := &Package{Path: name, files: map[string]*File{}}
	base := filepath.Base(name)
	p.Base = strings.TrimSuffix(base, filepath.Ext(base))
	if err := p.open(base); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), p.Close())
	}
	return p, nil
}

func (p *Package) open(base string) (err error) {
	if p.dir, err = os.OpenRoot(filepath.Dir(p.Path)); err != nil {
		return err
	}
	f, err := p.fileIn(base)
	if err != nil {
		return err
	}
	head := make([]byte, min(512, f.Size()))
	if _, err := f.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	descriptor := base
	if IsTar(head) {
		p.tar, p.files = f.f, map[string]*File{}
		if err := p.index(f.Size()); err != nil {
			return err
		}
		if descriptor, err = p.descriptor(); err != nil {
			return err
		}
	}
	return p.read(descriptor)
}

// Close closes the files.
func (p *Package) Close() error {
	var err error
	for _, f := range p.files {
		if f.f != nil {
			err = errors.Join(err, f.f.Close())
		}
	}
	if p.tar != nil {
		err = errors.Join(err, p.tar.Close())
	}
	if p.dir != nil {
		err = errors.Join(err, p.dir.Close())
	}
	return err
}

// maxMembers bounds the files of a tar.
const maxMembers = 10 * maxItems

// index finds the files of a tar of size bytes.
func (p *Package) index(size int64) error {
	r := tar.NewReader(p.tar)
	for number := 1; ; number++ {
		at, err := p.tar.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			if errors.Is(err, io.ErrUnexpectedEOF) {
				err = ErrTruncated
			}
			return fmt.Errorf("tar, file %d, after byte %d: %w: %w", number, at, ErrInvalid, err)
		}
		data, err := p.tar.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		switch name, err := memberName(h); {
		case err != nil:
			return fmt.Errorf("tar, file %d, before byte %d: %w", number, data, err)
		case name == "":
		case len(p.names) == maxMembers:
			return fmt.Errorf("tar with more than %d files: %w", maxMembers, ErrInvalid)
		case p.files[name] != nil:
			return fmt.Errorf("tar, file %d, before byte %d: a second file with the name %q: %w", number, data, name, ErrInvalid)
		case h.Size > size-data:
			return fmt.Errorf("tar, file %d, %q: it has %d bytes at byte %d of a file of %d: %w", number, name, h.Size, data, size, ErrTruncated)
		default:
			p.names = append(p.names, name)
			p.files[name] = &File{SectionReader: io.NewSectionReader(p.tar, data, h.Size), Name: name}
		}
	}
}

// memberName is the name of a regular file of a tar, "" for a directory, of which
// nothing is needed.
func memberName(h *tar.Header) (string, error) {
	name := strings.TrimPrefix(h.Name, "./")
	switch h.Typeflag {
	case tar.TypeReg:
	case tar.TypeDir:
		if path.Clean(h.Name) == "." {
			return "", nil
		}
		return "", fmt.Errorf("%.200q is a directory; an OVA has its files beside each other: %w", h.Name, ErrInvalid)
	default:
		return "", fmt.Errorf("%.200q is no regular file (type %q), such as a link; those are not followed: %w", h.Name, h.Typeflag, ErrInvalid)
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return "", fmt.Errorf("%.200q is stored with its holes left out, which an OVA does not have: %w", h.Name, ErrUnsupported)
		}
	}
	if !plain(name) {
		return "", fmt.Errorf("%.200q is not the plain name of a file: %w", h.Name, ErrInvalid)
	}
	return name, nil
}

// plain reports whether name is that of a file in a directory, with nothing before it.
func plain(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\\\x00") && fs.ValidPath(name)
}

// descriptor is the name of a tar's OVF descriptor.
func (p *Package) descriptor() (string, error) {
	var found []string
	for _, name := range p.names {
		if strings.EqualFold(path.Ext(name), ".ovf") {
			found = append(found, name)
		}
	}
	switch len(found) {
	case 0:
		return "", fmt.Errorf("no OVF descriptor (a file *.ovf) among %d files: %w", len(p.names), ErrInvalid)
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("%d OVF descriptors: %q and %q: %w", len(found), found[0], found[1], ErrInvalid)
}

// File returns a file of the package, by its name or as a reference has it, where it may
// be escaped like a URL. The error is an [ErrMissing], or says why the file cannot be had.
func (p *Package) File(name string) (*File, error) {
	name = strings.TrimPrefix(name, "./")
	f, err := p.fileIn(name)
	if errors.Is(err, ErrMissing) {
		if plain, uerr := url.PathUnescape(name); uerr == nil && plain != name {
			if other, oerr := p.fileIn(plain); oerr == nil {
				f, err = other, nil
			}
		}
	}
	if err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(p.Manifest, func(e Entry) bool { return e.File == f.Name }); i >= 0 {
		f.Entry = p.Manifest[i]
	}
	return f, nil
}

func (p *Package) fileIn(name string) (*File, error) {
	if f := p.files[name]; f != nil {
		return f, nil
	}
	switch {
	case strings.Contains(name, "://"):
		return nil, fmt.Errorf("%.200q is a URL; fetch it, and name the file in the descriptor: %w", name, ErrUnsupported)
	case !plain(name):
		return nil, fmt.Errorf("%.200q is not the plain name of a file: %w", name, ErrInvalid)
	case p.tar != nil:
		return nil, fmt.Errorf("%q %w", name, ErrMissing)
	}
	st, err := p.dir.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%q %w: %w", name, ErrMissing, fs.ErrNotExist)
	case err != nil:
		return nil, fmt.Errorf("%q: %w", name, err)
	case !st.Mode().IsRegular(): // a pipe would be waited for
		return nil, fmt.Errorf("%q is no regular file: %w", name, ErrInvalid)
	}
	f, err := p.dir.Open(name)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", name, err)
	}
	if st, err = f.Stat(); err != nil {
		return nil, errors.Join(fmt.Errorf("%q: %w", name, err), f.Close())
	}
	p.files[name] = &File{SectionReader: io.NewSectionReader(f, 0, st.Size()), Name: name, f: f}
	return p.files[name], nil
}

// read reads the descriptor and the manifest.
func (p *Package) read(descriptor string) error {
	text, err := p.small(descriptor, maxEnvelope)
	if err != nil {
		return err
	}
	stem := strings.TrimSuffix(descriptor, path.Ext(descriptor))
	if p.Manifest, err = p.manifest(p.manifestName(stem)); err != nil {
		return err
	}
	if _, err := p.fileIn(stem + ".cert"); err == nil {
		p.Signed = true
	}
	if f, err := p.File(descriptor); err != nil {
		return err
	} else if f.Entry.Algorithm != "" {
		h := f.Entry.Algorithm.New()
		h.Write(text)
		if err := f.Entry.Match(h.Sum(nil)); err != nil {
			return err
		}
	}
	if p.Envelope, err = ParseEnvelope(text); err != nil {
		return fmt.Errorf("%s: %w", descriptor, err)
	}
	return p.references()
}

// references looks whether all files are there that disks need, and as large as the
// descriptor says.
func (p *Package) references() error {
	for _, d := range p.Envelope.Disks {
		ref, ok := p.Envelope.File(d.FileRef)
		if !ok {
			continue // an empty disk
		}
		switch {
		case ref.ChunkSize != "" && ref.ChunkSize != "0":
			return fmt.Errorf("%q is in chunks; join them and take chunkSize out of the descriptor, or export the VM again without: %w", ref.Href, ErrUnsupported)
		case ref.Compression != "" && ref.Compression != "identity":
			return fmt.Errorf("%q is compressed as a whole (%.40s); unpack it and take compression out of the descriptor, or export the VM again without: %w", ref.Href, ref.Compression, ErrUnsupported)
		}
		f, err := p.File(ref.Href)
		if err != nil {
			return fmt.Errorf("disk %q: %w", d.ID, err)
		}
		if size, ok := Bytes(ref.Size, ""); ok && size != f.Size() {
			return fmt.Errorf("%q has %d bytes, the descriptor says %d: %w", f.Name, f.Size(), size, ErrTruncated)
		}
	}
	return nil
}

// manifestName is the name of the manifest: the descriptor's but for the extension, or
// that of the only one in a tar.
func (p *Package) manifestName(stem string) string {
	own := stem + ".mf"
	var others []string
	for _, name := range p.names {
		if name == own {
			return own
		}
		if strings.EqualFold(path.Ext(name), ".mf") {
			others = append(others, name)
		}
	}
	if len(others) == 1 {
		return others[0]
	}
	return own
}

// manifest reads the manifest, if there is one.
func (p *Package) manifest(name string) ([]Entry, error) {
	text, err := p.small(name, maxManifest)
	if errors.Is(err, ErrMissing) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out, err := ParseManifest(bytes.TrimPrefix(text, []byte("\ufeff")))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return out, nil
}

// small reads a file of at most so many bytes.
func (p *Package) small(name string, most int64) ([]byte, error) {
	f, err := p.fileIn(name)
	if err != nil {
		return nil, err
	}
	if f.Size() > most {
		return nil, fmt.Errorf("%q has %d bytes, %d are read at most: %w", name, f.Size(), most, ErrInvalid)
	}
	p.about = append(p.about, f)
	data := make([]byte, f.Size())
	if n, err := f.ReadAt(data, 0); n < len(data) {
		return nil, fmt.Errorf("%q: %w", name, err)
	}
	return data, nil
}
