package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest/streamvmdk"
)

// spec says what a disk looks like.
type spec struct {
	Capacity int64 // bytes, as the guest sees it
	Data     int64 // bytes that hold data, spread evenly over the capacity
}

// name is the base name of the disk's files.
func (s spec) name() string { return fmt.Sprintf("disk-%dM-of-%dM", s.Data>>20, s.Capacity>>20) }

// image is a disk on file: raw, to compare with, and as the stream that the lab
// serves.
type image struct {
	spec
	raw, stream string // paths
	size        int64  // bytes of the stream
}

// dense returns the spec of a disk with data and some holes, as a used file
// system leaves them: an eighth of the disk is empty.
func dense(data int64) spec {
	data = data >> 20 << 20
	return spec{Capacity: (data + data/7) >> 20 << 20, Data: data}
}

// sparse returns the spec of a disk of twice the size, an eighth of which holds
// data.
func sparse(size int64) spec {
	size = size >> 23 << 23
	return spec{Capacity: 2 * size, Data: size / 4}
}

const (
	extent   = 1 << 20 // of data or of hole, at least
	poolSize = 32 << 20
	stampAt  = 64 << 10 // each grain gets its number, so that no two are the same
)

// writeDisk writes a raw disk. Its content depends on s only. A third of the
// data is incompressible, as media and archives are; the rest is lines of a log
// and tables of numbers, which deflate to a third or a quarter.
func writeDisk(f *os.File, s spec) error {
	if err := f.Truncate(s.Capacity); err != nil {
		return err
	}
	random, text := pools()
	extents := s.Data / extent
	for i := range extents {
		pool := text
		if i%3 == 0 {
			pool = random
		}
		p := pool[i*extent%poolSize:][:extent]
		at := i * (s.Capacity / extent) / extents * extent
		for g := int64(0); g < extent; g += stampAt {
			binary.LittleEndian.PutUint64(p[g:], uint64(at+g))
		}
		if _, err := f.WriteAt(p, at); err != nil {
			return err
		}
	}
	return nil
}

// pools returns incompressible and compressible data of poolSize bytes each.
func pools() (random, text []byte) {
	seed := rand.NewChaCha8([32]byte{1})
	random = make([]byte, poolSize)
	_, _ = seed.Read(random) // never fails
	r := rand.New(seed)
	words := make([]string, 2048)
	for i := range words {
		w := make([]byte, 3+r.IntN(8))
		for j := range w {
			w[j] = "etaoinshrdlucmfwypvbgkqjxz"[min(r.IntN(26), r.IntN(26))]
		}
		words[i] = string(w)
	}
	text = make([]byte, 0, poolSize+extent)
	for len(text) < poolSize {
		for end := len(text) + extent/2; len(text) < end; {
			text = fmt.Appendf(text, "%010d host%02d %s[%d]:", len(text), r.IntN(40), words[r.IntN(64)], r.IntN(30000))
			for range 4 + r.IntN(9) {
				text = append(append(text, ' '), words[r.IntN(1+r.IntN(len(words)))]...)
			}
			text = append(text, '\n')
		}
		for end := len(text) + extent/2; len(text) < end; {
			text = binary.LittleEndian.AppendUint64(text, uint64(len(text)))
			text = binary.LittleEndian.AppendUint32(text, uint32(r.IntN(100_000)))
			text = binary.LittleEndian.AppendUint32(text, 0)
		}
	}
	return random, text[:poolSize]
}

// prepareCommand makes a disk's two files, unless they are there. It is a
// process of its own, so that its memory does not count for anyone.
func prepareCommand(ctx context.Context, args []string, errOut io.Writer) error {
	var s spec
	fs := flag.NewFlagSet("bench prepare", flag.ContinueOnError)
	fs.SetOutput(errOut)
	dir := fs.String("dir", ".", "`directory` to put the files in")
	fs.Int64Var(&s.Capacity, "capacity", 0, "`bytes` of disk")
	fs.Int64Var(&s.Data, "content", 0, "`bytes` that hold data")
	if err := fs.Parse(args); err != nil {
		return errUsage
	}
	base := filepath.Join(*dir, s.name())
	if _, err := os.Stat(base + ".vmdk"); err == nil {
		return nil
	}
	if err := os.MkdirAll(*dir, 0o755); err != nil {
		return err
	}
	raw, err := os.Create(base + ".raw")
	if err != nil {
		return err
	}
	defer raw.Close()
	if err := writeDisk(raw, s); err != nil {
		return fmt.Errorf("make a disk: %w", err)
	}
	stream, err := os.Create(base + ".part")
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(stream, 1<<20)
	_, err = streamvmdk.Encode(ctx, w, raw, streamvmdk.Options{})
	if err := errors.Join(err, w.Flush(), stream.Close()); err != nil {
		return err
	}
	return os.Rename(base+".part", base+".vmdk") // there only when it is whole
}

// disk returns the image of s, made now if need be.
func (b *bench) disk(ctx context.Context, s spec) (image, error) {
	i := image{spec: s, raw: filepath.Join(b.o.data, s.name()+".raw"), stream: filepath.Join(b.o.data, s.name()+".vmdk")}
	if _, err := os.Stat(i.stream); err != nil {
		b.say("preparing %s", s.name())
	}
	_, err := b.exec(ctx, nil, b.self, "prepare", "-dir", b.o.data,
		"-capacity", fmt.Sprint(s.Capacity), "-content", fmt.Sprint(s.Data))
	if err != nil {
		return i, err
	}
	fi, err := os.Stat(i.stream)
	if err != nil {
		return i, err
	}
	i.size = fi.Size()
	return i, nil
}
