// Package vspheretest is a lab vCenter with ESXi hosts, in the manner of
// net/http/httptest: a real server on real sockets, in this process, that
// exports virtual machines as vSphere does and fails as vSphere does.
//
//	srv := vspheretest.Start(t, vspheretest.Config{
//		VMs: []vspheretest.VM{{
//			Name: "guest1", Folder: "Prod/Linux", EFI: true,
//			Disks: []vspheretest.Disk{{Path: "disk1.raw"}},
//		}},
//		Faults: []string{"cut:at=50MB,times=2"},
//	})
//	client.Connect(srv.URL())
//
// The program in labvcenter runs the same from a command line. The numbers
// F-… below are those of the project's list of facts about vSphere, which the
// lab and the product both follow; the product never imports this package.
//
// # Planes
//
// The control plane is govmomi's simulator, extended by what it lacks: ExportVm,
// a working ExportSnapshot, leases that expire, manifests, OVF descriptors,
// QueryChangedDiskAreas, privileges that are missing, sessions that end. It
// listens with a certificate of its own and quotes the session cookie (F-NFC-7).
//
// The data plane is one listener for each ESXi host, again with its own
// certificate, whose thumbprint the lease carries (F-NFC-6); with API version 9
// the certificate too. It speaks HTTP/1.1 only. A device URL carries a ticket
// and works only while its lease is ready.
//
// What is sent for a disk is a stream-optimized VMDK (F-NFC-8, F-NFC-10). A raw
// disk is encoded once, at start, by package streamvmdk, together with its
// hashes, so that serving it costs little more than TLS. A file that ends in
// .vmdk is served as it is, in whatever layout it has.
//
// # Profiles
//
//	stream  chunked 200 without Content-Length; Range ignored; HEAD refused (F-NFC-9)
//	ranged  206 with Content-Range and ETag; If-Match, If-Range and HEAD answered
//	vsan    stream, but only the first disk asked for on a lease has a body, the
//	        others are an empty chunked 200 (F-NFC-13); no disks under /folder (F-DS-3)
//
// These and some more are files in profiles/, and each file there is a report as hyper2kvm
// probe writes it (docs/probe.md): what it says is how the lab behaves, and what it leaves
// out is as in stream.json. The suites of packages probe and migrate run over all of them,
// so that a report from the field, put there, is a regression test: a probe of the lab has
// to say the same, and exports have to end in identical images or in a clear failure.
// [Config.As] takes a report whole, with its versions, limits and privileges.
//
// Under /folder a powered-off VM without snapshots has its -flat.vmdk, with
// ranges, for who has a session; a running VM or one with snapshots gives 500
// (F-DS-1 to F-DS-3).
//
// With Config.NFC902 each host has port 902, too, on a port that tickets name: package
// authd has what it does. A disk that was given as a raw file can be read there at
// random while its VM is off or has a snapshot (F-902-1, F-902-2). What /folder serves is
// locked for port 902 meanwhile, and the reverse (F-902-3). A ticket is good for five
// minutes and one connection. Whatever a client tries that would change something is in
// Violations, and fails the test of who has called Start.
//
// # Faults
//
// A fault is KIND:KEY=VALUE,… and strikes a number of times:
//
//	cut:at=SIZE        the connection is reset when the bytes before SIZE are sent
//	stall:at=SIZE      no byte after SIZE, while the connection stays open
//	truncate:at=SIZE   the body ends at SIZE, and looks complete (F-NFC-8)
//	corrupt:at=SIZE    the byte at SIZE is flipped on the wire; the manifest has the
//	                   hash of what it should have been
//	status:code=503    an HTTP error instead of the disk
//	empty              a 200 with an empty body
//	norange            a range is answered with the whole (profile ranged)
//	change             the disk has another ETag from this request on (profile ranged)
//	expire:after=5s    the lease times out that long after it became ready, in spite of
//	                   Progress; expire:at=SIZE does so in the midst of a transfer
//	session:after=5s   everybody is logged out that long after the first login;
//	                   session:at=SIZE in the midst of a transfer. Leases end with their
//	                   session, unless keep=true says otherwise
//
//	down:for=8s        vCenter is away for that long: at once, or after=DURATION from the
//	                   start, or when at=SIZE of a stream is sent. plane=control (vCenter,
//	                   its API and /folder), hosts or all; how=refuse, reset, 503, html or
//	                   hang, as the constants of type Outage say. Sessions and leases stay
//	manifest:late=2s   GetManifest lists a disk only that long after its stream was sent
//	touch              the VM's changeVersion changes when a lease on it ends, or, with
//	                   on=open, when one is opened
//
//	nfc902:how=NAME    something that only port 902 knows, or a ticket for it: the names are
//	                   in authd.Faults, and for tickets no-host, wrong-thumbprint,
//	                   lower-thumbprint, no-thumbprint, certificate, wrong-certificate,
//	                   service-ssl, bad-session-id, reordered. Before there is a ticket only
//	                   rules without vm= strike, and before a file is open those without disk=
//
// Faults on calls of the API name a method, or "*" for any:
//
//	fault:call=HttpNfcLeaseAbort,fault=SystemError
//	                   the call is refused with that fault of vSphere
//	late:call=ExportVm,after=5s
//	                   the call has its effect at once, and its answer comes that much later
//	hang:call=HttpNfcLeaseGetManifest
//	                   the call has its effect (not with effect=false), and no answer while
//	                   its client waits
//	lose:call=CreateSnapshot_Task
//	                   the call has its effect (not with effect=false), and instead of the
//	                   answer the connection ends, or how=503 or how=html comes
//	task:call=CreateSnapshot_Task,takes=70s
//	                   the task that the call starts runs for that long, and has its effect
//	                   only then, whatever becomes of its session (F-TASK-1); or it
//	                   fails, with fault=NAME. Its VM refuses other work meanwhile, with
//	                   TaskInProgress. With effect=first the effect comes at once, and
//	                   the task runs on, as the removal of a snapshot may (F-TASK-3).
//	                   CancelTask is refused (F-TASK-2), unless cancel=true; with
//	                   cancel=ignore it is taken, and the task goes on
//
// One fault at most strikes a call, and beside it one of kind task.
//
// Every fault takes times=N (1 when left out, "always" for no end), vm=NAME (the
// name, its folder and name, or the inventory path; no comma) and disk=N (counted
// from 0). A call is about a VM, too, when it is about a snapshot, a lease or a task
// of it, or about its descriptor or a ticket for it. plane=nfc, plane=folder or
// plane=nfc902 limits a fault to streams under a lease, to /folder or to port 902; the
// positions of the last two are those of the raw disk. Over port 902 cut, stall, corrupt,
// expire, session and down strike.
// A fault with at= strikes the request that would send that byte: a range that
// begins there is struck before its first byte. A retry that passes over the
// byte again is struck again, until the fault's times are used up. SIZE is in
// bytes, or with KB, MB, GB (powers of 1000) or KiB, MiB, GiB (of 1024).
//
// # Leases
//
// A lease is initializing, ready, and then done or error (F-NFC-1). It times
// out LeaseTimeout after it became ready or was last renewed by Progress, with
// any percentage (F-NFC-4); its transfers are cut then, its state is error, and
// calls on it get Timedout. While it is open the VM refuses PowerOn, Destroy,
// Unregister, Migrate, Relocate, the removal of its snapshots, and, unless
// Config.ConcurrentLeases is set, a second lease, with TaskInProgress.
//
// ExportVm faults InvalidPowerState, TaskInProgress, NoPermission (F-NFC-2),
// MethodDisabled, and NotSupported for a vTPM (F-NFC-15), an encrypted or a
// fault-tolerant VM. ExportSnapshot offers no independent disks and no physical
// raw device mappings (F-INV-3).
//
// A lease offers the CD image, the disks and the nvram file (F-NFC-14), numbered
// disk-0, disk-1, … in this order, whatever they are. Only what is no disk has a
// fileSize (F-NFC-11) and only disks have a targetId.
//
// GetManifest lists what was sent in full on this lease, in one request or in
// several ranges, the parts of those that were cut among them, with SHA-1 and, if SetManifestChecksumType asked for it before
// the transfer began, SHA-256 (F-NFC-12).
//
// # What tests can see
//
// Leases, Snapshots, PowerState, CDROM, Sessions, Logins, RunningTasks, Struck,
// BytesServed and Requests tell the present state; OnLease, OnRequest, OnCall,
// OnByte and ByteReached tell when something happens, so that a test need not
// sleep. What a client has received is always visible there already.
//
// Down holds an outage until the test ends it. Release lets go of every call that
// is held back and ends every slow task. Touch, SetDisk, PowerOn, PowerOff and
// RenewHostCertificate change what a client may have relied on.
//
// # What it does not promise
//
// No guest runs, and the data of a VM changes by SetDisk only: a snapshot has the
// same content as its VM, and there are no delta disks. Changed block tracking knows
// the change id "*" only, and takes a disk that was given as a VMDK to be fully
// allocated. Datastores have room for everything. Where the facts are not sure
// the lab takes one side: which fault a locked VM gives, that a session's end
// takes its leases along, that a truncated stream has no manifest entry, that a
// snapshot stays in the tree until its removal ends. Speed says nothing about ESXi,
// except that Rate makes each connection as slow as asked for (F-NFC-18).
// HasPrivilegeOnEntity always grants; HasPrivilegeOnEntities and
// FetchUserPrivilegeOnEntities know what a VM denies and what the user lacks. Without
// them fail: ExportVm and ExportSnapshot, snapshots, changes of CD drives,
// QueryChangedDiskAreas, and /folder with 403 (F-PRIV-4). Nothing else asks for a
// privilege, whatever roles and permissions are set.
package vspheretest
