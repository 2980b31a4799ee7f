package vmdkfile_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/disk/disktest"
	"github.com/hyper2kvm/hyper2kvm/disk/qcow2"
	"github.com/hyper2kvm/hyper2kvm/disk/vmdkfile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// file is an open file.
type file struct {
	*os.File
	size int64
}

func (f file) Size() int64 { return f.size }

// open opens the disk whose file is name in dir.
func open(t testing.TB, dir, name string) (*vmdkfile.Disk, error) {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	d, err := vmdkfile.Open(root, name, file{f, st.Size()})
	if err == nil {
		t.Cleanup(func() { _ = d.Close() })
	}
	return d, err
}

// shapes are the kinds of VMDKs that qemu-img makes.
var shapes = []string{"monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat", "streamOptimized"}

func TestEveryShapeOfVMDKThatQEMUMakesIsReadToTheSameDisk(t *testing.T) {
	t.Parallel()
	for _, shape := range shapes {
		for _, size := range []int64{5<<20 + 512, 3 << 20} {
			t.Run(shape, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				raw := filepath.Join(dir, "right.raw")
				disktest.WriteRaw(t, raw, disktest.Content(uint64(size), size, 4))
				disktest.QemuImg(t, "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat="+shape, raw, filepath.Join(dir, "disk.vmdk"))
				d, err := open(t, dir, "disk.vmdk")
				if err != nil {
					t.Fatal(err)
				}
				if d.Capacity != size {
					t.Fatalf("capacity is %d, want %d", d.Capacity, size)
				}
				landRaw(t, d, raw)
				for _, compress := range []bool{false, true} {
					landQcow2(t, d, raw, compress)
				}
			})
		}
	}
}

func landRaw(t *testing.T, d *vmdkfile.Disk, right string) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out.raw")
	w, err := disk.CreateRaw(out, d.Capacity)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	var passed int64
	err = d.CopyTo(t.Context(), w, vmdkfile.Options{OnPosition: func(n int64) {
		if n < passed {
			t.Errorf("position went back from %d to %d", passed, n)
		}
		passed = n
	}})
	if err == nil {
		err = w.Commit()
	}
	if err != nil {
		t.Fatal(err)
	}
	if passed != d.Capacity {
		t.Errorf("the last position is %d, want %d", passed, d.Capacity)
	}
	disktest.Judge(t, "raw", out, right)
}

func landQcow2(t *testing.T, d *vmdkfile.Disk, right string, compress bool) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out.qcow2")
	w, err := qcow2.Create(out, d.Capacity, qcow2.Options{Compress: compress})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err = d.CopyTo(t.Context(), w, vmdkfile.Options{Verify: true}); err == nil {
		err = w.Commit()
	}
	if err != nil {
		t.Fatal(err)
	}
	disktest.Judge(t, "qcow2", out, right)
}

// A disk of several pieces, of every kind that can be in one descriptor.
func TestADiskInPiecesIsPutTogetherInTheirOrder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, second := disktest.Content(1, 1<<20+512, 8), disktest.Content(2, 2<<20, 8)
	right := bytes.Join([][]byte{first, make([]byte, 1<<20), second, first[512:1024]}, nil)
	write(t, dir, "right.raw", string(right))
	write(t, dir, "a-flat.vmdk", strings.Repeat("x", 1024)+string(first))
	write(t, dir, "b.raw", string(second))
	disktest.QemuImg(t, "convert", "-f", "raw", "-O", "vmdk", filepath.Join(dir, "b.raw"), filepath.Join(dir, "b with blanks.vmdk"))
	write(t, dir, "c.vmdk", string(first[512:1024]))
	write(t, dir, "disk.vmdk", "# Disk DescriptorFile\nparentCID=ffffffff\r\ncreateType=\"custom\"\n"+
		`RW 2049 FLAT "a-flat.vmdk" 2`+"\n"+`RW 2048 ZERO`+"\n"+`RW 4096 SPARSE "b with blanks.vmdk"`+"\r\n"+`RDONLY 1 VMFS "c.vmdk"`+"\n")
	d, err := open(t, dir, "disk.vmdk")
	if err != nil {
		t.Fatal(err)
	}
	landRaw(t, d, filepath.Join(dir, "right.raw"))
	landQcow2(t, d, filepath.Join(dir, "right.raw"), true)
}

func write(t testing.TB, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestADescriptorLeadsToNothingButRegularFilesBesideIt(t *testing.T) {
	t.Parallel()
	const head = "# Disk DescriptorFile\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\n"
	for name, c := range map[string]struct {
		text string
		is   error
		says string
	}{
		"an absolute name":            {head + `RW 1 FLAT "/etc/shadow" 0`, disk.ErrCorrupt, `line 4: extent "/etc/shadow" is not the plain name`},
		"a name above":                {head + `RW 1 FLAT "../secret" 0`, disk.ErrCorrupt, `not the plain name`},
		"a name of Windows":           {head + `RW 1 FLAT "..\secret" 0`, disk.ErrCorrupt, `not the plain name`},
		"a device":                    {head + `RW 1 FLAT "/dev/sda" 0`, disk.ErrCorrupt, `not the plain name`},
		"a link that leads out":       {head + `RW 1 FLAT "link" 0`, nil, `"link"`},
		"a directory":                 {head + `RW 1 FLAT "dir" 0`, nil, `"dir": not a regular file`},
		"a file that is missing":      {head + `RW 1 FLAT "none.vmdk" 0`, os.ErrNotExist, `line 4: extent "none.vmdk"`},
		"more than the file has":      {head + `RW 9 FLAT "data" 0`, disk.ErrTruncated, `line 4: extent "data": bytes 0 to 4608, of a file of 4096`},
		"a place behind the file":     {head + `RW 1 FLAT "data" 8`, disk.ErrTruncated, `"data"`},
		"the same bytes twice":        {head + "RW 8 FLAT \"data\" 0\nRW 8 FLAT \"data\" 0", disk.ErrCorrupt, `line 5: extent "data": bytes 0 to 4096 are another extent's, too`},
		"an offset that overflows":    {head + `RW 1 FLAT "data" 9223372036854775807`, disk.ErrCorrupt, "line 4"},
		"a negative offset":           {head + `RW 1 FLAT "data" -1`, disk.ErrCorrupt, "line 4"},
		"a size that overflows":       {head + `RW 9223372036854775807 ZERO`, disk.ErrCorrupt, "line 4"},
		"extents larger than a disk":  {head + strings.Repeat("RW 100000000000 ZERO\n", 2), disk.ErrCapacity, "line 5"},
		"no size":                     {head + `RW 0 ZERO`, disk.ErrCorrupt, "line 4"},
		"no type":                     {head + `RW 1`, disk.ErrCorrupt, "line 4"},
		"a name without an end":       {head + `RW 1 FLAT "data`, disk.ErrCorrupt, "line 4"},
		"no name":                     {head + `RW 1 FLAT`, disk.ErrCorrupt, "line 4"},
		"an extent of another kind":   {head + `RW 1 VMFSRAW "data" 0`, disk.ErrUnsupported, "VMFSRAW"},
		"an extent not to be read":    {head + `NOACCESS 1 FLAT "data" 0`, disk.ErrUnsupported, "NOACCESS"},
		"a sparse extent that is not": {head + `RW 8 SPARSE "data"`, disk.ErrCorrupt, `"data": VMDK at byte 0`},
		"a delta":                     {"# Disk DescriptorFile\nparentCID=12345678\n" + `RW 1 FLAT "data" 0`, disk.ErrUnsupported, "delta disk"},
		"no extents":                  {head, disk.ErrCorrupt, "without extents"},
		"something else":              {"#!/bin/sh\n", disk.ErrUnsupported, "not a VMDK"},
		"nothing":                     {"", disk.ErrUnsupported, "not a VMDK"},
		"a snapshot of ESXi":          {"COWD" + strings.Repeat("\x00", 600), disk.ErrUnsupported, "snapshots"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write(t, dir, "data", strings.Repeat("d", 4096))
			write(t, dir, "disk.vmdk", c.text)
			if err := errors.Join(os.Mkdir(filepath.Join(dir, "dir"), 0o700), os.Symlink("/etc/passwd", filepath.Join(dir, "link"))); err != nil {
				t.Fatal(err)
			}
			d, err := open(t, dir, "disk.vmdk")
			if err == nil {
				t.Fatalf("opened as a disk of %d bytes", d.Capacity)
			}
			if c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) || !strings.HasPrefix(err.Error(), "disk.vmdk: ") {
				t.Errorf("the error is %v, want %v, with %q", err, c.is, c.says)
			}
		})
	}
}

func TestTheContentOfAFlatDiskPointsToItsDescriptor(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "erp-flat.vmdk", strings.Repeat("\x00", 1024))
	if _, err := open(t, dir, "erp-flat.vmdk"); err == nil || !strings.Contains(err.Error(), "erp.vmdk") {
		t.Errorf("the error is %v, want one that names erp.vmdk", err)
	}
}

// damaged is a sparse VMDK with some bytes changed.
func damaged(t *testing.T, change func([]byte) []byte) (*vmdkfile.Disk, error) {
	t.Helper()
	dir := t.TempDir()
	raw := filepath.Join(dir, "right.raw")
	disktest.WriteRaw(t, raw, disktest.Content(3, 4<<20, 9))
	disktest.QemuImg(t, "convert", "-f", "raw", "-O", "vmdk", raw, filepath.Join(dir, "disk.vmdk"))
	data := change(disktest.ReadFile(t, filepath.Join(dir, "disk.vmdk")))
	write(t, dir, "disk.vmdk", string(data))
	return open(t, dir, "disk.vmdk")
}

func TestADamagedSparseVMDKIsAnErrorThatNamesThePlace(t *testing.T) {
	t.Parallel()
	put := func(off int, b ...byte) func([]byte) []byte {
		return func(p []byte) []byte { copy(p[off:], b); return p }
	}
	const directory = 26 * 512 // of what qemu-img writes
	for name, c := range map[string]struct {
		change func([]byte) []byte
		is     error
	}{
		"cut in its header":               {func(p []byte) []byte { return p[:300] }, disk.ErrUnsupported},
		"cut in its directory":            {func(p []byte) []byte { return p[:directory+1] }, disk.ErrTruncated},
		"cut in its grains":               {func(p []byte) []byte { return p[:len(p)-512] }, disk.ErrTruncated},
		"a table behind the end":          {put(directory, 0xff, 0xff, 0xff, 0xff), disk.ErrTruncated},
		"a directory behind the end":      {put(56, 0xff, 0xff, 0xff, 0), disk.ErrTruncated},
		"a capacity beyond all disks":     {put(12, 0, 0, 0, 0, 0, 0, 0, 0x7f), disk.ErrCorrupt},
		"another capacity than described": {put(12, 0, 0x10), disk.ErrCorrupt},
		"grains of 3 sectors":             {put(20, 3), disk.ErrCorrupt},
		"line ends changed":               {put(73, '\n', ' ', '\n', '\n'), disk.ErrCorrupt},
		"every entry the same grain": {func(p []byte) []byte {
			for i := range 512 {
				copy(p[27*512+4*i:], []byte{128, 0, 0, 0})
			}
			return p[:200<<10]
		}, disk.ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := damaged(t, c.change)
			if err == nil {
				err = d.CopyTo(t.Context(), nothing{}, vmdkfile.Options{})
			}
			if !errors.Is(err, c.is) || !strings.HasPrefix(err.Error(), "disk.vmdk: ") {
				t.Errorf("the error is %v, want %v", err, c.is)
			}
		})
	}
}

// nothing takes every write.
type nothing struct{}

func (nothing) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

func TestACopyEndsWithItsContext(t *testing.T) {
	t.Parallel()
	for _, shape := range shapes {
		dir := t.TempDir()
		raw := filepath.Join(dir, "right.raw")
		disktest.WriteRaw(t, raw, disktest.Content(9, 4<<20, 9))
		disktest.QemuImg(t, "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat="+shape, raw, filepath.Join(dir, "disk.vmdk"))
		d, err := open(t, dir, "disk.vmdk")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("enough")
		err = d.CopyTo(ctx, nothing{}, vmdkfile.Options{OnPosition: func(int64) { cancel(why) }})
		if !errors.Is(err, why) {
			t.Errorf("%s: the error is %v, want the context's cause", shape, err)
		}
	}
}

func TestAFailureToWriteEndsTheCopy(t *testing.T) {
	t.Parallel()
	d, err := damaged(t, func(p []byte) []byte { return p })
	if err != nil {
		t.Fatal(err)
	}
	if err := d.CopyTo(t.Context(), full{}, vmdkfile.Options{}); !errors.Is(err, errFull) {
		t.Errorf("the error is %v, want that of the write", err)
	}
}

var errFull = errors.New("full")

type full struct{}

func (full) WriteAt([]byte, int64) (int, error) { return 0, errFull }

var _ vmdkfile.File = (*io.SectionReader)(nil)
