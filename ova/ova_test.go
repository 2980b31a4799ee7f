package ova_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/ova"
)

// envelope is a descriptor of a VM with the disk disk.vmdk.
const envelope = `<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
 <References><File ovf:id="file1" ovf:href="disk.vmdk" ovf:size="4"/></References>
 <DiskSection><Info/><Disk ovf:diskId="vmdisk1" ovf:fileRef="file1" ovf:capacity="8" ovf:capacityAllocationUnits="byte * 2^30"/></DiskSection>
 <VirtualSystem ovf:id="erp"><Info/><Name>erp</Name></VirtualSystem>
</Envelope>`

// manifestOf is a manifest of files, which are given by name and content in turn.
func manifestOf(a ova.Algorithm, files ...string) string {
	var b strings.Builder
	for i := 0; i < len(files); i += 2 {
		h := a.New()
		_, _ = io.WriteString(h, files[i+1])
		fmt.Fprintf(&b, "%s(%s)= %x\n", a, files[i], h.Sum(nil))
	}
	return b.String()
}

// member is a file of a tar.
type member struct {
	tar.Header
	text string
}

func regular(name, text string) member {
	return member{tar.Header{Name: name, Typeflag: tar.TypeReg, Size: int64(len(text)), Mode: 0o644}, text}
}

// archive makes a tar.
func archive(t testing.TB, members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		if err := w.WriteHeader(&m.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(m.text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// open opens a package of these bytes.
func open(t testing.TB, data []byte) (*ova.Package, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "erp.ova")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := ova.Open(path)
	if err == nil {
		t.Cleanup(func() { _ = p.Close() })
	}
	return p, err
}

func TestAnOVAIsReadWhereverItsDescriptorAndManifestAre(t *testing.T) {
	t.Parallel()
	for _, a := range []ova.Algorithm{ova.SHA1, ova.SHA256, ova.SHA512} {
		mf := regular("erp.mf", manifestOf(a, "erp.ovf", envelope, "disk.vmdk", "data"))
		ovf, disk := regular("erp.ovf", envelope), regular("./disk.vmdk", "data")
		here := member{Header: tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755}}
		for _, order := range [][]member{{ovf, mf, disk}, {ovf, disk, mf}, {here, disk, mf, ovf}, {ovf, disk, mf, regular("erp.cert", "x")}} {
			p, err := open(t, archive(t, order...))
			if err != nil {
				t.Fatal(err)
			}
			f, err := p.File("disk.vmdk")
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(f)
			if err != nil || string(data) != "data" {
				t.Errorf("the disk holds %q, %v", data, err)
			}
			h := f.Entry.Algorithm.New()
			h.Write(data)
			if err := f.Entry.Match(h.Sum(nil)); err != nil {
				t.Error(err)
			}
			if signed := len(order) == 4 && order[0].Name == "erp.ovf"; p.Signed != signed || p.Base != "erp" || p.Dir() != nil {
				t.Errorf("signed %v, base %q, dir %v", p.Signed, p.Base, p.Dir())
			}
		}
	}
}

func TestAHostileOVAIsAnErrorThatNamesFileAndPlace(t *testing.T) {
	t.Parallel()
	ovf, disk := regular("erp.ovf", envelope), regular("disk.vmdk", "data")
	link := member{Header: tar.Header{Name: "disk.vmdk", Typeflag: tar.TypeSymlink, Linkname: "/etc/shadow"}}
	hard := member{Header: tar.Header{Name: "disk.vmdk", Typeflag: tar.TypeLink, Linkname: "erp.ovf"}}
	pipe := member{Header: tar.Header{Name: "disk.vmdk", Typeflag: tar.TypeFifo}}
	dir := member{Header: tar.Header{Name: "sub/", Typeflag: tar.TypeDir}}
	whole := archive(t, ovf, disk)
	for name, c := range map[string]struct {
		data []byte
		is   error
		says string
	}{
		"a name above":                {archive(t, ovf, regular("../disk.vmdk", "data")), ova.ErrInvalid, `file 2, before byte`},
		"an absolute name":            {archive(t, ovf, regular("/etc/cron.d/x", "data")), ova.ErrInvalid, `"/etc/cron.d/x" is not the plain name`},
		"a name with a directory":     {archive(t, ovf, regular("sub/disk.vmdk", "data")), ova.ErrInvalid, `not the plain name`},
		"a name of Windows":           {archive(t, ovf, regular(`..\disk.vmdk`, "data")), ova.ErrInvalid, `not the plain name`},
		"a symbolic link":             {archive(t, ovf, link), ova.ErrInvalid, `"disk.vmdk" is no regular file`},
		"a hard link":                 {archive(t, ovf, hard), ova.ErrInvalid, `"disk.vmdk" is no regular file`},
		"a pipe":                      {archive(t, ovf, pipe), ova.ErrInvalid, `"disk.vmdk" is no regular file`},
		"a directory":                 {archive(t, ovf, dir, disk), ova.ErrInvalid, `"sub/" is a directory`},
		"a name twice":                {archive(t, ovf, disk, regular("./disk.vmdk", "evil")), ova.ErrInvalid, `a second file with the name "disk.vmdk"`},
		"a file that is missing":      {archive(t, ovf), ova.ErrMissing, `disk "vmdisk1": "disk.vmdk" is not in the package`},
		"no descriptor":               {archive(t, disk), ova.ErrInvalid, "no OVF descriptor"},
		"two descriptors":             {archive(t, ovf, regular("b.ovf", envelope), disk), ova.ErrInvalid, `"erp.ovf" and "b.ovf"`},
		"cut in a file":               {whole[:len(whole)-1024-512+2], ova.ErrTruncated, "disk.vmdk"},
		"cut in a header":             {whole[:len(whole)-1024-512-200], ova.ErrTruncated, "file 2"},
		"another size than described": {archive(t, ovf, regular("disk.vmdk", "dat")), ova.ErrTruncated, `"disk.vmdk" has 3 bytes, the descriptor says 4`},
		"a descriptor of another sum": {archive(t, ovf, regular("erp.mf", manifestOf(ova.SHA256, "erp.ovf", "x")), disk), ova.ErrChecksum, "erp.ovf: the checksum is wrong"},
		"a manifest of something":     {archive(t, ovf, regular("erp.mf", "hello\n"), disk), ova.ErrInvalid, "erp.mf: line 1"},
		"a sum that is too short":     {archive(t, ovf, regular("erp.mf", "SHA256(disk.vmdk)= abcd\n"), disk), ova.ErrInvalid, "erp.mf: line 1"},
		"a hash that is unknown":      {archive(t, ovf, regular("erp.mf", "\nSHA224(disk.vmdk)= abcd\n"), disk), ova.ErrUnsupported, "erp.mf: line 2"},
		"a manifest that says twice":  {archive(t, ovf, regular("erp.mf", strings.Repeat(manifestOf(ova.SHA1, "disk.vmdk", "data"), 2)), disk), ova.ErrInvalid, "line 2"},
		"a descriptor that is none":   {archive(t, regular("erp.ovf", "<html/>"), disk), ova.ErrInvalid, "erp.ovf"},
		"several VMs":                 {archive(t, regular("erp.ovf", `<Envelope><VirtualSystemCollection/></Envelope>`)), ova.ErrUnsupported, "several VMs"},
		"a URL":                       {archive(t, regular("erp.ovf", strings.ReplaceAll(envelope, "disk.vmdk", "http://10.0.0.1/disk.vmdk"))), ova.ErrUnsupported, "is a URL"},
		"a reference above":           {archive(t, regular("erp.ovf", strings.ReplaceAll(envelope, "disk.vmdk", "../../etc/shadow"))), ova.ErrInvalid, "not the plain name"},
		"a reference to nothing":      {archive(t, regular("erp.ovf", strings.Replace(envelope, `fileRef="file1"`, `fileRef="file2"`, 1)), disk), ova.ErrInvalid, `"file2"`},
		"chunks":                      {archive(t, regular("erp.ovf", strings.Replace(envelope, `ovf:size="4"`, `ovf:chunkSize="7"`, 1)), disk), ova.ErrUnsupported, "chunks"},
		"a disk that is packed":       {archive(t, regular("erp.ovf", strings.Replace(envelope, `ovf:size="4"`, `ovf:compression="gzip"`, 1)), disk), ova.ErrUnsupported, "gzip"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := open(t, c.data)
			if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "erp.ova: ") {
				t.Errorf("the error is %v, want %v, with %q", err, c.is, c.says)
			}
		})
	}
}

func TestAReferenceMayBeEscapedAndTheManifestCalledOtherwise(t *testing.T) {
	t.Parallel()
	text := strings.ReplaceAll(envelope, "disk.vmdk", "my%20disk.vmdk")
	p, err := open(t, archive(t, regular("erp.ovf", text), regular("other.MF", manifestOf(ova.SHA256, "my disk.vmdk", "data")), regular("my disk.vmdk", "data")))
	if err != nil {
		t.Fatal(err)
	}
	f, err := p.File("my%20disk.vmdk")
	if err != nil || f.Name != "my disk.vmdk" || f.Entry.Algorithm != ova.SHA256 {
		t.Errorf("the file is %+v, %v", f, err)
	}
	if about := p.About(); len(about) != 2 || about[0].Name != "erp.ovf" || about[1].Name != "other.MF" {
		t.Errorf("the package is described by %v", about)
	}
	// An escape leads nowhere else.
	for _, href := range []string{"..%2fdisk.vmdk", "%2fetc%2fshadow"} {
		if _, err := p.File(href); !errors.Is(err, ova.ErrMissing) {
			t.Errorf("%s gives %v", href, err)
		}
	}
}

func TestASizeBeyondTheEndIsNotBelieved(t *testing.T) {
	t.Parallel()
	huge := regular("disk.vmdk", "")
	huge.Size, huge.Format = 1<<60, tar.FormatGNU
	var b bytes.Buffer
	b.Write(bytes.TrimRight(archive(t, regular("erp.ovf", envelope)), "\x00"))
	b.Write(make([]byte, (512-b.Len()%512)%512))
	if err := tar.NewWriter(&b).WriteHeader(&huge.Header); err != nil {
		t.Fatal(err)
	}
	b.WriteString("data")
	if _, err := open(t, b.Bytes()); !errors.Is(err, ova.ErrTruncated) || !strings.Contains(err.Error(), "1152921504606846976") {
		t.Errorf("the error is %v, want that it is truncated", err)
	}
}

func TestADirectoryLeadsToNothingOutsideOfIt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("erp.ovf", strings.Replace(envelope, `ovf:size="4"`, "", 1))
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "disk.vmdk")); err != nil {
		t.Fatal(err)
	}
	if _, err := ova.Open(filepath.Join(dir, "erp.ovf")); err == nil || !strings.Contains(err.Error(), `"disk.vmdk"`) {
		t.Errorf("a link that leads out gives %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "disk.vmdk")); err != nil {
		t.Fatal(err)
	}
	if _, err := ova.Open(filepath.Join(dir, "erp.ovf")); !errors.Is(err, ova.ErrMissing) {
		t.Errorf("a file that is missing gives %v", err)
	}
	write("disk.vmdk", "data")
	p, err := ova.Open(filepath.Join(dir, "erp.ovf"))
	if err != nil {
		t.Fatal(err)
	}
	if p.Dir() == nil || p.Manifest != nil {
		t.Errorf("dir %v, manifest %v", p.Dir(), p.Manifest)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

func TestSizesAreReadInEveryUnitThatDescriptorsHave(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		n, units string
		want     int64
	}{
		{"5", "", 5}, {"5", "byte", 5}, {"8", "byte * 2^30", 8 << 30}, {"8", "byte*2^30", 8 << 30}, {"2", "GigaBytes", 2 << 30},
		{"3", "MegaBytes", 3 << 20}, {"3", "byte * 10^9", 3e9}, {" 4 ", "byte * 2^40", 4 << 40},
		{"", "", 0}, {"0", "", 0}, {"-1", "", 0}, {"${size}", "", 0}, {"9223372036854775807", "", 0}, {"99999999", "byte * 2^40", 0}, {"1", "furlong", 0},
	} {
		if got, ok := ova.Bytes(c.n, c.units); got != c.want || ok != (c.want > 0) {
			t.Errorf("%q %q is %d, %v; want %d", c.n, c.units, got, ok, c.want)
		}
	}
}

// content is a member that holds text.
func content(name, text string) ova.Member {
	return ova.Member{Name: name, Size: int64(len(text)), ModTime: time.Now(), Open: func() (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(text)), nil
	}}
}

// written is the path of an OVA of members.
func written(t *testing.T, members ...ova.Member) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "out.ova")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	last := int64(0)
	err = ova.Write(t.Context(), f, members, func(n int64) {
		if n < last {
			t.Errorf("the position went back from %d to %d", last, n)
		}
		last = n
	})
	if err != nil {
		t.Fatal(err)
	}
	st, err := f.Stat()
	if err != nil || st.Size() != ova.Size(members) {
		t.Errorf("%d bytes were written, %v; Size says %d", st.Size(), err, ova.Size(members))
	}
	return path
}

func TestAnOVAThatIsWrittenIsReadByTarAndByUs(t *testing.T) {
	t.Parallel()
	disk := strings.Repeat("disk", 1000)
	text := strings.Replace(envelope, `ovf:size="4"`, `ovf:size="4000"`, 1)
	path := written(t, content("ü.ovf", text), content("ü.mf", manifestOf(ova.SHA256, "ü.ovf", text, "disk.vmdk", disk)), content("disk.vmdk", disk))
	out, err := exec.Command("tar", "-tf", path, "--quoting-style=literal").CombinedOutput()
	if err != nil || string(out) != "ü.ovf\nü.mf\ndisk.vmdk\n" {
		t.Errorf("tar says %q, %v", out, err)
	}
	p, err := ova.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	f, err := p.File("disk.vmdk")
	if err != nil {
		t.Fatal(err)
	}
	if data, err := io.ReadAll(f); err != nil || string(data) != disk {
		t.Errorf("the disk holds %d bytes, %v", len(data), err)
	}
}

func TestAMemberOfAnotherSizeIsNotWritten(t *testing.T) {
	t.Parallel()
	short := content("disk.vmdk", "data")
	short.Size = 5
	f, err := os.Create(filepath.Join(t.TempDir(), "x"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := ova.Write(t.Context(), f, []ova.Member{short}, func(int64) {}); !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "disk.vmdk") {
		t.Errorf("the error is %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	if err := ova.Write(ctx, f, []ova.Member{content("a", "b")}, func(int64) {}); !errors.Is(err, why) {
		t.Errorf("the error is %v, want the context's cause", err)
	}
}

// A member of 9 GiB, all of it a hole.
func TestAFileOf8GiBAndMoreHasItsSizeInBase256(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		size int64
		gnu  bool
	}{{1<<33 - 1, false}, {1 << 33, true}, {9<<30 + 1, true}} {
		header, err := ova.MemberHeader(ova.Member{Name: "disk.vmdk", Size: c.size})
		if err != nil {
			t.Fatal(err)
		}
		if len(header) != 512 || header[124]&0x80 != 0 != c.gnu || header[156] != '0' {
			t.Errorf("%d bytes: a header of %d bytes, size field %x", c.size, len(header), header[124:136])
		}
		h, err := tar.NewReader(bytes.NewReader(header)).Next()
		if err != nil || h.Size != c.size || h.Name != "disk.vmdk" {
			t.Errorf("%d bytes are read as %+v, %v", c.size, h, err)
		}
	}
}
