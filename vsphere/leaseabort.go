package vsphere

import (
	"context"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

// Ref is the lease's managed object id, for [Client.AbortLease] in case that
// this process dies.
func (l *Lease) Ref() string { return l.ref.Value }

// AbortLease aborts the lease with that managed object id, which a process that
// died has left: until then, or until it times out, the VM stays locked
// (F-NFC-1, F-NFC-4). A lease that is gone already is no error. Whether vCenter
// lets another session abort a lease is not known; the caller goes on without.
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
