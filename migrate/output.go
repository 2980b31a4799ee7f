package migrate

import "github.com/hyper2kvm/hyper2kvm/migrate/outdir"

// ErrOutside: the output directory is not where a [Migrator]'s Outputs allow one.
var ErrOutside = outdir.ErrOutside

// CheckOutput returns why dir cannot be an output directory: it, or one that it
// is to be made in, is something else. The error satisfies [Permanent] and has a
// [Hint].
func CheckOutput(dir string) error { return outdir.Roots{}.Check(dir) }
