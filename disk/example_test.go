package disk_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/disk/internal/testvmdk"
	"github.com/hyper2kvm/hyper2kvm/disk/qcow2"
)

// exampleStream is the stream of a disk of 1 MiB with one grain of text, as an
// ESXi host sends it.
func exampleStream() []byte {
	content := make([]byte, 1<<20)
	copy(content[256<<10:], bytes.Repeat([]byte("some text "), 6000))
	return testvmdk.Encode(testvmdk.Bytes(content, 64<<10), testvmdk.Options{})
}

// A stream becomes an image, and is hashed on the way. The caller gives the file
// its final name when the hash is the expected one.
func ExampleDecodeStream() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	part, stream := filepath.Join(dir, "disk.part"), exampleStream()
	expected := sha256.Sum256(stream) // in life, what vSphere's manifest says
	w, err := disk.CreateRaw(part, 1<<20)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = w.Discard() }() // does nothing after Commit

	hash := sha256.New()
	sum, err := disk.DecodeStream(context.Background(), bytes.NewReader(stream), w, disk.Options{
		Capacity: 1 << 20, // what vSphere says of the disk
		Tee:      hash,
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := w.Commit(); err != nil {
		log.Fatal(err)
	}
	if !bytes.Equal(hash.Sum(nil), expected[:]) {
		log.Fatal("another stream")
	}
	if err := os.Rename(part, filepath.Join(dir, "disk.raw")); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d grains, %d bytes of a disk of %d written\n", sum.Grains, sum.DataBytes, sum.Capacity)
	// Output: 1 grains, 65536 bytes of a disk of 1048576 written
}

// A decoding that broke off is resumed from its last checkpoint: the stream from
// the position's offset on, into the part file that was left.
func ExampleDecodeStream_resume() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	part, stream := filepath.Join(dir, "disk.part"), exampleStream()

	w, err := qcow2.Create(part, 1<<20, qcow2.Options{Compress: true})
	if err != nil {
		log.Fatal(err)
	}
	var last disk.Position // kept as JSON beside the part file
	_, err = disk.DecodeStream(context.Background(), bytes.NewReader(stream[:len(stream)-512]), w, disk.Options{
		CheckpointEvery: 1,
		OnCheckpoint:    func(p disk.Position) error { last = p; return nil },
	})
	fmt.Println("broken off:", err != nil)
	if err := w.Close(); err != nil { // keeps the part file
		log.Fatal(err)
	}

	w, err = qcow2.Open(part, 1<<20, qcow2.Options{Compress: true})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = w.Discard() }()
	rest := bytes.NewReader(stream[last.StreamOffset:])
	if _, err := disk.DecodeStream(context.Background(), rest, w, disk.Options{Resume: &last}); err != nil {
		log.Fatal(err)
	}
	if err := w.Commit(); err != nil {
		log.Fatal(err)
	}
	info, err := qcow2.CheckData(context.Background(), part, qcow2.CheckOptions{Adler: true})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("compressed clusters:", info.Compressed)
	// Output:
	// broken off: true
	// compressed clusters: 1
}
