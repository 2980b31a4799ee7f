package workdir

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// StaleLease is how long a VM may be busy with a lease that nobody renews: the
// 300 s of F-NFC-4 and a little more.
const StaleLease = 330 * time.Second

// Owed is the part of a ledger that says what runs have changed at vSphere and
// have not put back. Each change is written down before vSphere is asked for it,
// and struck out only once it is known to be undone, or never to come.
type Owed struct {
	VMRef  string `json:"vm_ref,omitempty"`  // managed object id of the VM
	VMPath string `json:"vm_path,omitempty"` // its inventory path when it was last seen
	JobVM  string `json:"job_vm,omitempty"`  // how the job names it

	Snapshot string          `json:"snapshot,omitempty"` // name of the temporary snapshot that the disks come from
	CDROM    json.RawMessage `json:"cdrom,omitempty"`    // CD/DVD drives that were taken out, or are about to be

	// Power is a VM that ran and was stopped for the export, or is about to be; nil when
	// none was.
	Power *Power `json:"power,omitempty"`

	// Pending is the change of Snapshot, CDROM or Power that vSphere was asked for and
	// is not known to have ended: of which of them, whether it puts something back,
	// and since when nobody waits any more for an answer that did not come.
	Pending   *vsphere.Wait `json:"pending,omitempty"`
	PendingOf DebtKind      `json:"pending_of,omitempty"`
	Undoing   bool          `json:"undoing,omitempty"`
	GivenUp   time.Time     `json:"given_up,omitzero"`

	Lease   string `json:"lease,omitempty"`   // managed object id of the lease that is open
	Opening bool   `json:"opening,omitempty"` // a lease was asked for, and its id may not have arrived
	// BusyUntil is when a lease that nobody renews any more has timed out: the
	// VM may be busy until then.
	BusyUntil time.Time `json:"busy_until,omitzero"`
}

// Power is what a run has done to the power state of a VM that ran.
type Power struct {
	// Until is how long the guest may still go off because it was asked to shut down; the
	// zero value when nothing is to come.
	Until time.Time `json:"until,omitzero"`
	// Exported: the files have their names since, and steps follow.
	Exported bool `json:"exported,omitempty"`
}

// Debt is something at vSphere that was changed for an export and is not yet as
// it was.
type Debt struct {
	Kind DebtKind `json:"kind"`
	What string   `json:"what"`          // as "the snapshot hyper2kvm-…"
	Why  string   `json:"why,omitempty"` // why it is not settled
}

// DebtKind says what a [Debt] is about.
type DebtKind string

// Kinds of debts.
const (
	DebtLease    DebtKind = "lease"    // an export lease that locks the VM
	DebtSnapshot DebtKind = "snapshot" // a temporary snapshot
	DebtDrives   DebtKind = "drives"   // CD/DVD drives that are out
	DebtPower    DebtKind = "power"    // a VM that ran, and was stopped
	DebtStep     DebtKind = "step"     // what a step that follows the export has begun; not at vSphere
)

func (d Debt) String() string {
	if d.Why == "" {
		return d.What
	}
	return d.What + " (" + d.Why + ")"
}

// debts lists what is owed at a moment. A lease that nobody could name has timed
// out by BusyUntil.
func (o *Owed) debts(now time.Time) []Debt {
	var out []Debt
	switch {
	case o.Lease != "":
		out = append(out, Debt{Kind: DebtLease, What: "the export lease " + o.Lease})
	case o.Opening && (o.BusyUntil.IsZero() || now.Before(o.BusyUntil)):
		out = append(out, Debt{Kind: DebtLease, What: "an export lease that vSphere may have opened", Why: o.busy()})
	}
	if o.Snapshot != "" {
		out = append(out, Debt{Kind: DebtSnapshot, What: "the snapshot " + o.Snapshot, Why: o.pending()})
	}
	if o.CDROM != nil {
		out = append(out, Debt{Kind: DebtDrives, What: "drives of the VM: " + o.drives(), Why: o.pending()})
	}
	if o.Power != nil {
		out = append(out, Debt{Kind: DebtPower, What: "the VM ran and was stopped", Why: o.pending()})
	}
	return out
}

// Owed returns what is owed at vSphere.
func (w *Dir) Owed() Owed {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ledger.Owed
}

// Owes reports whether anything at vSphere is to be put back.
func (w *Dir) Owes() bool { return len(w.Debts()) > 0 }

// Debts lists what is to be put back at vSphere.
func (w *Dir) Debts() []Debt {
	o := w.Owed()
	return o.debts(time.Now())
}

// Interrupted reports whether something is unfinished beside the disks: at
// vSphere, in giving files their names, or of a step that follows.
func (w *Dir) Interrupted() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	return w.ledger.Install != nil || w.ledger.Step != nil || now.Before(w.ledger.BusyUntil) || len(w.ledger.debts(now)) > 0
}

// NoteSnapshot records that vSphere is about to be asked for the temporary
// snapshot name.
func (w *Dir) NoteSnapshot(name string, asked vsphere.Wait) error {
	return w.update(func(l *ledger) {
		l.Snapshot = name
		l.ask(DebtSnapshot, asked, false)
	})
}

// NoteDrives records that vSphere is about to be asked to take drives out, which
// record describes.
func (w *Dir) NoteDrives(record json.RawMessage, asked vsphere.Wait) error {
	return w.update(func(l *ledger) {
		l.CDROM = record
		l.ask(DebtDrives, asked, false)
	})
}

// NotePower records that vSphere is about to be asked to stop a VM that runs, which
// may go off until then.
func (w *Dir) NotePower(until time.Time, asked vsphere.Wait) error {
	return w.update(func(l *ledger) {
		l.Power = &Power{Until: until}
		l.ask(DebtPower, asked, false)
	})
}

// NoteExported records that the export of a VM that was stopped is finished, and
// followed by steps.
func (w *Dir) NoteExported() error {
	return w.update(func(l *ledger) {
		if l.Power != nil {
			l.Power = &Power{Exported: true}
		}
	})
}

// NotePowerSettled records that nothing more comes of what the VM was asked for: it was
// seen to be off, or it refused.
func (w *Dir) NotePowerSettled() error {
	return w.strike(func(l *ledger) {
		if l.Power != nil {
			l.Power = &Power{Exported: l.Power.Exported}
		}
	})
}

// StrikePower records that the VM runs again, or is to stay off.
func (w *Dir) StrikePower() error {
	return w.strike(func(l *ledger) { l.Power = nil })
}

// ForgetDisks forgets the disks of a VM that is not the one any more that they came
// from, because it has run.
func (w *Dir) ForgetDisks() error {
	return w.update(func(l *ledger) { l.Disks = map[string]*Disk{} })
}

// NoteUndoing records that vSphere is about to be asked to put something of that
// kind back.
func (w *Dir) NoteUndoing(kind DebtKind, asked vsphere.Wait) error {
	return w.strike(func(l *ledger) { l.ask(kind, asked, true) })
}

// ask notes what is about to be asked for.
func (o *Owed) ask(kind DebtKind, asked vsphere.Wait, undoing bool) {
	o.Pending, o.PendingOf, o.Undoing, o.GivenUp = &asked, kind, undoing, time.Time{}
}

// NoteTask records the task of what vSphere was asked for last.
func (w *Dir) NoteTask(t vsphere.Task) error {
	return w.strike(func(l *ledger) {
		if l.Pending != nil {
			named := *l.Pending // of the old one others may have a copy
			named.Task = t
			l.Pending = &named
		}
	})
}

// NoteAnswer records that what vSphere was asked for last has ended or, with
// pending, that it may still be at it.
func (w *Dir) NoteAnswer(pending *vsphere.Wait) error {
	return w.strike(func(l *ledger) {
		if l.Pending = pending; pending == nil {
			l.PendingOf, l.Undoing, l.GivenUp = "", false, time.Time{}
		}
	})
}

// GiveUp records that nobody waits for the answer of what is pending any more,
// and returns since when. Before that nobody knows when it was sent: calls that do
// not get through are repeated, and a process may die meanwhile.
func (w *Dir) GiveUp() (since time.Time, err error) {
	w.mu.Lock()
	since = w.ledger.GivenUp
	w.mu.Unlock()
	if !since.IsZero() {
		return since, nil
	}
	since = time.Now()
	return since, w.strike(func(l *ledger) { l.GivenUp = since })
}

// StrikeDrives records that the drives are back, or are to stay out.
func (w *Dir) StrikeDrives() error {
	return w.strike(func(l *ledger) { l.CDROM = nil })
}

// StrikeSnapshot records that the temporary snapshot is gone, and forgets the
// disks that came from it: they cannot be completed from another one.
func (w *Dir) StrikeSnapshot() error {
	return w.strike(func(l *ledger) { l.Snapshot, l.Disks = "", map[string]*Disk{} })
}

// StrikeAll records that nothing is owed, because the VM is gone.
func (w *Dir) StrikeAll() error {
	return w.strike(func(l *ledger) { l.Owed = Owed{} })
}

// StrikeLease records that the open lease was aborted. BusyUntil stays: whether
// the abort has taken effect is not known.
func (w *Dir) StrikeLease() error {
	return w.strike(func(l *ledger) { l.Lease, l.Opening = "", false })
}

// NoteAsking records that vSphere is about to be asked for a lease.
func (w *Dir) NoteAsking() error {
	return w.update(func(l *ledger) { l.Opening, l.BusyUntil = true, time.Now().Add(StaleLease) })
}

// NoteRefused records that vSphere has opened no lease, so that there is what was
// before it was asked.
func (w *Dir) NoteRefused(before Owed) error {
	return w.update(func(l *ledger) { l.Lease, l.Opening, l.BusyUntil = before.Lease, before.Opening, before.BusyUntil })
}

// NoteLease records which lease is open, "" for none.
func (w *Dir) NoteLease(ref string) error {
	return w.update(func(l *ledger) { l.Lease, l.Opening, l.BusyUntil = ref, false, time.Time{} })
}

// NoteLeftLease records a lease that could not be ended and that nobody renews: it
// times out within d.
func (w *Dir) NoteLeftLease(ref string, d time.Duration) error {
	return w.update(func(l *ledger) { l.Lease, l.Opening, l.BusyUntil = ref, false, time.Now().Add(d) })
}

// abandoned is called when the run that wrote it down has ended: nobody renews
// its lease any more.
func (o *Owed) abandoned(now time.Time) {
	if (o.Lease != "" || o.Opening) && o.BusyUntil.IsZero() {
		o.BusyUntil = now.Add(StaleLease)
	}
}

// busy says when a lease ends by itself.
func (o *Owed) busy() string {
	if o.BusyUntil.IsZero() {
		return "it times out by itself"
	}
	return "it times out by itself by " + o.BusyUntil.Local().Format(time.TimeOnly)
}

// pending says what vSphere may still be at.
func (o *Owed) pending() string {
	p := o.Pending
	switch {
	case p == nil:
		return ""
	case p.Ref == "":
		return fmt.Sprintf("vSphere was asked at %s to %s and has not answered", p.Since.Local().Format(time.TimeOnly), p.What)
	}
	return fmt.Sprintf("%s is at work to %s since %s", p.Ref, p.What, p.Since.Local().Format(time.TimeOnly))
}

// drives describes the changed drives.
func (o *Owed) drives() string {
	var record struct {
		Drives []string `json:"drives"`
	}
	if err := json.Unmarshal(o.CDROM, &record); err != nil || len(record.Drives) == 0 {
		return "CD/DVD drives"
	}
	return strings.Join(record.Drives, ", ")
}
