package vsphere

import (
	"context"
	"fmt"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

// Ref is the lease's managed object id, for [Client.AbortLease] in case that
// this process dies.
func (l *Lease) Ref() string { return l.ref.Value }

// LeftLeaseError says that a lease was opened that is of no use, and that it
// could not be aborted: the VM stays locked until somebody does
// ([Client.AbortLease]) or it times out.
type LeftLeaseError struct {
	Ref string // managed object id
	Err error  // why it is of no use
	Why error  // why it could not be aborted
}

// Error gives both reasons.
func (e *LeftLeaseError) Error() string {
	return fmt.Sprintf("%v; the lease %s is still open (%v)", e.Err, e.Ref, e.Why)
}

// Unwrap gives the first reason.
func (e *LeftLeaseError) Unwrap() error { return e.Err }

// AbortLease aborts the lease with that managed object id, which another run
// has left: until then, or until it times out, the VM stays locked (F-NFC-1,
// F-NFC-4). A lease that has ended, or that vSphere does not know, is no error.
// Whether a vCenter knows leases of another session is not known (F-NFC-20): the
// VM may stay locked in that case until the lease times out.
func (c *Client) AbortLease(ctx context.Context, ref string) error {
	err := c.abortLease(ctx, types.ManagedObjectReference{Type: "HttpNfcLease", Value: ref}, nil)
	return translate("abort the lease of an earlier run", ref, err)
}

// abortLease aborts a lease, within bounded time. why is for vSphere's log.
func (c *Client) abortLease(ctx context.Context, ref types.ManagedObjectReference, why *types.LocalizedMethodFault) error {
	ctx, cancel := context.WithTimeout(ctx, cleanup)
	defer cancel()
	_, err := methods.HttpNfcLeaseAbort(ctx, c.vim(), &types.HttpNfcLeaseAbort{This: ref, Fault: why})
	if isFault(err, over...) {
		return nil // which is what was wanted
	}
	return err
}
