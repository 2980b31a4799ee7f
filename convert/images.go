package convert

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/disk/qcow2"
	"github.com/hyper2kvm/hyper2kvm/disk/vmdkfile"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/migrate/workdir"
	"github.com/hyper2kvm/hyper2kvm/ova"
	"github.com/hyper2kvm/hyper2kvm/progress"
)

// images makes the image of every disk that an earlier run has not finished.
func (r *run) images(ctx context.Context) error {
	for _, n := range r.source.notes {
		r.note("%s", n)
	}
	var files []*progress.File
	for i, d := range r.source.disks {
		files = append(files, r.t.AddFile(r.diskName(i), d.capacity))
	}
	r.t.SetPhase(progress.Exporting)
	for i, d := range r.source.disks {
		result, err := r.image(ctx, i, d, files[i])
		if err != nil {
			files[i].SetState(progress.Failed)
			return err
		}
		files[i].SetPosition(d.capacity)
		files[i].SetState(progress.Complete)
		r.landed = append(r.landed, result)
	}
	return nil
}

// image makes the image of disk number i.
func (r *run) image(ctx context.Context, i int, d *sourceDisk, file *progress.File) (job.DiskResult, error) {
	key, name := strconv.Itoa(i), r.diskName(i)
	part := name + ".part"
	if e, ok := r.work.Disk(key); ok && e.Done && e.Capacity == d.capacity && e.Part == part && r.work.Has(part) {
		e.Result.Resumed, e.Result.Transferred = true, 0
		return e.Result, nil
	}
	if err := r.work.ForgetDisk(key); err != nil {
		return job.DiskResult{}, err
	}
	file.SetState(progress.Active)
	result := job.DiskResult{File: r.work.Final(name), Capacity: d.capacity, Transport: job.FromFile, Verified: job.BySize}
	out, err := r.create(r.work.At(part), d.capacity)
	if err != nil {
		return result, workdir.Storage(err)
	}
	if err = r.fill(ctx, d, out, file, &result); err == nil {
		err = out.Commit()
	}
	if err != nil {
		return result, errors.Join(workdir.Storage(err), out.Discard())
	}
	if r.o.Format == job.FormatQcow2 {
		if _, err := qcow2.CheckAt(ctx, r.work.At(part)); err != nil {
			return result, fmt.Errorf("%w: %s: %w", migrate.ErrVerify, name, err)
		}
	}
	return result, r.work.SetDisk(key, workdir.Disk{Part: part, Capacity: d.capacity, Done: true, Result: result})
}

func (r *run) create(at disk.At, capacity int64) (disk.Writer, error) {
	if r.o.Format == job.FormatRaw {
		return disk.CreateRawAt(at, capacity)
	}
	return qcow2.CreateAt(at, capacity, qcow2.Options{Compress: r.o.Compress})
}

// fill writes a disk, and compares its file with the manifest.
func (r *run) fill(ctx context.Context, d *sourceDisk, out disk.Writer, file *progress.File, result *job.DiskResult) error {
	if e := r.source.export; e != nil {
		result.Transport = job.FromNBD
		err := disk.CopyImage(ctx, e.image(ctx, file), e.size, out, disk.CopyOptions{OnPosition: file.SetPosition})
		counted := file.Snapshot()
		result.Transferred, result.Retries = counted.Received, counted.Retries
		return err
	}
	if d.data == nil {
		return nil // empty
	}
	o := vmdkfile.Options{Verify: true, OnPosition: file.SetPosition, OnRead: file.AddReceived}
	if !d.data.Stream {
		if err := r.hashFiles(ctx, d, result); err != nil {
			return err
		}
		return d.data.CopyTo(ctx, out, o)
	}
	result.Verified = job.ByGrains
	if d.file == nil || d.file.Entry.Algorithm == "" {
		return d.data.CopyTo(ctx, out, o)
	}
	sum := d.file.Entry.Algorithm.New()
	o.Tee = sum
	err := d.data.CopyTo(ctx, out, o)
	if err != nil {
		return err
	}
	return vouch(d.file, sum, result)
}

// vouch compares a hash with the manifest's.
func vouch(f *ova.File, sum hash.Hash, result *job.DiskResult) error {
	got := sum.Sum(nil)
	if err := f.Entry.Match(got); err != nil {
		return err
	}
	result.StreamSize, result.Verified = f.Size(), job.ByManifest
	if f.Entry.Algorithm != ova.SHA512 {
		result.Digest = map[ova.Algorithm]string{ova.SHA1: "sha1:", ova.SHA256: "sha256:"}[f.Entry.Algorithm] + fmt.Sprintf("%x", got)
	}
	return nil
}

// hashFiles compares the files of a disk that is not one stream with the manifest.
func (r *run) hashFiles(ctx context.Context, d *sourceDisk, result *job.DiskResult) error {
	if d.file == nil {
		return nil
	}
	files := []*ova.File{d.file}
	extents, err := d.data.Stat()
	if err != nil {
		return err
	}
	for _, st := range extents {
		f, err := r.source.pkg.File(st.Name())
		if err != nil {
			return err
		}
		files = append(files, f)
	}
	all := true
	for _, f := range files {
		if f.Entry.Algorithm == "" {
			all = false
			continue
		}
		doing := r.t.Begin("comparing " + f.Name + " with the manifest")
		sum := f.Entry.Algorithm.New()
		_, err := io.Copy(sum, &until{ctx, io.NewSectionReader(f, 0, f.Size())})
		doing.End()
		if err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
		if err := vouch(f, sum, result); err != nil {
			return err
		}
	}
	if !all {
		result.Verified, result.Digest = job.BySize, ""
	}
	return nil
}

// until is a reader that ends with a context.
type until struct {
	ctx context.Context //nolint:containedctx // io.Reader takes none
	r   io.Reader
}

func (u *until) Read(p []byte) (int, error) {
	if u.ctx.Err() != nil {
		return 0, context.Cause(u.ctx)
	}
	return u.r.Read(p)
}
