package disk

import (
	"github.com/hyper2kvm/hyper2kvm/disk/internal/block"
	"github.com/hyper2kvm/hyper2kvm/disk/vmdk"
)

// Identities of the errors of this package and those below it, for [errors.Is].
var (
	// ErrTruncated: the stream ends before it is complete, whatever the
	// transport said (F-NFC-8, F-NFC-10).
	ErrTruncated = block.ErrTruncated
	// ErrCorrupt: the data contradicts its format or itself.
	ErrCorrupt = block.ErrCorrupt
	// ErrUnsupported: the data is well formed as far as it was read, but of a
	// version or kind that is not handled.
	ErrUnsupported = block.ErrUnsupported
	// ErrCapacity: the disk's capacity is not the expected one, or above
	// [Options.MaxCapacity].
	ErrCapacity = block.ErrCapacity
	// ErrNotResumable: a part file holds no usable checkpoint, or a [Position]
	// does not fit. Start again from the beginning.
	ErrNotResumable = block.ErrNotResumable
)

// MaxCapacity is the largest disk that is handled, in bytes: 64 TiB. vSphere's
// own limit is 62 TiB.
const MaxCapacity = block.MaxCapacity

// Position is a place in a stream-optimized VMDK from which [DecodeStream] can
// be resumed.
type Position = vmdk.Position
