package migrate

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/disk/qcow2"
	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/transfer"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// checkpointBytes is how much of a stream may have to be fetched again after a
// crash, where the server honours ranges.
const checkpointBytes = 256 << 20

// leaseRoute brings a disk through the export lease: one stream-optimized VMDK, in
// ranges where the host honours them, hashed as it comes. The lease's manifest
// verifies it, or its grains where there is none (verify.go).
type leaseRoute struct {
	d *diskRun

	lease     *vsphere.Lease // the one that is open
	item      vsphere.Item   // what it offers of the disk
	algorithm string         // of the hash that its manifest is to have

	plain    bool   // ranges failed to give the same bytes: one stream only
	other    string // the algorithm that the manifest has in truth, where it is not the one that was asked for
	unlisted bool   // a manifest that could be read did not list the disk
}

// under makes the route one under a lease that was opened.
func (l *leaseRoute) under(lease *vsphere.Lease, item vsphere.Item, algorithm string) {
	l.lease, l.item, l.algorithm = lease, item, algorithm
	if l.other != "" {
		l.algorithm = l.other
	}
}

// leaseKey is the key by which a lease knows the disk: that of this run's, or
// of the run that fetched it.
func (d *diskRun) leaseKey() string {
	if d.lease.item.Key != "" {
		return d.lease.item.Key
	}
	e, _ := d.r.work.Disk(d.key())
	return e.LeaseKey
}

func (*leaseRoute) way() string { return "through the export lease" }

func (l *leaseRoute) able() error { return nil }

// judge remembers that the host does not honour ranges after all.
func (l *leaseRoute) judge(err error) error {
	if errors.Is(err, transfer.ErrNoRange) {
		l.plain = true
	}
	if l.item.Assumed && errors.Is(err, disk.ErrCapacity) {
		return fault.WithHint(fmt.Errorf("the lease does not tell which stream is of which disk, and the order of the disks is not it: %w", err),
			"read the disks from the datastore (transport datastore)")
	}
	return err
}

// streamPlace is a checkpoint of a disk that comes as a stream. It is of use only
// while the server honours ranges and its entity tag and size are the same.
type streamPlace struct {
	ETag     string        `json:"etag"`
	Size     int64         `json:"size"` // of the stream, in bytes
	Hash     hashState     `json:"hash"` // at or before Position.StreamOffset
	Position disk.Position `json:"position"`
}

const kindStream = "stream"

// streamReading is an attempt at the stream.
type streamReading struct {
	d        *diskRun
	stream   io.ReadCloser
	info     transfer.Info
	hash     hashState      // where stream begins
	position *disk.Position // nil at the stream's beginning
	decoders int
}

// open opens the stream at the disk's checkpoint where there is a usable one,
// and at its beginning otherwise. A checkpoint of a stream without an entity
// tag is of no use: nothing would tell that the stream has changed.
func (l *leaseRoute) open(ctx context.Context, o pace) (_ reading, err error) {
	source := l.lease.Source(l.item)
	l.d.expect()                          // another route may have known better of what it would read
	l.d.file.SetRoute(progress.NFCStream) // what a probe brings is the stream's begin
	s := &streamReading{d: l.d, hash: hashState{Algorithm: l.algorithm}, decoders: o.decoders}
	var at streamPlace
	switch {
	case l.plain:
		s.stream, err = transfer.NewReader(ctx, source, transfer.Info{}, o.Options)
	case l.d.loadCheckpoint(kindStream, &at) && at.Hash.Algorithm == l.algorithm:
		s.info = transfer.Info{Size: at.Size, Ranges: true, ETag: at.ETag}
		s.hash, s.position = at.Hash, &at.Position
		o.Offset = at.Hash.Offset
		s.stream, err = transfer.NewReader(ctx, source, s.info, o.Options)
	default:
		s.stream, s.info, err = transfer.Open(ctx, source, o.Options)
	}
	if err != nil {
		return nil, err
	}
	if s.info.Ranges {
		l.d.file.SetRoute(progress.NFCRanges)
	}
	return s, nil
}

func (s *streamReading) resumes() *disk.Position { return s.position }

// close ends the stream: what matters of it is reported by its Read.
func (s *streamReading) close() { _ = s.stream.Close() }

// read moves the stream to its end, through the hash and the decoder.
func (s *streamReading) read(ctx context.Context, out sink) (arrival, error) {
	hashed, err := newTee(s.stream, s.hash)
	if err != nil {
		return arrival{}, err
	}
	defer func() {
		s.close() // ends a read under way, which the tee waits for
		_ = hashed.Close()
	}()
	d := s.d
	var data int64 // that lay before the position
	o := disk.Options{
		Capacity:   d.disk.Capacity,
		OnData:     func(n int64) { data = n },
		OnPosition: func(pos int64) { d.file.SetMoved(pos, data) },
		Verify:     d.r.def.Options.Verify == job.VerifyFull,
		Workers:    s.decoders,
	}
	if at := s.position; at != nil {
		o.Resume = at
		if _, err := io.CopyN(io.Discard, hashed, at.StreamOffset-s.hash.Offset); err != nil {
			return arrival{}, err
		}
		d.file.SetResumed(at.LBA*512, min(at.Grains*at.GrainSize, d.disk.Capacity))
		d.file.Event(progress.Info, fmt.Sprintf("resuming at byte %d of the stream", at.StreamOffset))
	}
	if s.info.Ranges && s.info.ETag != "" {
		o.CheckpointEvery = checkpointBytes
		o.OnCheckpoint = func(p disk.Position) error {
			if err := out.checkpoint(); err != nil {
				return err
			}
			return d.saveCheckpoint(kindStream, streamPlace{ETag: s.info.ETag, Size: s.info.Size, Hash: hashed.stateBefore(p.StreamOffset), Position: p})
		}
	}
	if _, err := out.decode(ctx, hashed, o); err != nil {
		return arrival{}, err
	}
	got := arrival{inflated: d.decodes() || o.Verify && s.position == nil}
	got.result.Digest, got.sha256, got.result.StreamSize = hashed.digests()
	got.result.Transport = "stream"
	if s.info.Ranges {
		got.result.Transport = "ranges"
	}
	return got, nil
}

// decodes says whether the disk's grains are inflated while it arrives, because
// they are not written as they come.
func (d *diskRun) decodes() bool { return !d.r.ovf() && !d.r.def.Options.Compress }

// inflateAll inflates every grain of the disk as it was kept, and checks its
// Adler-32. done is called with how many bytes of the disk are passed.
func (d *diskRun) inflateAll(ctx context.Context, done func(int64)) (err error) {
	at := d.r.work.At(d.part())
	if d.r.ovf() {
		_, err = disk.CheckStreamAt(ctx, at, disk.CheckOptions{Capacity: d.disk.Capacity, OnPosition: done})
	} else {
		_, err = qcow2.CheckDataAt(ctx, at, qcow2.CheckOptions{Adler: true, OnPosition: done})
	}
	return err
}
