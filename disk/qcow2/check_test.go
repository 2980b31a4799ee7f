package qcow2_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/disk/disktest"
	"github.com/hyper2kvm/hyper2kvm/disk/qcow2"
)

func TestCheckAcceptsWhatQemuWrites(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rawPath := filepath.Join(dir, "source.raw")
	disktest.WriteRaw(t, rawPath, disktest.Content(91, 10*mib+512, 7))
	for name, args := range map[string][]string{
		"plain":           {"-O", "qcow2"},
		"compressed":      {"-O", "qcow2", "-c"},
		"small clusters":  {"-O", "qcow2", "-o", "cluster_size=512"},
		"large clusters":  {"-O", "qcow2", "-o", "cluster_size=2M"},
		"old version":     {"-O", "qcow2", "-o", "compat=0.10"},
		"preallocated":    {"-O", "qcow2", "-o", "preallocation=metadata"},
		"small and zlib":  {"-O", "qcow2", "-c", "-o", "cluster_size=4k"},
		"zeros in places": {"-O", "qcow2", "-S", "0"},
	} {
		path := filepath.Join(dir, "image.qcow2")
		disktest.QemuImg(t, append(append([]string{"convert", "-f", "raw"}, args...), rawPath, path)...)
		info, err := qcow2.Check(context.Background(), path)
		if err != nil || info.Capacity != 10*mib+512 || info.Plain+info.Compressed == 0 {
			t.Errorf("%s: %+v, error %v", name, info, err)
		}
	}
}

func TestCheckRefusesDamagedImages(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "image.qcow2")
	w, err := qcow2.Create(path, 10*mib, qcow2.Options{Compress: true})
	if err != nil {
		t.Fatal(err)
	}
	want := disktest.Content(92, 10*mib, 10)
	if _, err := w.WriteAt(want[:5*mib], 0); err != nil {
		t.Fatal(err)
	}
	zipped := disktest.Grains(t, w, want)
	if err := w.WriteGrains(zipped[len(zipped)-30:]); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	good := disktest.ReadFile(t, path)
	info, err := qcow2.Check(context.Background(), path)
	if err != nil || info.Compressed != 30 {
		t.Fatalf("%+v, error %v", info, err)
	}
	be := binary.BigEndian
	l1 := int(be.Uint64(good[40:]))
	l2 := int(be.Uint64(good[l1:]) & (1<<56 - 1))
	refs := int(be.Uint64(good[int(be.Uint64(good[48:])):]))
	put := func(off int, v uint64) func([]byte) { return func(p []byte) { be.PutUint64(p[off:], v) } }
	for name, c := range map[string]struct {
		damage func([]byte)
		want   error
	}{
		"another magic":            {put(0, 0), disk.ErrCorrupt},
		"version 9":                {func(p []byte) { be.PutUint32(p[4:], 9) }, disk.ErrUnsupported},
		"backing file":             {put(8, 4096), disk.ErrUnsupported},
		"encryption":               {func(p []byte) { be.PutUint32(p[32:], 1) }, disk.ErrUnsupported},
		"snapshots":                {func(p []byte) { be.PutUint32(p[60:], 1) }, disk.ErrUnsupported},
		"dirty":                    {put(72, 1), disk.ErrCorrupt},
		"unknown feature":          {put(72, 1<<40), disk.ErrUnsupported},
		"level 1 table far away":   {put(40, 1<<40), disk.ErrCorrupt},
		"level 1 table too short":  {func(p []byte) { be.PutUint32(p[36:], 0) }, disk.ErrCorrupt},
		"level 1 table too long":   {func(p []byte) { be.PutUint32(p[36:], 1<<31) }, disk.ErrCorrupt},
		"refcount table far away":  {put(48, 1<<40), disk.ErrCorrupt},
		"level 2 table far away":   {put(l1, 1<<40|1<<63), disk.ErrCorrupt},
		"level 2 table in header":  {put(l1, 1<<63), disk.ErrCorrupt},
		"cluster far away":         {put(l2, 1<<40|1<<63), disk.ErrCorrupt},
		"cluster not aligned":      {put(l2, 1<<20|512|1<<63), disk.ErrCorrupt},
		"cluster used twice":       {put(l2, be.Uint64(good[l2+8:])), disk.ErrCorrupt},
		"cluster lost":             {put(l2, 0), disk.ErrCorrupt},
		"compressed data far away": {put(l2+8*159, 1<<62|1<<40), disk.ErrCorrupt},
		"count too low":            {func(p []byte) { p[refs+1] = 0 }, disk.ErrCorrupt},
		"count too high":           {func(p []byte) { p[refs+1] = 2 }, disk.ErrCorrupt},
		"capacity of 2^63":         {put(24, 1<<63), disk.ErrCorrupt},
	} {
		p := bytes.Clone(good)
		c.damage(p)
		bad := filepath.Join(dir, "bad.qcow2")
		if err := os.WriteFile(bad, p, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := qcow2.Check(context.Background(), bad); !errors.Is(err, c.want) || !strings.Contains(err.Error(), bad) {
			t.Errorf("%s: error %v; want %v that names the file", name, err, c.want)
		}
	}
	if err := os.WriteFile(path, good[:len(good)-3*grain], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := qcow2.Check(context.Background(), path); !errors.Is(err, disk.ErrCorrupt) {
		t.Errorf("cut off: error %v", err)
	}
}
