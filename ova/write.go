package ova

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"os"
	"time"
)

// Member is a file to be written into an OVA.
type Member struct {
	Name    string
	Size    int64 // bytes
	ModTime time.Time
	// Open opens the content, of just that size. An [*os.File] is copied by the system
	// where it can do that.
	Open func() (io.ReadCloser, error)
}

// maxUstar is what the size of a file in a ustar header can be at most, in bytes.
const maxUstar = 1<<33 - 1

// headerSize is that of a tar's header, and what files are filled up to.
const headerSize = 512

// Size is how large an OVA of members will be.
func Size(members []Member) int64 {
	n := int64(2 * headerSize)
	for _, m := range members {
		n += headerSize + (m.Size+headerSize-1)/headerSize*headerSize
	}
	return n
}

// Write writes an OVA to f, an empty file: the members in their order, of which the
// first is the descriptor, the second the manifest. It is a ustar, as DSP0243 asks; a
// file of 8 GiB and more, which ustar has no room for, has its size in base 256, as GNU
// tar writes it: vSphere, VirtualBox and QEMU's tools read that, and not all of them
// read pax headers. onPosition is called, in order, with how many bytes are written. When
// ctx ends, so does Write, with its cause.
func Write(ctx context.Context, f *os.File, members []Member, onPosition func(int64)) error {
	done := int64(0)
	for _, m := range members {
		header, err := memberHeader(m)
		if err != nil {
			return err
		}
		if _, err := f.Write(header); err != nil {
			return err
		}
		done += headerSize
		if err := copyMember(ctx, f, m, func(n int64) { onPosition(done + n) }); err != nil {
			return fmt.Errorf("%s: %w", m.Name, err)
		}
		fill := (headerSize - m.Size%headerSize) % headerSize
		if _, err := f.Write(make([]byte, fill)); err != nil {
			return err
		}
		done += m.Size + fill
		onPosition(done)
	}
	_, err := f.Write(make([]byte, 2*headerSize))
	return err
}

// copyStep is after how many bytes the position is told.
const copyStep = 64 << 20

// copyMember copies just as many bytes as the member has.
func copyMember(ctx context.Context, f *os.File, m Member, onPosition func(int64)) error {
	in, err := m.Open()
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	for n := int64(0); n < m.Size; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		// A LimitedReader of a file is what (*os.File).ReadFrom hands to the system.
		step, err := f.ReadFrom(&io.LimitedReader{R: in, N: min(copyStep, m.Size-n)})
		if n += step; err != nil {
			return err
		}
		if step == 0 {
			return fmt.Errorf("it has %d bytes, not %d: %w", n, m.Size, io.ErrUnexpectedEOF)
		}
		onPosition(n)
	}
	return nil
}

// memberHeader is the header of a member, which says the same however often it is
// written.
func memberHeader(m Member) ([]byte, error) {
	h := tar.Header{
		Typeflag: tar.TypeReg, Name: m.Name, Size: m.Size, Mode: 0o644, Format: tar.FormatUSTAR,
		ModTime: m.ModTime.Truncate(time.Second), Uname: "root", Gname: "root",
	}
	if m.Size > maxUstar {
		h.Format = tar.FormatGNU
	}
	var b headerBuffer
	if err := tar.NewWriter(&b).WriteHeader(&h); err != nil {
		h.Format = tar.FormatGNU // a name that is long, or not ASCII
		b = nil
		if err := tar.NewWriter(&b).WriteHeader(&h); err != nil {
			return nil, fmt.Errorf("%s: tar header: %w", m.Name, err)
		}
	}
	return b, nil
}

// headerBuffer takes a header.
type headerBuffer []byte

func (b *headerBuffer) Write(p []byte) (int, error) {
	*b = append(*b, p...)
	return len(p), nil
}
