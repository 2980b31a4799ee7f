package migrate

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/disk/qcow2"
	"github.com/hyper2kvm/hyper2kvm/internal/directio"
	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate/workdir"
)

// sink is where an attempt at a disk puts the stream: into an image, or into a
// file as it comes. One of commit, abandon and discard ends it.
type sink interface {
	// decode consumes r, the stream from o.Resume on, to its end.
	decode(ctx context.Context, r io.Reader, o disk.Options) (disk.Summary, error)
	checkpoint() error // makes what was decoded so far durable
	commit() error     // completes the part file and makes it durable
	abandon() error    // leaves the part file to be resumed
	discard() error    // removes the part file
}

// openSink makes the part file for the job's format or, with from, goes on with the
// one that is there.
func (r *run) openSink(at disk.At, capacity int64, from *disk.Position) (sink, error) {
	switch r.def.Options.Format {
	case job.FormatOVF, job.FormatOVA:
		return openStreamSink(at, from)
	case job.FormatRaw:
		if from != nil {
			return newImageSink(disk.OpenRawAt(at, capacity))
		}
		return newImageSink(disk.CreateRawAt(at, capacity))
	case job.FormatQcow2:
		o := qcow2.Options{Compress: r.def.Options.Compress}
		if from != nil {
			return newImageSink(qcow2.OpenAt(at, capacity, o))
		}
		return newImageSink(qcow2.CreateAt(at, capacity, o))
	}
	return nil, fault.Permanent(fmt.Errorf("unknown format %q: ovf, ova, raw and qcow2 are known", r.def.Options.Format))
}

// imageSink decodes the stream into a disk image.
type imageSink struct{ w disk.Writer }

func newImageSink[W disk.Writer](w W, err error) (sink, error) {
	if err != nil {
		return nil, workdir.Storage(err)
	}
	return imageSink{w}, nil
}

func (s imageSink) decode(ctx context.Context, r io.Reader, o disk.Options) (disk.Summary, error) {
	sum, err := disk.DecodeStream(ctx, r, s.w, o)
	return sum, workdir.Storage(err)
}
func (s imageSink) checkpoint() error { return nil } // DecodeStream has done it
func (s imageSink) commit() error     { return workdir.Storage(s.w.Commit()) }
func (s imageSink) abandon() error    { return s.w.Close() }
func (s imageSink) discard() error    { return s.w.Discard() }

// streamSink keeps the stream as it comes and checks its structure on the way.
type streamSink struct {
	f  *directio.Appender
	at disk.At
}

// openStreamSink goes on at a checkpoint with from: bytes after it were read
// ahead, and may not be durable.
func openStreamSink(at disk.At, from *disk.Position) (sink, error) {
	off := int64(0)
	if from != nil {
		off = from.StreamOffset
	}
	f, err := directio.OpenAppenderAt(at, off)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("%w: %w", disk.ErrNotResumable, err)
	}
	if err != nil {
		return nil, workdir.Storage(err)
	}
	return streamSink{f, at}, nil
}

func (s streamSink) decode(ctx context.Context, r io.Reader, o disk.Options) (disk.Summary, error) {
	o.Tee = s
	return disk.DecodeStream(ctx, r, nil, o)
}

// Write appends to the part file. A full file system is an error of the run,
// not of the stream.
func (s streamSink) Write(p []byte) (int, error) {
	n, err := s.f.Write(p)
	return n, workdir.Storage(err)
}

func (s streamSink) checkpoint() error { return workdir.Storage(s.f.Sync()) }
func (s streamSink) commit() error     { return workdir.Storage(errors.Join(s.f.Sync(), s.f.Close())) }
func (s streamSink) abandon() error    { return s.f.Close() }
func (s streamSink) discard() error {
	return errors.Join(s.f.Close(), s.at.Remove())
}
