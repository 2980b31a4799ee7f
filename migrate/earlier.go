package migrate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate/workdir"
)

// asked is what the job asks for.
func (r *run) asked() workdir.Asked {
	o := r.def.Options
	return workdir.Asked{
		InstanceUUID: r.vm.InstanceUUID, Format: o.Format, Compress: o.Compress, Virtio: o.Virtio,
		RemoveCDROM: o.RemoveCDROM, Verify: o.Verify, Transport: cmp.Or(o.Transport, job.TransportNFC),
		Networks: job.FormatNetworkMap(o.NetworkMap), For: kitsAsked(o), Stopped: o.Stops(),
	}
}

// sameJob reports whether the receipt is of the job that runs. A run without an
// id is never the same as another.
func (r *run) sameJob(receipt workdir.Receipt) bool {
	return r.def.ID != "" && receipt.JobID == r.def.ID
}

// earlier looks at what an earlier run left in the output directory. done
// means that there is nothing to do: that run finished the same job, or
// verified everything and died while it gave the files their names. A step that it
// had begun comes to its end first.
func (r *run) earlier(ctx context.Context) (receipt workdir.Receipt, done bool, err error) {
	if err := r.settleStep(ctx); err != nil {
		return receipt, false, err
	}
	if in, installing := r.work.Installing(); installing {
		if receipt, done, err = r.nameEarlier(in); done || err != nil {
			return receipt, done, err
		}
	}
	return r.finishedEarlier()
}

// nameEarlier gives the files of an earlier run their names, which it had
// verified. done means that they are what this job asks for: of the same VM in
// the same state, or of the same job, and of the same options.
func (r *run) nameEarlier(in workdir.Install) (receipt workdir.Receipt, done bool, err error) {
	receipt = in.Receipt
	mine := r.answers(in)
	r.info("", "an earlier run verified every file, at %s, and ended before naming them; finishing that", in.Verified.Format(time.DateTime))
	if err := r.work.FinishInstall(in.Replace || r.def.Options.Overwrite); errors.Is(err, workdir.ErrGone) {
		r.note("%v: exporting it again", err)
		return workdir.Receipt{}, false, r.work.DropInstall()
	} else if err != nil {
		return workdir.Receipt{}, false, err
	}
	if why := r.work.Broken(receipt); mine && why != "" {
		r.exportAgain(why)
		return workdir.Receipt{}, false, r.work.DropInstall()
	}
	r.notes = append(slices.Clone(receipt.Result.Notes), r.notes...)
	if mine {
		r.noteKits(receipt)
		receipt.Result.Notes = slices.Clone(r.notes)
		return receipt, true, nil
	}
	r.notes = nil
	r.info("", "%s is another export than this one, and complete now", r.work.ReceiptPath())
	return workdir.Receipt{}, false, errors.Join(r.work.Installed(), r.work.StrikePower())
}

// answers reports whether an unfinished install is what this job asks for. That
// a temporary snapshot was removed is a change of the VM, but not by others.
func (r *run) answers(in workdir.Install) bool {
	known, now := r.work.VM(), r.identity()
	if in.Snapshot {
		now.ChangeVersion = known.ChangeVersion
	}
	return in.Receipt.Asked == r.asked() && (r.sameJob(in.Receipt) || known == now)
}

// finishedEarlier reads the receipt that is there, if any. What an earlier run
// of this job has finished counts only while its files are there.
func (r *run) finishedEarlier() (receipt workdir.Receipt, done bool, err error) {
	switch receipt, err = r.work.ReadReceipt(); {
	case errors.Is(err, fs.ErrNotExist):
		return workdir.Receipt{}, false, nil
	case err != nil && r.def.Options.Overwrite:
		return workdir.Receipt{}, false, nil // it is replaced
	case err != nil:
		return workdir.Receipt{}, false, fault.Permanent(fault.WithHint(fmt.Errorf("the receipt of an earlier export cannot be read: %w", err),
			"move it away, or replace it: "+workdir.Overwriting))
	case receipt.InstanceUUID != r.vm.InstanceUUID:
		return workdir.Receipt{}, false, fault.Permanent(fault.WithHint(
			fmt.Errorf("%w: %s records an export of another VM with the same file name, %s",
				ErrExists, r.work.ReceiptPath(), receipt.VMPath),
			"give this VM an output directory of its own"))
	case !r.answeredBy(receipt):
		return workdir.Receipt{}, false, nil
	case !receipt.Restarted.IsZero() && r.def.Options.Overwrite:
		return workdir.Receipt{}, false, nil
	case !receipt.Restarted.IsZero():
		return workdir.Receipt{}, false, r.outdated(receipt)
	}
	if why := r.work.Broken(receipt); why != "" {
		if r.sameJob(receipt) {
			r.exportAgain(why)
		}
		return workdir.Receipt{}, false, nil
	}
	r.info("", "this export was finished earlier, and all of it is in %s", r.def.OutputPath)
	r.notes = slices.Clone(receipt.Result.Notes)
	r.noteKits(receipt)
	receipt.Result.Notes, receipt.Result.Earlier = slices.Clone(r.notes), true
	return receipt, true, nil
}

// noteKits tells of landing kits that are asked for and were not written: a version that
// knew of none for a platform took the same options.
func (r *run) noteKits(receipt workdir.Receipt) {
	for _, name := range receipt.Lacks(r.kitNames()) {
		if text := NoKit(r.work.Final(name)); !slices.Contains(r.notes, text) {
			r.note("%s", text)
		}
	}
}

// NoKit says that a finished export lacks the file of a landing kit.
func NoKit(path string) string {
	return "there is no landing kit " + path + ": the version that finished this wrote none for the platform; all is made again with it by " + workdir.Overwriting
}

// answeredBy reports whether an export that is there is the one that was asked
// for, as long as its files are whole. A job that asks for more than an export takes
// what is there.
func (r *run) answeredBy(receipt workdir.Receipt) bool {
	if receipt.Asked != r.asked() {
		return false
	}
	return r.sameJob(receipt) || (r.m.AcceptFinished || len(r.steps()) > 0) && !r.def.Options.Overwrite
}

// foundFinished reports whether the run would find its export finished and not export
// anything.
func (r *run) foundFinished() (receipt workdir.Receipt, ok bool) {
	if _, installing := r.work.Installing(); installing {
		return receipt, false // the run looks closer
	}
	receipt, err := r.work.ReadReceipt()
	return receipt, err == nil && r.answeredBy(receipt) && receipt.Restarted.IsZero() && r.work.Broken(receipt) == ""
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
	if !r.again && r.work.HasReceipt() {
		return r.work.ReceiptPath()
	}
	return r.work.Taken(r.finalNames())
}
