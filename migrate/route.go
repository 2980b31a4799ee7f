package migrate

import (
	"context"

	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/transfer"
)

// A route is a way by which the bytes of a disk are had: through the export lease
// as a stream ([leaseRoute]), from its datastore in ranges ([flatRoute]), or at random,
// over port 902 of its host ([nfcRoute]) or by VDDK ([vddkRoute]).
//
// A [diskRun] does what all of them need, each in one place: it waits for the
// disk's turn, opens, commits or gives up the part file, tries again out of one
// budget, writes checkpoints, and enters into the ledger what has arrived and what
// is verified. A new route (a file on disk, an NBD server) has to give:
//
//   - able, which says beforehand why it cannot be;
//   - open, which connects to the source and decides, from the disk's checkpoint
//     (loadCheckpoint, with a kind and a type of the route's own), where to begin;
//   - a reading, which brings all bytes from there on into the part file, and calls
//     saveCheckpoint on the way. Two are there to be used: decode of a [sink], for a
//     stream-optimized VMDK, and copyAreas, for anything that is a
//     [transfer.Source] of the disk's own bytes;
//   - verify, for a disk that is whole and has to be judged by something that comes
//     later, as a lease's manifest does. A reading that verifies on the way says so
//     in its [arrival] instead;
//   - judge, for what only the route knows about a failure.
//
// A route lives as long as its disk is not verified, over any number of leases.
// Its methods are called one at a time.
type route interface {
	// way words how the disk is read, as in "reading from the datastore".
	way() string

	// able returns nil when the disk can be had by this route as far as is known
	// without asking anybody, and a [*refusedError] otherwise.
	able() error

	// open begins an attempt.
	open(ctx context.Context, o pace) (reading, error)

	// verify judges the disk, which has arrived. It enters it as verified, leaves
	// it as it is when that cannot be told yet, or fails: with errRefetch when the
	// disk has to be fetched again.
	verify(ctx context.Context) error

	// judge takes note of why an attempt or verify failed, and returns the error
	// by which it is decided whether to try again: a [*refusedError] says that
	// another route may do.
	judge(err error) error
}

// reading is one attempt at a disk. It is closed in any case.
type reading interface {
	// resumes is the place of the disk at which the part file is continued; nil
	// when it begins anew. It is asked for before read.
	resumes() *disk.Position

	// read brings the disk into out.
	read(ctx context.Context, out sink) (arrival, error)

	close()
}

// pace is how fast a disk may come.
type pace struct {
	transfer.Options
	decoders int // goroutines that inflate and write
}

// arrival describes a disk that has been read to its end.
type arrival struct {
	result   job.DiskResult // without File and Capacity; Verified says that nothing more has to be judged
	sha256   string         // "sha256:<hex>" of the stream as it came; "" when it was not hashed that way
	inflated bool           // every grain was inflated and its Adler-32 checked
}

// refusedError says why a disk cannot be had by a route, where another one may
// work.
type refusedError struct{ error }

func (e *refusedError) Unwrap() error { return e.error }
