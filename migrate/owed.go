package migrate

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// owed is the part of a ledger that says what runs have changed at vSphere and
// have not put back. Each change is written down before vSphere is asked for it,
// and struck out only once it is known to be undone, or never to come.
type owed struct {
	VMRef  string `json:"vm_ref,omitempty"`  // managed object id of the VM
	VMPath string `json:"vm_path,omitempty"` // its inventory path when it was last seen
	JobVM  string `json:"job_vm,omitempty"`  // how the job names it

	Snapshot string          `json:"snapshot,omitempty"` // name of the temporary snapshot that the disks come from
	CDROM    json.RawMessage `json:"cdrom,omitempty"`    // CD/DVD drives that were taken out, or are about to be

	// Pending is the change of Snapshot or CDROM that vSphere was asked for and
	// is not known to have ended. Undoing: it puts something back.
	Pending *vsphere.Wait `json:"pending,omitempty"`
	Undoing bool          `json:"undoing,omitempty"`

	Lease   string `json:"lease,omitempty"`   // managed object id of the lease that is open
	Opening bool   `json:"opening,omitempty"` // a lease was asked for, and its id may not have arrived
	// BusyUntil is when a lease that nobody renews any more has timed out: the
	// VM may be busy until then.
	BusyUntil time.Time `json:"busy_until,omitzero"`
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
)

func (d Debt) String() string {
	if d.Why == "" {
		return d.What
	}
	return d.What + " (" + d.Why + ")"
}

// debts lists what is owed at a moment. A lease that nobody could name has timed
// out by BusyUntil.
func (o *owed) debts(now time.Time) []Debt {
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
	return out
}

// snapshot is the name of the temporary snapshot that is owed, or "".
func (w *workdir) snapshot() string { return w.owed().Snapshot }

// temporary names the snapshots that the ledger looks after.
func (w *workdir) temporary() []string {
	if name := w.snapshot(); name != "" {
		return []string{name}
	}
	return nil
}

// owed returns what is owed at vSphere.
func (w *workdir) owed() owed {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ledger.owed
}

// owes reports whether anything at vSphere is to be put back.
func (w *workdir) owes() bool {
	o := w.owed()
	return len(o.debts(time.Now())) > 0
}

// strike makes a change by which less is owed. Where the work directory was
// removed by somebody, there is nothing to strike it from.
func (w *workdir) strike(change func(*ledger)) error {
	if !exists(w.dir) {
		return nil
	}
	return w.update(change)
}

// noteLease records which lease is open, "" for none.
func (w *workdir) noteLease(ref string) error {
	return w.update(func(l *ledger) { l.Lease, l.Opening, l.BusyUntil = ref, false, time.Time{} })
}

// leaveLease records a lease that could not be ended and that nobody renews: it
// times out within d.
func (w *workdir) leaveLease(ref string, d time.Duration) error {
	return w.update(func(l *ledger) { l.Lease, l.Opening, l.BusyUntil = ref, false, time.Now().Add(d) })
}

// retire ends the work directory of an export that is complete. A ledger that
// owes something stays.
func (w *workdir) retire() error {
	if !w.owes() {
		return w.remove()
	}
	defer func() { _ = w.lock.Close() }()
	if err := w.update(func(l *ledger) { l.Install, l.Disks = nil, map[string]*diskEntry{} }); err != nil {
		return err
	}
	return w.removeStray()
}

// abandoned is called when the run that wrote it down has ended: nobody renews
// its lease any more.
func (o *owed) abandoned(now time.Time) {
	if (o.Lease != "" || o.Opening) && o.BusyUntil.IsZero() {
		o.BusyUntil = now.Add(staleLease)
	}
}

// busy says when a lease ends by itself.
func (o *owed) busy() string {
	if o.BusyUntil.IsZero() {
		return "it times out by itself"
	}
	return "it times out by itself by " + o.BusyUntil.Local().Format(time.TimeOnly)
}

// pending says what vSphere may still be at.
func (o *owed) pending() string {
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
func (o *owed) drives() string {
	var record struct {
		Drives []string `json:"drives"`
	}
	if err := json.Unmarshal(o.CDROM, &record); err != nil || len(record.Drives) == 0 {
		return "CD/DVD drives"
	}
	return strings.Join(record.Drives, ", ")
}

// OwedError says what is left at vSphere. The ledger in Dir remembers it.
type OwedError struct {
	VM    string // inventory path, or how else the VM is known
	Dir   string // the work directory
	Debts []Debt
}

// Error lists all of it in one line.
func (e *OwedError) Error() string {
	parts := make([]string, len(e.Debts))
	for i, d := range e.Debts {
		parts[i] = d.String()
	}
	return "owed at vSphere: " + strings.Join(parts, "; ") + " of " + e.VM
}

// Hint says who settles it.
func (e *OwedError) Hint() string {
	return "it is written down in " + e.Dir + "; the next run of this export settles it, and so does hyper2kvm clean -output '" + filepath.Dir(e.Dir) + "'"
}

// Owed lists the debts for people.
func (e *OwedError) Owed() []string {
	out := make([]string, len(e.Debts))
	for i, d := range e.Debts {
		out[i] = d.String()
	}
	return out
}
