package migrate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/disk/qcow2"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/transfer"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// checkpointBytes is how much of a stream may have to be fetched again after a
// crash, where the server honours ranges.
const checkpointBytes = 256 << 20

// diskRun is one disk on its way.
type diskRun struct {
	r     *run
	disk  vsphere.Disk
	index int
	name  string // final file name
	file  *progress.File

	item      vsphere.Item
	decoders  int    // goroutines that inflate and write
	arrived   bool   // whole by its own structure, and durable
	inflated  bool   // of what arrived, every grain was inflated and its Adler-32 checked
	done      bool   // verified, and in the ledger
	plain     bool   // ranges failed to give the same bytes: one stream only
	refetched bool   // because the manifest disagreed
	unlisted  bool   // a manifest that could be read did not list it
	viaLease  string // why it is not read from its datastore, where that was asked for
	algorithm string // the manifest's, where it is not the one that was asked for
	sha256    string // "sha256:<hex>" of the stream as it came; "" when it was not hashed that way
	result    job.DiskResult
}

// planDisks makes a diskRun for each disk of the VM; those that the ledger
// knows to be finished need nothing more.
func (r *run) planDisks() {
	r.t.ResetFiles()
	r.disks = nil
	for i, d := range r.vm.Disks {
		dr := &diskRun{r: r, disk: d, index: i, name: r.diskName(i), file: r.t.AddFile(r.diskName(i), d.Capacity)}
		r.disks = append(r.disks, dr)
		if e, ok := r.work.entry(dr.key()); ok && e.whole() {
			dr.takeUp(e)
		}
	}
}

// takeUp makes d the disk that an earlier run fetched as a whole, if it is that
// disk and was verified in a way that this job accepts.
func (d *diskRun) takeUp(e diskEntry) {
	verify, by := d.r.def.Options.Verify, e.Result.Verified
	tooWeak := e.Done && (verify == job.VerifyManifest && by != byManifest || verify == job.VerifyFull && by == bySize)
	if tooWeak || e.Capacity != d.disk.Capacity || e.Part != d.part() || !exists(d.r.work.path(e.Part)) {
		return
	}
	d.arrived, d.done, d.inflated, d.sha256, d.result = true, e.Done, e.Inflated, e.SHA256, e.Result
	if d.sha256 == "" && strings.HasPrefix(e.Result.Digest, algSHA256+":") { // from an earlier version
		d.sha256 = e.Result.Digest
	}
	d.result.Resumed, d.result.Transferred = true, 0
	d.file.SetPosition(d.disk.Capacity)
	if d.done {
		d.file.SetState(progress.Complete)
	}
}

// diskName is the final file name of disk number i.
func (r *run) diskName(i int) string {
	ext := map[job.Format]string{job.FormatOVF: "vmdk", job.FormatRaw: "raw", job.FormatQcow2: "qcow2"}
	return fmt.Sprintf("%s-disk-%d.%s", r.work.base, i, ext[r.def.Options.Format])
}

func (d *diskRun) key() string  { return strconv.Itoa(int(d.disk.Key)) }
func (d *diskRun) part() string { return d.name + ".part" }

// fetch moves the disk under lease until it is here as a whole, and compares it
// with the manifest if that lists it already. o says how ranges are read, if the
// host honours them.
func (d *diskRun) fetch(ctx context.Context, lease *vsphere.Lease, item vsphere.Item, algorithm string, o transfer.Options) error {
	d.item = item
	budget := transfer.NewBudget(d.r.m.Budget)
	o.StallTimeout, o.Limiter, o.Budget, o.File = d.r.m.StallTimeout, d.r.limiter, budget, d.file
	for {
		if d.algorithm != "" {
			algorithm = d.algorithm
		}
		err := d.receive(ctx, lease.Source(item), algorithm, o)
		if err == nil {
			err = d.look(ctx, lease)
		}
		switch {
		case err == nil || ctx.Err() != nil:
			return err
		case !errors.Is(err, errRefetch):
			d.file.SetState(progress.Failed)
			if item.Assumed && errors.Is(err, disk.ErrCapacity) {
				err = withHint(fmt.Errorf("the lease does not tell which stream is of which disk, and the order of the disks is not it: %w", err),
					"read the disks from the datastore (transport datastore)")
			}
			return fmt.Errorf("%s (%s): %w", d.disk.Label, d.name, err)
		}
		if err := d.beginAgain(err); err != nil {
			return err
		}
	}
}

// receive moves the disk until it has arrived, or fails. Attempts that broke off
// begin again here, and only here, out of one budget. The place under the limits
// is given back before anything but bytes is waited for.
func (d *diskRun) receive(ctx context.Context, source transfer.Source, algorithm string, o transfer.Options) error {
	release, err := d.place(ctx)
	if err != nil {
		return err
	}
	defer release()
	for {
		d.file.SetState(progress.Active)
		err := d.attempt(ctx, source, algorithm, o)
		if err == nil {
			return d.arrive()
		}
		if ctx.Err() != nil {
			return err
		}
		if err := d.mayRetry(ctx, o.Budget, err); err != nil {
			return err
		}
		d.file.SetPosition(0)
	}
}

// place waits for a place under the limits of d.item's host and of vCenter.
func (d *diskRun) place(ctx context.Context) (release func(), err error) {
	waiting := d.r.slow(d.name, "waiting for its turn: as many disks as the limits allow come through %s or vCenter", d.item.Host)
	defer waiting.end()
	return d.r.limits.Acquire(ctx, d.r.client.About().Host, d.item.Host)
}

// mayRetry returns nil when the disk should be tried again, and forgets what
// cannot be gone on from.
func (d *diskRun) mayRetry(ctx context.Context, budget *transfer.Budget, err error) error {
	damaged := errors.Is(err, disk.ErrTruncated) || errors.Is(err, disk.ErrCorrupt)
	switch {
	case errors.Is(err, errRefetch):
		d.file.Event(progress.Warning, err.Error())
		return d.forget()
	case errors.Is(err, transfer.ErrRestart):
		if errors.Is(err, transfer.ErrNoRange) {
			d.plain = true
		}
		if errors.Is(err, transfer.ErrChanged) || errors.Is(err, transfer.ErrNoRange) {
			if err := d.forget(); err != nil {
				return err
			}
		}
		d.file.Event(progress.Warning, fmt.Sprintf("%v; beginning again", err))
		return nil
	case damaged, errors.Is(err, disk.ErrNotResumable):
		d.file.SetState(progress.Retrying)
		d.file.AddRetry()
		d.file.Event(progress.Warning, fmt.Sprintf("%v; beginning again", err))
		if err := d.forget(); err != nil {
			return err
		}
		return budget.Retry(ctx, err)
	}
	return err
}

// forget drops the disk's checkpoint.
func (d *diskRun) forget() error { return d.r.work.setEntry(d.key(), nil) }

// openSink opens the disk's part file, to go on at from or to begin again. In
// the second case it is emptied, so that nothing may vouch for it from here on:
// a raw file does not tell that it has lost what a checkpoint speaks of.
func (d *diskRun) openSink(from *disk.Position) (sink, error) {
	if _, known := d.r.work.entry(d.key()); known && from == nil {
		if err := d.forget(); err != nil {
			return nil, err
		}
	}
	out, err := d.r.openSink(d.r.work.path(d.part()), d.disk.Capacity, from)
	if from != nil && errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: %w", disk.ErrNotResumable, err)
	}
	return out, err
}

// start is where an attempt begins, and how.
type start struct {
	hash     hashState
	position *disk.Position // nil at the stream's beginning
}

// open opens the stream at the disk's checkpoint where there is a usable one,
// and at its beginning otherwise. A checkpoint of a stream without an entity
// tag is of no use: nothing would tell that the stream has changed.
func (d *diskRun) open(ctx context.Context, source transfer.Source, algorithm string, o transfer.Options) (io.ReadCloser, transfer.Info, start, error) {
	fresh := start{hash: hashState{Algorithm: algorithm}}
	e, ok := d.r.work.entry(d.key())
	if c := e.Checkpoint; ok && c != nil && c.Position != nil && !d.plain && c.Hash.Algorithm == algorithm && e.Capacity == d.disk.Capacity {
		info := transfer.Info{Size: c.Size, Ranges: true, ETag: c.ETag}
		o.Offset = c.Hash.Offset
		stream, err := transfer.NewReader(ctx, source, info, o)
		return stream, info, start{hash: c.Hash, position: c.Position}, err
	}
	if d.plain {
		stream, err := transfer.NewReader(ctx, source, transfer.Info{}, o)
		return stream, transfer.Info{}, fresh, err
	}
	stream, info, err := transfer.Open(ctx, source, o)
	return stream, info, fresh, err
}

// attempt moves the stream once, from the disk's checkpoint where the server
// honours ranges, from its beginning otherwise. On success the part file holds
// the whole image, and d.result tells how it came.
func (d *diskRun) attempt(ctx context.Context, source transfer.Source, algorithm string, o transfer.Options) (err error) {
	d.arrived = false
	stream, info, from, err := d.open(ctx, source, algorithm, o)
	if err != nil {
		return err
	}
	defer stream.Close() // what matters of a stream is reported by its Read
	out, err := d.openSink(from.position)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.giveUp(out))
		}
	}()
	hashed, err := newTee(stream, from.hash)
	if err != nil {
		return err
	}
	defer func() {
		_ = stream.Close() // ends a read under way, which the tee waits for
		_ = hashed.Close()
	}()
	o2 := disk.Options{
		Capacity:   d.disk.Capacity,
		OnPosition: d.file.SetPosition,
		Verify:     d.r.def.Options.Verify == job.VerifyFull,
		Workers:    d.decoders,
	}
	if from.position != nil {
		o2.Resume = from.position
		if _, err := io.CopyN(io.Discard, hashed, from.position.StreamOffset-from.hash.Offset); err != nil {
			return err
		}
		d.file.SetPosition(from.position.LBA * 512)
		d.file.Event(progress.Info, fmt.Sprintf("going on at byte %d of the stream", from.position.StreamOffset))
	}
	if info.Ranges && info.ETag != "" {
		o2.CheckpointEvery = checkpointBytes
		o2.OnCheckpoint = func(p disk.Position) error { return d.checkpoint(out, hashed, info, p) }
	}
	sum, err := out.decode(ctx, hashed, o2)
	if err != nil {
		return err
	}
	if err := out.commit(); err != nil {
		return err
	}
	d.inflated = d.decodes() || o2.Verify && from.position == nil
	d.finished(info, from, sum, hashed)
	return nil
}

// giveUp leaves the part file for the next attempt when the ledger knows a
// checkpoint of it, and removes it otherwise.
func (d *diskRun) giveUp(out sink) error {
	if e, ok := d.r.work.entry(d.key()); ok && e.Checkpoint != nil {
		return out.abandon()
	}
	return out.discard()
}

// checkpoint makes what was written so far durable, then notes in the ledger
// where to go on.
func (d *diskRun) checkpoint(out sink, hashed *tee, info transfer.Info, p disk.Position) error {
	if err := out.checkpoint(); err != nil {
		return err
	}
	return d.r.work.setEntry(d.key(), &diskEntry{
		Part:     d.part(),
		Capacity: d.disk.Capacity,
		Checkpoint: &checkpoint{
			ETag:     info.ETag,
			Size:     info.Size,
			Hash:     hashed.stateBefore(p.StreamOffset),
			Position: &p,
		},
	})
}

// finished records how the disk came.
func (d *diskRun) finished(info transfer.Info, from start, sum disk.Summary, hashed *tee) {
	digest, sha256, size := hashed.digests()
	d.sha256 = sha256
	d.result.File = d.r.work.final(d.name)
	d.result.Capacity = sum.Capacity
	d.result.StreamSize = size
	d.result.Digest = digest
	d.result.Resumed = from.position != nil
	d.result.Transport = "stream"
	if info.Ranges && !d.plain {
		d.result.Transport = "ranges"
	}
}

// decodes says whether the disk's grains are inflated while it arrives, for they
// are not written as they come.
func (d *diskRun) decodes() bool { return !d.r.ovf() && !d.r.def.Options.Compress }

// inflateAll inflates every grain of the disk as it was kept, and checks its
// Adler-32. done is called with how many bytes of the disk are passed.
func (d *diskRun) inflateAll(ctx context.Context, done func(int64)) (err error) {
	path := d.r.work.path(d.part())
	if d.r.ovf() {
		_, err = disk.CheckStream(ctx, path, disk.CheckOptions{Capacity: d.disk.Capacity, OnPosition: done})
	} else {
		_, err = qcow2.CheckData(ctx, path, qcow2.CheckOptions{Adler: true, OnPosition: done})
	}
	return err
}
