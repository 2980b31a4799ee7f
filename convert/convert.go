// Package convert turns virtual machines that another tool has exported into files that
// KVM can use: an OVA, an OVF directory, or a single VMDK of any of the kinds that
// packages vmdkfile reads. A disk may also come from an NBD server (qemu-nbd, nbdkit).
//
// It decodes and lands them as an export does (package migrate): images grow in a hidden
// work directory with a ledger beside their final place, and get their names, the
// receipt last, when every one of them is whole and verified. A run that is broken off
// keeps the disks that are finished; the same run again goes on with the others, and one
// that was finished before is a success that does nothing.
//
// What is to be done inside the guest's disks is done on the images then, by package
// migrate, as after an export.
//
// Each file is read once: a stream-optimized disk is hashed while it is decoded, straight
// out of the OVA. Only other kinds of disks that have a line in the manifest are read a
// second time, for their hash.
//
// Not promised: that a package without a manifest, and a disk that is neither
// stream-optimized nor in a manifest, is what its maker wrote: there is nothing to compare
// it with, which the result says.
package convert

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/internal/panics"
	"github.com/hyper2kvm/hyper2kvm/internal/safetext"
	"github.com/hyper2kvm/hyper2kvm/internal/volume"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/kit"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/migrate/outdir"
	"github.com/hyper2kvm/hyper2kvm/migrate/workdir"
	"github.com/hyper2kvm/hyper2kvm/ova"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/units"
)

// Options say what is converted, and into what.
type Options struct {
	Source string // path of an OVA, an OVF descriptor, or a VMDK; or the URI of an NBD export
	Output string // directory to put the files in; made when it is not there

	Format     job.Format // [job.FormatQcow2] or [job.FormatRaw]
	Compress   bool       // compressed qcow2 clusters
	Virtio     bool       // disks and NICs on virtio in the libvirt domain
	NetworkMap map[string]string
	For        string // platforms to write a landing kit for: see [job.ParseTargets]
	Overwrite  bool   // replace what is there

	Convert bool // the guest is made ready for KVM afterwards, as an export's is
	KeepIP  bool // it keeps the addresses that the file NAME.network.json beside the source has
	// Migrator has what does that; nil is what this machine has.
	Migrator *migrate.Migrator
}

// Run converts. It counts into t and returns when nothing of the run is left behind but
// disks that are whole, for the next run. The errors are those of packages ova, vmdkfile
// and workdir; a checksum that is wrong is a [migrate.ErrVerify].
func Run(ctx context.Context, o Options, t *progress.Tracker) (result job.Result, err error) {
	err = panics.Catch(func() (err error) {
		result, err = (&run{o: o, t: t, started: time.Now()}).do(ctx)
		return err
	})
	switch {
	case err == nil:
		t.SetPhase(progress.Done)
	case ctx.Err() != nil:
		err = fmt.Errorf("%w: %w", ctx.Err(), context.Cause(ctx))
	}
	return result, err
}

// run is one conversion. Its fields are set in the order of the phases.
type run struct {
	o       Options
	t       *progress.Tracker
	started time.Time
	source  *source
	work    *workdir.Dir
	after   *migrate.InsideHere
	asked   workdir.Asked
	kits    []kit.Target
	notes   []string
	landed  []job.DiskResult
}

// maxNote bounds what is told at once, in bytes: much of it comes from the source.
const maxNote = 4 << 10

// note tells people something that does not stop the run, now and in the result.
func (r *run) note(format string, args ...any) {
	text := safetext.Bounded(fmt.Sprintf(format, args...), maxNote)
	r.notes = append(r.notes, text)
	r.t.Event(progress.Warning, "", text)
}

func (r *run) do(ctx context.Context) (result job.Result, err error) {
	if r.o.Format != job.FormatQcow2 && r.o.Format != job.FormatRaw {
		return result, fault.Permanent(fmt.Errorf("format %q: %s and %s can be made", r.o.Format, job.FormatQcow2, job.FormatRaw))
	}
	if r.o.Output, err = filepath.Abs(r.o.Output); err != nil {
		return result, err
	}
	targets, err := job.ParseTargets(r.o.For)
	if err != nil {
		return result, fault.Permanent(fmt.Errorf("landing kit: %w", err))
	}
	r.kits = kit.Targets(targets)
	r.t.SetPhase(progress.Discovering)
	if r.source, err = openSource(ctx, r.o.Source); err != nil {
		return result, checked(err, ova.ErrTruncated)
	}
	defer func() { err = errors.Join(err, r.source.close()) }()
	if r.source.envelope == nil && len(r.kits) > 0 {
		return result, fault.Permanent(errors.New("a landing kit needs the description of a VM: an OVA or an OVF, not a single disk"))
	}
	identity, err := r.source.identity()
	if err != nil {
		return result, err
	}
	r.asked = workdir.Asked{
		InstanceUUID: identity, Format: r.o.Format, Compress: r.o.Compress, Virtio: r.o.Virtio,
		Networks: job.FormatNetworkMap(r.o.NetworkMap), For: strings.Join(targets, ","),
	}
	if r.after, err = r.inside(); err != nil {
		return result, err
	}
	if r.work, err = workdir.Open(outdir.Roots{}, r.o.Output, job.FileBase(r.source.name)); err != nil {
		return result, err
	}
	result, err = r.land(ctx)
	if err != nil {
		return result, errors.Join(err, r.leave())
	}
	if err := r.work.Retire(); err != nil || !r.after.Asked() {
		return result, err
	}
	return r.after.Do(ctx)
}

// checked makes a checksum that is wrong, and what else shows damage, the error that
// programs know.
func checked(err error, damage ...error) error {
	if slices.ContainsFunc(append(damage, ova.ErrChecksum), func(is error) bool { return errors.Is(err, is) }) {
		return fault.WithHint(fmt.Errorf("%w: %w", migrate.ErrVerify, err),
			"the file was changed or damaged since it was exported: copy it again, or export the VM again")
	}
	return err
}

// leave keeps what the next run can use.
func (r *run) leave() error {
	err := r.work.Close(true)
	if whole, _ := r.work.Kept(); r.work.Here() && whole > 0 {
		r.t.Event(progress.Info, "", fmt.Sprintf("kept for the next run: %d disk(s), in %s", whole, r.work.Path()))
	}
	return err
}

// land does what is between opening the work directory and leaving it.
func (r *run) land(ctx context.Context) (job.Result, error) {
	if id := r.work.VM().InstanceUUID; r.work.Owes() || id != "" && r.work.VM().VCenter != "" {
		return job.Result{}, fault.Permanent(fault.WithHint(
			fmt.Errorf("%w: %s holds an unfinished export of a VM with the same file name", workdir.ErrExists, r.work.Path()),
			"finish or clean that one, or choose another output directory"))
	}
	if err := r.after.Settle(ctx, r.work); err != nil {
		return job.Result{}, err
	}
	if result, done, err := r.earlier(); done || err != nil {
		return result, err
	}
	if err := r.after.Check(ctx); err != nil {
		return job.Result{}, err
	}
	if taken := r.taken(); taken != "" && !r.o.Overwrite {
		return job.Result{}, fault.Permanent(fault.WithHint(fmt.Errorf("%w: %s", workdir.ErrExists, taken),
			"choose another output directory, or replace what is there: -overwrite"))
	}
	r.space()
	id := workdir.Identity{InstanceUUID: r.asked.InstanceUUID, Format: r.o.Format, Compress: r.o.Compress}
	if _, err := r.work.Begin(id, ""); err != nil {
		return job.Result{}, err
	}
	if err := r.images(ctx); err != nil {
		return job.Result{}, checked(fmt.Errorf("%s: %w", r.o.Source, err), disk.ErrCorrupt, disk.ErrTruncated)
	}
	if now, err := r.source.identity(); err != nil || now != r.asked.InstanceUUID {
		return job.Result{}, errors.Join(fmt.Errorf("%s was changed while it was read; run the same again when it is whole", r.o.Source), err,
			r.work.Restart(workdir.Identity{}))
	}
	return r.install()
}

// earlier looks at what an earlier run left. done means that there is nothing to do.
func (r *run) earlier() (result job.Result, done bool, err error) {
	if in, installing := r.work.Installing(); installing {
		switch err := r.work.FinishInstall(in.Replace || r.o.Overwrite); {
		case errors.Is(err, workdir.ErrGone):
			r.note("%v: converting it again", err)
			return result, false, r.work.DropInstall()
		case err != nil:
			return result, false, err
		case in.Receipt.Asked == r.asked && r.work.Broken(in.Receipt) == "":
			return r.withoutKits(in.Receipt), true, nil
		}
		if err := r.work.Installed(); err != nil {
			return result, false, err
		}
	}
	receipt, err := r.work.ReadReceipt()
	switch {
	case err == nil && !strings.HasPrefix(receipt.InstanceUUID, identityPrefix):
		return result, false, fault.Permanent(fault.WithHint(
			fmt.Errorf("%w: %s records an export of a VM with the same file name, %s", workdir.ErrExists, r.work.ReceiptPath(), receipt.VMPath),
			"choose another output directory"))
	case errors.Is(err, fs.ErrNotExist), r.o.Overwrite:
		return result, false, nil
	case err != nil:
		return result, false, fault.Permanent(fault.WithHint(fmt.Errorf("the receipt of an earlier run cannot be read: %w", err),
			"move it away, or replace it: -overwrite"))
	case receipt.Asked != r.asked || r.work.Broken(receipt) != "":
		return result, false, nil
	}
	result = r.withoutKits(receipt)
	result.Earlier = true
	return result, true, nil
}

// withoutKits is the result of an earlier run, with a note of each landing kit that is asked
// for and that the version of then did not write. Where no domain was, there is none either.
func (r *run) withoutKits(receipt workdir.Receipt) job.Result {
	for _, name := range receipt.Lacks(r.kitNames()) {
		if receipt.Result.DomainXML != "" {
			r.note("%s", migrate.NoKit(r.work.Final(name)))
		}
	}
	receipt.Result.Notes = append(slices.Clone(receipt.Result.Notes), r.notes...)
	return receipt.Result
}

// kitNames are the final names of the landing kits.
func (r *run) kitNames() (names []string) {
	for _, t := range r.kits {
		names = append(names, kit.FileName(t, r.work.Base()))
	}
	return names
}

// taken names the first final file name that others have, or "".
func (r *run) taken() string {
	if r.work.HasReceipt() {
		return r.work.ReceiptPath()
	}
	names := append(r.kitNames(), r.domainName())
	for i := range r.source.disks {
		names = append(names, r.diskName(i))
	}
	if r.o.Convert {
		names = append(names, r.work.Base()+migrate.LogSuffix)
	}
	return r.work.Taken(names)
}

func (r *run) domainName() string { return r.work.Base() + ".xml" }

// diskName is the final file name of disk number i.
func (r *run) diskName(i int) string {
	return fmt.Sprintf("%s-disk-%d.%s", r.work.Base(), i, r.o.Format)
}

// space warns when the disks may not fit: how much of them is data is not known before
// they are read.
func (r *run) space() {
	free, err := volume.Free(r.o.Output)
	if err != nil {
		return // the first write will tell
	}
	var most int64
	for _, d := range r.source.disks {
		most += d.capacity
	}
	if here := r.work.Allocated(); most-here > free {
		r.note("%s has %s free; the disks can hold %s", r.o.Output, units.Bytes(free), units.Bytes(most))
	}
}

// install describes the VM and gives every file its final name.
func (r *run) install() (job.Result, error) {
	r.t.SetPhase(progress.Describing)
	result := job.Result{VMName: r.source.name, OutputDir: r.o.Output, Success: true, Disks: r.landed}
	var renames []workdir.Rename
	for i := range r.source.disks {
		renames = append(renames, workdir.Rename{From: r.diskName(i) + ".part", To: r.diskName(i)})
	}
	if r.source.envelope != nil {
		described, err := r.describe()
		if err != nil {
			return job.Result{}, err
		}
		if len(described) > 0 {
			result.DomainXML = r.work.Final(r.domainName())
		}
		for _, name := range described {
			renames = append(renames, workdir.Rename{From: name, To: name})
		}
	}
	receipt := workdir.Receipt{VMPath: r.o.Source, Asked: r.asked}
	for _, m := range renames {
		info, err := r.work.Stat(m.From)
		if err != nil {
			return job.Result{}, err
		}
		receipt.Files = append(receipt.Files, workdir.ReceiptFile{Name: m.To, Size: info.Size()})
		result.Files = append(result.Files, r.work.Final(m.To))
		result.TotalSize += info.Size()
	}
	result.Notes, result.Duration = slices.Clone(r.notes), time.Since(r.started)
	receipt.Result = result
	return result, r.work.Install(workdir.Install{Renames: renames, Receipt: receipt, Verified: time.Now(), Replace: r.o.Overwrite})
}
