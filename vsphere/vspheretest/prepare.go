package vspheretest

import (
	"bufio"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest/streamvmdk"
)

const (
	typeVMDK  = "application/x-vnd.vmware-streamVmdk" // F-NFC-8
	typeOther = "application/octet-stream"
)

// prepare makes everything that a guest's leases serve.
func (s *Server) prepare(vm VM) (*guest, error) {
	g := &guest{vm: vm, escaped: escapeName(vm.Name), host: s.hosts[vm.Host]}
	for i, spec := range vm.Disks {
		d, err := s.prepareDisk(i, spec)
		if err != nil {
			return nil, fmt.Errorf("disk %d: %w", i, err)
		}
		g.disks = append(g.disks, d)
	}
	var err error
	if vm.ISO != nil {
		if g.iso, err = s.store(vm.ISO); err != nil {
			return nil, err
		}
	}
	if vm.NVRAM != nil && atLeast(s.cfg.APIVersion, 6, 7) { // F-NFC-14
		if g.nvram, err = s.store(vm.NVRAM); err != nil {
			return nil, err
		}
	}
	return g, nil
}

func (s *Server) prepareDisk(index int, spec Disk) (*disk, error) {
	data, capacity, err := s.prepareData(spec.Path)
	if err != nil {
		return nil, err
	}
	d := &disk{spec: spec, index: index, capacity: capacity}
	d.data.Store(data)
	return d, nil
}

// prepareData encodes a raw disk, or hashes a VMDK that is served as it is.
// capacity is the disk's, in bytes.
func (s *Server) prepareData(path string) (data *diskData, capacity int64, err error) {
	fi, err := checkFile(path)
	if err != nil {
		return nil, 0, err
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, 0, err
	}
	data = new(diskData)
	if filepath.Ext(abs) == ".vmdk" {
		if capacity, err = vmdkCapacity(abs); err != nil {
			return nil, 0, err
		}
		data.stream, err = hashFile(abs, typeVMDK)
		return data, capacity, err
	}
	data.raw = &payload{
		path: abs, size: fi.Size(), contentType: typeOther,
		sha1: fmt.Sprintf("%016x", fi.ModTime().UnixNano()), // names the version in the ETag
	}
	sum, stream, err := s.encode(abs)
	if err != nil {
		return nil, 0, err
	}
	data.populated = sum.Populated
	data.stream = &payload{path: stream, size: sum.Size, sha1: sum.SHA1, sha256: sum.SHA256, contentType: typeVMDK}
	return data, sum.Capacity, nil
}

func (s *Server) encode(raw string) (sum streamvmdk.Summary, path string, err error) {
	src, err := os.Open(raw)
	if err != nil {
		return sum, "", err
	}
	defer src.Close()
	dst, err := os.CreateTemp(s.dir, "disk-*.vmdk")
	if err != nil {
		return sum, "", err
	}
	w := bufio.NewWriterSize(dst, 1<<20)
	sum, err = streamvmdk.Encode(context.Background(), w, src, streamvmdk.Options{})
	return sum, dst.Name(), errors.Join(err, w.Flush(), dst.Close())
}

// store puts b into a file of the lab's own.
func (s *Server) store(b []byte) (*payload, error) {
	f, err := os.CreateTemp(s.dir, "item-*")
	if err != nil {
		return nil, err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	return hashFile(f.Name(), typeOther)
}

func hashFile(path, contentType string) (*payload, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s1, s256 := sha1.New(), sha256.New()
	n, err := io.CopyBuffer(io.MultiWriter(s1, s256), f, make([]byte, 1<<20))
	if err != nil {
		return nil, err
	}
	return &payload{
		path: path, size: n, contentType: contentType,
		sha1: hex.EncodeToString(s1.Sum(nil)), sha256: hex.EncodeToString(s256.Sum(nil)),
	}, nil
}

// checkFile makes sure that name is a file with something in it.
func checkFile(name string) (os.FileInfo, error) {
	fi, err := os.Stat(name)
	switch {
	case err != nil:
		return nil, err
	case fi.IsDir():
		return nil, fmt.Errorf("%s is a directory, want a disk", name)
	case fi.Size() == 0:
		return nil, errors.New(name + " is empty, want a disk")
	}
	return fi, nil
}

// vmdkCapacity reads the capacity, in bytes, from a sparse VMDK's header.
func vmdkCapacity(path string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	head := make([]byte, 24)
	if _, err := io.ReadFull(f, head); err != nil || string(head[:4]) != "KDMV" {
		return 0, fmt.Errorf("%s is no stream-optimized VMDK", path)
	}
	sectors := binary.LittleEndian.Uint64(head[12:])
	if sectors == 0 || sectors > 1<<40 {
		return 0, fmt.Errorf("%s: a capacity of %d sectors is not possible", path, sectors)
	}
	return int64(sectors) * streamvmdk.SectorSize, nil
}
