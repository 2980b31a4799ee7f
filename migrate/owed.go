package migrate

import (
	"path/filepath"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/migrate/workdir"
)

// Debt is something at vSphere that was changed for an export and is not yet as
// it was.
type Debt = workdir.Debt

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
