package migrate

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/hyper2kvm/hyper2kvm/job"
)

// asked is what the job asks for.
func (r *run) asked() Asked {
	o := r.def.Options
	return Asked{
		InstanceUUID: r.vm.InstanceUUID, Format: o.Format, Compress: o.Compress, Virtio: o.Virtio,
		RemoveCDROM: o.RemoveCDROM, Verify: o.Verify, Transport: cmp.Or(o.Transport, job.TransportNFC),
	}
}

// sameJob reports whether the receipt is of the job that runs. A run without an
// id is never the same as another.
func (r *run) sameJob(receipt Receipt) bool { return r.def.ID != "" && receipt.JobID == r.def.ID }

// earlier looks at what an earlier run left in the output directory. done
// means that there is nothing to do: that run finished the same job, or
// verified everything and died while it gave the files their names.
func (r *run) earlier() (receipt Receipt, done bool, err error) {
	if r.work.ledger.Install != nil {
		if receipt, done, err = r.nameEarlier(); done || err != nil {
			return receipt, done, err
		}
	}
	return r.finishedEarlier()
}

// nameEarlier gives the files of an earlier run their names, which it had
// verified. done means that they are what this job asks for: of the same VM in
// the same state, or of the same job, and of the same options.
func (r *run) nameEarlier() (receipt Receipt, done bool, err error) {
	in := *r.work.ledger.Install
	receipt = in.Receipt
	mine := r.answers(receipt)
	r.info("", "an earlier run verified every file, at %s, and ended before naming them; finishing that", in.Verified.Format(time.DateTime))
	if err := r.work.finishInstall(in.Replace || r.def.Options.Overwrite); errors.Is(err, errGone) {
		r.note("%v: exporting it again", err)
		return Receipt{}, false, r.work.dropInstall()
	} else if err != nil {
		return Receipt{}, false, err
	}
	if why := r.work.broken(receipt); mine && why != "" {
		r.exportAgain(why)
		return Receipt{}, false, r.work.dropInstall()
	}
	r.notes = append(slices.Clone(receipt.Result.Notes), r.notes...)
	receipt.Result.Notes = slices.Clone(r.notes)
	if mine {
		return receipt, true, nil
	}
	r.notes = nil
	r.info("", "%s is another export than this one, and complete now", r.work.receiptPath())
	return Receipt{}, false, r.work.update(func(l *ledger) {
		l.Install, l.Disks, l.CDROM = nil, map[string]*diskEntry{}, nil // which stay out, for it succeeded
	})
}

// answers reports whether an unfinished install is what this job asks for. That
// a temporary snapshot was removed is a change of the VM, but not by others.
func (r *run) answers(receipt Receipt) bool {
	known, now := r.work.ledger.VM, r.identity()
	if r.work.ledger.Install.Snapshot {
		now.ChangeVersion = known.ChangeVersion
	}
	return receipt.Asked == r.asked() && (r.sameJob(receipt) || known == now)
}

// finishedEarlier reads the receipt that is there, if any. What an earlier run
// of this job has finished counts only while its files are there.
func (r *run) finishedEarlier() (receipt Receipt, done bool, err error) {
	switch err := readJSON(r.work.receiptPath(), &receipt); {
	case errors.Is(err, fs.ErrNotExist):
		return Receipt{}, false, nil
	case err != nil && r.def.Options.Overwrite:
		return Receipt{}, false, nil // it is replaced
	case err != nil:
		return Receipt{}, false, permanent{withHint(fmt.Errorf("the receipt of an earlier export cannot be read: %w", err),
			"move it away, or ask to overwrite")}
	case receipt.InstanceUUID != r.vm.InstanceUUID:
		return Receipt{}, false, permanent{withHint(
			fmt.Errorf("%w: %s records an export of another VM with the same file name, %s",
				ErrExists, r.work.receiptPath(), receipt.VMPath),
			"give this VM an output directory of its own")}
	case !r.sameJob(receipt) || receipt.Asked != r.asked():
		return Receipt{}, false, nil
	}
	if why := r.work.broken(receipt); why != "" {
		r.exportAgain(why)
		return Receipt{}, false, nil
	}
	r.info("", "this job was finished earlier")
	r.notes = slices.Clone(receipt.Result.Notes)
	return receipt, true, nil
}

// exportAgain says why the job's earlier success does not count, and makes its
// receipt one that may be replaced.
func (r *run) exportAgain(why string) {
	r.note("this job was finished earlier, but %s: exporting it again", why)
	r.again = true
}

// taken names the first final file name that others have, or "". The receipt of
// this job, whose files are gone, is not in the way.
func (r *run) taken() string {
	if !r.again && exists(r.work.receiptPath()) {
		return r.work.receiptPath()
	}
	return r.work.conflict(r.finalNames())
}
