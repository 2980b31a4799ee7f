package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/disk/qcow2"
	"github.com/hyper2kvm/hyper2kvm/disk/vmdk"
)

// decodeCommand turns the stream in a file into an image: what an export does,
// without network and hash.
func decodeCommand(ctx context.Context, args []string, errOut io.Writer) error {
	fs := flag.NewFlagSet("bench decode", flag.ContinueOnError)
	fs.SetOutput(errOut)
	format := fs.String("to", "qcow2", "`format`: raw or qcow2")
	compress := fs.Bool("compress", false, "take grains as compressed clusters")
	verify := fs.Bool("verify", false, "inflate every grain")
	if err := fs.Parse(args); err != nil || fs.NArg() != 2 {
		return errUsage
	}
	return decode(ctx, fs.Arg(0), fs.Arg(1), *format, *compress, *verify)
}

func decode(ctx context.Context, from, to, format string, compress, verify bool) (err error) {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	head, err := vmdk.NewReader(f, vmdk.Options{})
	if err != nil {
		return err
	}
	capacity := head.Geometry().Capacity
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	var w disk.Writer
	switch format {
	case "raw":
		w, err = disk.CreateRaw(to, capacity)
	case "qcow2":
		w, err = qcow2.Create(to, capacity, qcow2.Options{Compress: compress})
	default:
		err = fmt.Errorf("format %q: want raw or qcow2", format)
	}
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Discard())
		}
	}()
	if _, err := disk.DecodeStream(ctx, f, w, disk.Options{Capacity: capacity, Verify: verify}); err != nil {
		return err
	}
	return w.Commit()
}
