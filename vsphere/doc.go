// Package vsphere is everything of the product that speaks to vSphere: the
// session, the inventory, preflight checks, CD/DVD drives, snapshots, export
// leases, datastore files and the OVF descriptor. It gives out bytes as
// [transfer.Source] values and moves none itself.
//
// An export goes like this:
//
//	c, err := vsphere.Dial(ctx, cfg)        // logs in; c.Close logs out
//	vm, err := c.Find(ctx, "/DC0/vm/web")   // path, name, UUID or id
//	obstacles, err := c.Preflight(ctx, vm, vsphere.PreflightOptions{})
//	change, err := c.PlanCDROM(ctx, vm, nil) // change.Apply, and change.Restore puts back
//	snap, err := c.CreateSnapshot(ctx, vm, "…") // of a running VM only
//	lease, err := c.OpenLease(ctx, vsphere.Target{VM: vm, Snapshot: snap})
//	go lease.Keep(ctx, percent)             // its error ends the download
//	src := lease.Source(lease.Items()[0])   // probe and read with package transfer
//	manifest, err := lease.Manifest(ctx)    // after the last byte
//	ovf, err := c.Descriptor(ctx, target, files)
//	err = lease.Complete(ctx)               // or lease.Abort(ctx, reason)
//
// All SOAP calls pass through one round tripper. It bounds each attempt at a
// call, logs in again when the session has ended (F-INV-2), and repeats what got
// no answer for as long as [Config.Outage] allows (F-NET-1): always where twice
// is the same as once, and otherwise only while it is certain that nothing has
// arrived. Without that certainty the error is an [ErrUncertain]. calls.go has
// the table. Answers, refusals among them, are not asked for again here: whoever
// called knows whether a second attempt makes sense.
//
// Calls that change something are not abandoned half-way when their context
// ends. They are given a moment to answer, and what they made is taken back:
// a lease is aborted (F-NFC-17), a snapshot removed, a drive put back. Lease.Abort,
// RemoveSnapshot and CDROMChange.Restore work with a context that has ended.
//
// Certificates are judged by one rule for vCenter and hosts: see Config for
// the service; a host's must be the one that the lease names, or be vouched for
// by an authority.
//
// What it does not promise: a process that is killed leaves its temporary
// snapshot (see [Client.FindSnapshots]) and a changed CD/DVD drive behind, and
// its lease until that times out. Paths and states are those of the moment in
// which they were read.
//
// The numbers F-… refer to the project's list of facts about vSphere.
package vsphere
