package migrate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/hyper2kvm/hyper2kvm/disk/qcow2"
	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate/workdir"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/transfer"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// maxNVRAM bounds what is taken for an NVRAM file, in bytes. Real ones have
// some hundred KiB.
const maxNVRAM = 16 << 20

// ovf says whether the disks stay as they come, in an OVF package: a directory, or one
// tar.
func (r *run) ovf() bool { return r.def.Options.Format.Streams() }

func (r *run) ova() bool { return r.def.Options.Format == job.FormatOVA }

// Final file names.
func (r *run) ovfName() string      { return r.work.Base() + ".ovf" }
func (r *run) manifestName() string { return r.work.Base() + ".mf" }
func (r *run) nvramName() string    { return r.work.Base() + ".nvram" }
func (r *run) domainName() string   { return r.work.Base() + ".xml" }
func (r *run) ovaName() string      { return r.work.Base() + ".ova" }

// finalNames lists the files that the export may leave, but the receipt.
func (r *run) finalNames() []string {
	if r.ova() {
		return []string{r.ovaName(), r.networkName()}
	}
	names := r.kitNames()
	for i := range r.vm.Disks {
		names = append(names, r.diskName(i))
	}
	names = append(names, r.networkName())
	if r.def.Options.Convert {
		names = append(names, r.logName())
	}
	if r.ovf() {
		return append(names, r.ovfName(), r.manifestName(), r.nvramName())
	}
	return append(names, r.domainName())
}

// fetchExtras takes the NVRAM, without which EFI guests do not start after an
// import of the OVF (F-NFC-14). A libvirt domain cannot use it: OVMF keeps its
// variables in another form.
func (r *run) fetchExtras(ctx context.Context, lease *vsphere.Lease) error {
	if r.extras != nil {
		return nil
	}
	extras := []extra{}
	if r.ovf() {
		for _, item := range lease.Items() {
			if item.Disk || !strings.EqualFold(path.Ext(item.Name), ".nvram") {
				continue
			}
			e, err := r.fetchExtra(ctx, lease, item)
			if err != nil {
				return fmt.Errorf("%s: %w", item.Name, err)
			}
			extras = append(extras, e)
			break // a VM has one
		}
	}
	r.extras = extras
	return nil
}

// fetchExtra fetches one small file and compares it with the lease's size and
// manifest.
func (r *run) fetchExtra(ctx context.Context, lease *vsphere.Lease, item vsphere.Item) (extra, error) {
	budget := transfer.NewBudget(r.m.Budget)
	var data []byte
	err := keepTrying(ctx, func() (err error) {
		if data, err = r.readExtra(ctx, lease, item, budget); err != nil {
			return err
		}
		return r.checkExtra(ctx, lease, item, data)
	}, func(err error) error {
		switch {
		case errors.Is(err, transfer.ErrRestart):
			return nil
		case errors.Is(err, errLater):
			return err
		}
		return budget.Retry(ctx, err)
	})
	if err != nil {
		return extra{}, err
	}
	e := extra{key: item.Key, name: r.nvramName(), size: int64(len(data)), sum: hexDigest(algSHA256, data)}
	return e, r.work.WriteFile(e.name, data)
}

func (r *run) readExtra(ctx context.Context, lease *vsphere.Lease, item vsphere.Item, budget *transfer.Budget) ([]byte, error) {
	stream, err := transfer.NewReader(ctx, lease.Source(item), transfer.Info{}, transfer.Options{
		StallTimeout: r.m.StallTimeout, Limiter: r.limiter, Budget: budget,
	})
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	data, err := io.ReadAll(io.LimitReader(stream, maxNVRAM+1))
	if err == nil && len(data) > maxNVRAM {
		err = fault.Permanent(fmt.Errorf("larger than %d bytes: not an NVRAM file", maxNVRAM))
	}
	return data, err
}

// checkExtra compares a file that is no disk with the lease's size and manifest.
// Where no manifest vouches for it, the size is all there is.
func (r *run) checkExtra(ctx context.Context, lease *vsphere.Lease, item vsphere.Item, data []byte) error {
	if item.Size > 0 && item.Size != int64(len(data)) {
		return fmt.Errorf("%w: %d bytes arrived of %d", io.ErrUnexpectedEOF, len(data), item.Size)
	}
	patience := func(listed int) time.Duration {
		if listed > 0 {
			return r.patience(listed) / extraPatience
		}
		return r.patience(listed)
	}
	err := r.awaitManifest(ctx, lease, patience, func(entries []vsphere.ManifestEntry) (bool, error) {
		entry, listed := entryOf(entries, item.Key)
		if !listed {
			return false, nil
		}
		if got := hexDigest(entry.Algorithm, data); got != entry.Algorithm+":"+entry.Sum {
			return true, fmt.Errorf("%w: received %s, the host says it sent %s", ErrVerify, got, entry.Sum)
		}
		return true, nil
	})
	var without *unvouched
	if errors.As(err, &without) {
		r.note("%s was verified by its size alone: %s", item.Name, without.why)
		return nil
	}
	return err
}

// describe writes what tells others about the disks, gives every file its
// final name, and returns the receipt.
func (r *run) describe(ctx context.Context) (workdir.Receipt, error) {
	r.t.SetPhase(progress.Verifying)
	if err := r.checkImages(ctx); err != nil {
		return workdir.Receipt{}, err
	}
	r.t.SetPhase(progress.Describing)
	var renames []workdir.Rename
	for _, d := range r.disks {
		renames = append(renames, workdir.Rename{From: d.part(), To: d.name})
	}
	result := job.Result{VMName: r.vm.Name, OutputDir: r.def.OutputPath, Success: true}
	switch {
	case r.ovf():
		described, err := r.describeOVF(ctx)
		if err != nil {
			return workdir.Receipt{}, err
		}
		renames = append(renames, described...)
		if !r.ova() {
			result.OVFPath = r.work.Final(r.ovfName())
			break
		}
		if renames, err = r.pack(ctx, renames); err != nil {
			return workdir.Receipt{}, err
		}
		result.OVAPath = r.work.Final(r.ovaName())
	default:
		described, err := r.describeMachine()
		if err != nil {
			return workdir.Receipt{}, err
		}
		renames = append(renames, described...)
		result.DomainXML, result.Unmapped = r.work.Final(r.domainName()), r.unmapped()
	}
	network, reported, err := r.describeNetwork()
	if err != nil {
		return workdir.Receipt{}, err
	}
	renames, result.Network = append(renames, network...), reported
	for _, d := range r.disks {
		result.Disks = append(result.Disks, d.result)
	}
	r.notes = append(r.notes, r.diskNotes()...)
	result.Notes = slices.Clone(r.notes)
	result.Duration = time.Since(r.started)
	return r.install(renames, result)
}

// install gives the files their final names, and returns the receipt.
func (r *run) install(renames []workdir.Rename, result job.Result) (workdir.Receipt, error) {
	receipt := workdir.Receipt{JobID: r.def.ID, VMPath: r.vm.Path, Asked: r.asked(), WasOn: r.work.Owed().Power != nil}
	for _, m := range renames {
		info, err := r.work.Stat(m.From)
		if err != nil {
			return workdir.Receipt{}, err
		}
		receipt.Files = append(receipt.Files, workdir.ReceiptFile{Name: m.To, Size: info.Size()})
		result.Files = append(result.Files, r.work.Final(m.To))
		result.TotalSize += info.Size()
	}
	receipt.Result = result
	return receipt, r.work.Install(workdir.Install{
		Renames: renames, Receipt: receipt, Verified: time.Now(), Snapshot: r.target.Snapshot.Ref != "",
		Replace: r.def.Options.Overwrite, Again: r.again,
	})
}

// checkImages looks over the finished images once more, as whoever opens them
// will.
func (r *run) checkImages(ctx context.Context) error {
	if r.def.Options.Format != job.FormatQcow2 {
		return nil
	}
	for _, d := range r.disks {
		checking := r.slow(d.name, "checking the image's tables")
		_, err := qcow2.CheckAt(ctx, r.work.At(d.part()))
		checking.end()
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrVerify, d.name, err)
		}
	}
	return nil
}

// describeOVF writes the descriptor, which vSphere makes once the sizes are
// known (F-NFC-16), and the manifest with a SHA-256 of every file.
func (r *run) describeOVF(ctx context.Context) ([]workdir.Rename, error) {
	var files []vsphere.OVFFile
	var renames []workdir.Rename
	var mf strings.Builder
	add := func(key, name, sum string, size, capacity int64) {
		files = append(files, vsphere.OVFFile{Key: key, Path: name, Size: size, Capacity: capacity})
		fmt.Fprintf(&mf, "SHA256(%s)= %s\n", name, strings.TrimPrefix(sum, algSHA256+":"))
	}
	for _, d := range r.disks {
		sum := d.sha256
		if sum == "" { // of a checkpoint of an earlier version
			var err error
			if sum, err = r.fileDigest(ctx, d, algSHA256); err != nil {
				return nil, err
			}
		}
		add(d.leaseKey(), d.name, sum, d.result.StreamSize, d.disk.Capacity)
	}
	for _, e := range r.extras {
		add(e.key, e.name, e.sum, e.size, 0)
		renames = append(renames, workdir.Rename{From: e.name, To: e.name})
	}
	waiting := r.slow("", "waiting for vCenter's OVF descriptor")
	descriptor, err := r.client.Descriptor(ctx, r.target, files)
	waiting.end()
	if err != nil {
		return nil, fmt.Errorf("OVF descriptor: %w", err)
	}
	for _, w := range descriptor.Warnings {
		r.note("OVF descriptor: %s", w)
	}
	ovf := []byte(descriptor.XML)
	mfText := fmt.Sprintf("SHA256(%s)= %s\n", r.ovfName(), strings.TrimPrefix(hexDigest(algSHA256, ovf), algSHA256+":")) + mf.String()
	err = errors.Join(
		r.work.WriteFile(r.manifestName(), []byte(mfText)),
		r.work.WriteFile(r.ovfName(), ovf))
	return append(renames, workdir.Rename{From: r.manifestName(), To: r.manifestName()}, workdir.Rename{From: r.ovfName(), To: r.ovfName()}), err
}
