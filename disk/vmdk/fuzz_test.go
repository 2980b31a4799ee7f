package vmdk_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/disk/vmdk"
)

// oneOfOurs reports whether an error has an identity.
func oneOfOurs(err error) bool {
	return errors.Is(err, disk.ErrCorrupt) || errors.Is(err, disk.ErrTruncated) || errors.Is(err, disk.ErrUnsupported) || errors.Is(err, disk.ErrCapacity)
}

func FuzzParseDescriptor(f *testing.F) {
	for _, text := range []string{
		"# Disk DescriptorFile\nversion=1\nCID=15322ef9\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\nRW 10240 FLAT \"a-flat.vmdk\" 0\n",
		"RW 4192256 SPARSE \"a b-s001.vmdk\"\nRDONLY 1 ZERO\nRW 1 VMFS \"x\" 7\n",
		"RW 9223372036854775807 FLAT \"/etc/shadow\" 9223372036854775807",
		"parentCID=1", "RW 1 FLAT \"", "NOACCESS 1 FLAT \"x\"\x00RW",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := vmdk.ParseDescriptor(text)
		if err != nil {
			if !oneOfOurs(err) {
				t.Fatalf("an error without an identity: %v", err)
			}
			return
		}
		for _, e := range d.Extents {
			if e.Size <= 0 || e.Offset < 0 || e.Line < 1 || (e.File == "") != (e.Kind == vmdk.ExtentZero) && e.Kind != vmdk.ExtentZero {
				t.Fatalf("an extent that cannot be: %+v", e)
			}
		}
		if c := d.Capacity(); c < 0 || c > disk.MaxCapacity {
			t.Fatalf("a disk of %d bytes", c)
		}
	})
}

// sparseSeed is a sparse extent of so many grains of 4 KiB, all of them there.
func sparseSeed(grains int) []byte {
	const grain, table = 4096, 2048
	b := make([]byte, 1024+table+grains*grain)
	le := binary.LittleEndian
	copy(b, "KDMV")
	le.PutUint32(b[4:], 1)
	le.PutUint32(b[8:], 1|4)
	le.PutUint64(b[12:], uint64(grains*grain/512))
	le.PutUint64(b[20:], grain/512)
	le.PutUint32(b[44:], 512)
	le.PutUint64(b[56:], 1)
	le.PutUint64(b[64:], 6)
	copy(b[73:], "\n \r\n")
	le.PutUint32(b[512:], 2)
	for i := range grains {
		le.PutUint32(b[1024+4*i:], uint32(6+i*grain/512))
	}
	return b
}

func FuzzSparse(f *testing.F) {
	f.Add(sparseSeed(3))
	f.Add(sparseSeed(1)[:1024])
	zeroed := sparseSeed(2)
	zeroed[1024] = 1
	f.Add(zeroed)
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := vmdk.OpenSparse(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			if !oneOfOurs(err) {
				t.Fatalf("an error without an identity: %v", err)
			}
			return
		}
		buf := make([]byte, 4096)
		for off, n := int64(0), 0; off < s.Capacity() && n < 8; n++ {
			start, end, err := s.NextData(off)
			if err == nil && (start < off || end < start || end > s.Capacity()) {
				t.Fatalf("data from %d to %d, after %d", start, end, off)
			}
			if err == nil && start < s.Capacity() {
				_, err = s.ReadAt(buf[:min(int64(len(buf)), end-start)], start)
			}
			if err != nil {
				if !oneOfOurs(err) || errors.Is(err, io.EOF) {
					t.Fatalf("an error without an identity: %v", err)
				}
				return
			}
			off = end
		}
	})
}
