package migrate

import (
	"errors"
	"fmt"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/migrate/workdir"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// Errors of a run, for errors.Is.
var (
	// ErrLocked: another process works on the same VM in the same directory.
	ErrLocked = workdir.ErrLocked
	// ErrExists: a final file name is taken, and overwriting was not asked for.
	ErrExists = workdir.ErrExists
	// ErrVerify: what arrived is not what vSphere says it sent.
	ErrVerify = errors.New("verification failed")
	// ErrEmptyStream: vSphere sends nothing for a disk, also under a lease of
	// its own (F-NFC-13).
	ErrEmptyStream = errors.New("the host sends an empty stream")
	// ErrNotOffered: the lease does not list a disk of the VM.
	ErrNotOffered = errors.New("vSphere does not export this disk")
	// ErrDatastore: the job asks to read from the datastore only, and that does
	// not work for a disk.
	ErrDatastore = errors.New("cannot be read from the datastore")
	// ErrNFC902: the job asks to read over port 902 of the host only, and that does not
	// work for a disk.
	ErrNFC902 = errors.New("cannot be read over port 902")
	// ErrVDDK: the job asks to read by VDDK only, and that does not work for a disk.
	ErrVDDK = errors.New("cannot be read by VDDK")
	// ErrNoSpace: the file system of the output directory is full, or certain
	// to become so.
	ErrNoSpace = workdir.ErrNoSpace
)

// PreflightError lists everything that keeps a VM from being exported.
type PreflightError struct {
	VM        string // inventory path
	Obstacles []vsphere.Obstacle
	Exported  bool // it is, and the obstacles are in the way of what is to follow
}

// Error lists every obstacle with what to do about it, a line each.
func (e *PreflightError) Error() string {
	var b strings.Builder
	what := "cannot be exported"
	if e.Exported {
		what = "is exported, and what is to follow cannot be done"
	}
	fmt.Fprintf(&b, "%s %s:", e.VM, what)
	for _, o := range e.Obstacles {
		fmt.Fprintf(&b, "\n  - %s", o.Text)
		if o.Hint != "" {
			fmt.Fprintf(&b, " (%s)", o.Hint)
		}
	}
	return b.String()
}

// Permanent reports that trying again changes nothing; see [Permanent].
func (e *PreflightError) Permanent() bool { return true }

// Permanent reports whether running the same job again is pointless until a
// person has changed something.
func Permanent(err error) bool { return fault.IsPermanent(err) }

// Hint returns the advice that comes with err, or "".
func Hint(err error) string { return fault.Hint(err) }
