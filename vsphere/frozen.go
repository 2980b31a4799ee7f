package vsphere

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/vsphere/nfc"
)

// FrozenOptions say how a disk is read over port 902. The zero value works.
type FrozenOptions struct {
	Connections int                              // at most; 0 means 1
	Place       func() (release func(), ok bool) // for each connection but the first; nil always has one
	Tell        func(string)                     // what a person may want to know; nil is nobody
	Stall       time.Duration                    // without a byte while something is asked for; 0 is package nfc's default
}

// FrozenDisk is a disk that is open to be read at random over port 902.
type FrozenDisk struct {
	*nfc.Reader
	Single bool // it has a single link, so that its allocated blocks are those of the disk (F-902-17)

	alone *atomic.Bool
}

// Alone says that the last ticket was for the disk alone, because one for all files of
// the VM was refused.
func (d *FrozenDisk) Alone() bool { return d.alone.Load() }

// Frozen says why a disk of t cannot be read at random over port 902, by us or by
// another program, as far as that is known without asking anybody; nil when it may work.
// The error is an [ErrUnsupported].
func (c *Client) Frozen(t Target, d Disk) error {
	var err error
	switch {
	case t.VM.Power != PoweredOff && t.Snapshot.Ref == "":
		err = fmt.Errorf("the VM is %s, and %s is written to", t.VM.Power, d.Label)
	case t.Snapshot.Ref != "" && d.Independent():
		err = fmt.Errorf("%s is independent, so that no snapshot freezes it", d.Label)
	case d.RDM == string(types.VirtualDiskCompatibilityModePhysicalMode):
		err = fmt.Errorf("%s is a raw device mapping in physical mode", d.Label)
	case d.Datastore == "" || !strings.HasSuffix(d.File, ".vmdk"):
		err = fmt.Errorf("%s has no file on a datastore", d.Label)
	default:
		return nil
	}
	return &Error{Op: "read at random", On: t.VM.Path, Kind: ErrUnsupported, Err: err, Hint: "export through the lease"}
}

// OpenFrozen returns the disk d of t, to be read over port 902 of the host that
// vSphere chooses (F-902-1). No connection is made yet. Close it.
//
// What the disk is called by its entity tag tells one state of it from another, as far
// as vSphere's inventory does: that a powered-off VM which has run since is another
// one is F-902-22.
func (c *Client) OpenFrozen(ctx context.Context, t Target, d Disk, o FrozenOptions) (*FrozenDisk, error) {
	d, err := c.frozenDisk(ctx, t, d)
	if err != nil {
		return nil, err
	}
	return c.newFrozen(t, d, o), nil
}

// Greet902 goes to port 902 of a VM's host with a ticket, as far as the greeting, and
// tells what was seen of it; alone is [FrozenDisk.Alone]. It opens no disk, so that the
// VM may run. The ticket is not used, and runs out.
func (c *Client) Greet902(ctx context.Context, vm VM, d Disk) (seen nfc.Seen, alone bool, err error) {
	disk := c.newFrozen(Target{VM: vm}, d, FrozenOptions{})
	defer disk.Close()
	err = disk.Greet(ctx)
	return disk.Seen(), disk.Alone(), err
}

func (c *Client) newFrozen(t Target, d Disk, o FrozenOptions) *FrozenDisk {
	alone := new(atomic.Bool)
	var once sync.Once // each connection needs a ticket
	told := func(text string) {
		alone.Store(true)
		if o.Tell != nil {
			once.Do(func() { o.Tell(text) })
		}
	}
	var host atomic.Value // of the last ticket
	host.Store("")
	return &FrozenDisk{
		Single: !d.Parent, alone: alone,
		Reader: nfc.NewReader(nfc.Options{
			Path: datastorePath(d), Capacity: d.Capacity, Validator: stateOf(t, d),
			Ticket: func(ctx context.Context, other bool) (nfc.Ticket, error) {
				ticket, err := c.nfcTicket(ctx, t.VM, d, other, told)
				if err == nil {
					err = translate(opTicket, t.VM.Path, c.checkHosts(ctx, t.VM, ticket.Host))
				}
				if err != nil {
					return ticket, refusedForGood(err)
				}
				host.Store(ticket.Addr())
				return ticket, nil
			},
			Trust:       c.trustAt(func() string { return host.Load().(string) }),
			Connections: o.Connections, Place: o.Place, Tell: o.Tell, Stall: o.Stall, Dial: c.reach.host,
		}),
	}
}

// refusedForGood marks vSphere's own refusals as ones that asking again does not mend.
func refusedForGood(err error) error {
	for _, no := range []error{ErrUnsupported, ErrNoPermission, ErrNotFound, ErrLogin} {
		if errors.Is(err, no) {
			return fault.Permanent(err)
		}
	}
	return err
}

// stateOf names the state of a disk, in the form of an entity tag.
func stateOf(t Target, d Disk) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q %q %q %q %d", t.VM.InstanceUUID, t.Snapshot.Ref, d.Datastore, d.File, d.UUID, d.ChangeID, d.Capacity)
	if t.Snapshot.Ref == "" {
		fmt.Fprintf(h, " %q", t.VM.ChangeVersion)
	}
	return `"` + hex.EncodeToString(h.Sum(nil)[:16]) + `"`
}
