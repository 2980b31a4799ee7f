package vsphere

import (
	"cmp"
	"reflect"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/soap"
)

// Timeouts bounds how long one attempt at a SOAP call may go without its
// answer, by what kind of call it is. A zero field is the default. How often an
// attempt is repeated is another matter: see [Config.Outage].
type Timeouts struct {
	Login      time.Duration // logging in, and the first call of all; 1 minute
	Read       time.Duration // reading state, renewing a lease; 1 minute
	Inventory  time.Duration // one page of the inventory, or of a disk's areas; 5 minutes
	Change     time.Duration // starting a task; 2 minutes
	Export     time.Duration // opening a lease; 2 minutes
	Lease      time.Duration // the manifest and other calls on an open lease, its end; 2 minutes
	Descriptor time.Duration // making the OVF descriptor; 2 minutes
}

// withDefaults fills in what is zero.
func (t Timeouts) withDefaults() Timeouts {
	return Timeouts{
		Login:      cmp.Or(t.Login, time.Minute),
		Read:       cmp.Or(t.Read, time.Minute),
		Inventory:  cmp.Or(t.Inventory, 5*time.Minute),
		Change:     cmp.Or(t.Change, 2*time.Minute),
		Export:     cmp.Or(t.Export, 2*time.Minute),
		Lease:      cmp.Or(t.Lease, 2*time.Minute),
		Descriptor: cmp.Or(t.Descriptor, 2*time.Minute),
	}
}

// farewell bounds a call that only spares the service some work, such as a
// logout: nobody waits longer for that.
const farewell = 10 * time.Second

// repeat says when a call may be sent again that has got no answer.
type repeat int

const (
	// repeatUnsent: only when it is certain that it did not arrive. Without
	// that certainty its error is an [ErrUncertain].
	repeatUnsent repeat = iota
	// repeatDoubtful: also when something in front of vSphere has answered in
	// its place. If the first has arrived after all, the second is refused, as
	// by the lock that the first holds; that refusal is an [ErrUncertain].
	repeatDoubtful
	// repeatAlways: having it done twice is the same as having it done once.
	repeatAlways
	// repeatElsewhere: never here, because its caller has a policy of its own.
	repeatElsewhere
)

// kind is how the calls of one method are treated.
type kind struct {
	method string
	limit  func(Timeouts) time.Duration
	repeat repeat
	fresh  bool // over a connection of its own, for there is no time to find out that one is dead
}

// changing is the kind of every method that is not in the table: nothing is
// known of it, so it is not sent twice.
var changing = kind{limit: func(t Timeouts) time.Duration { return t.Change }}

// kinds says how each method is treated. It is the one place where that is
// decided.
var kinds = func() map[string]kind {
	var (
		login      = func(t Timeouts) time.Duration { return t.Login }
		read       = func(t Timeouts) time.Duration { return t.Read }
		inventory  = func(t Timeouts) time.Duration { return t.Inventory }
		export     = func(t Timeouts) time.Duration { return t.Export }
		lease      = func(t Timeouts) time.Duration { return t.Lease }
		descriptor = func(t Timeouts) time.Duration { return t.Descriptor }
		bye        = func(t Timeouts) time.Duration { return min(t.Login, farewell) }
	)
	return map[string]kind{
		"RetrieveServiceContent": {limit: login, repeat: repeatAlways},
		"Login":                  {limit: login, repeat: repeatAlways},
		"Logout":                 {limit: bye, repeat: repeatElsewhere, fresh: true}, // the session ends by itself (F-INV-2)

		"CurrentTime":            {limit: read, repeat: repeatElsewhere}, // the keepalive's
		"RetrievePropertiesEx":   {limit: read, repeat: repeatAlways},
		"HasPrivilegeOnEntities": {limit: read, repeat: repeatAlways},

		"CreateContainerView":          {limit: inventory, repeat: repeatAlways}, // a second one ends with the session
		"DestroyView":                  {limit: bye, repeat: repeatElsewhere},
		"ContinueRetrievePropertiesEx": {limit: inventory, repeat: repeatElsewhere}, // a token is good for one answer: the walk starts again
		"QueryChangedDiskAreas":        {limit: inventory, repeat: repeatAlways},

		"RetrieveInternalContent":     {limit: read, repeat: repeatAlways},
		"NfcGetVmFiles":               {limit: read, repeat: repeatAlways}, // a ticket that nobody uses runs out
		"NfcRandomAccessOpenReadonly": {limit: read, repeat: repeatAlways},

		"ExportVm":       {limit: export, repeat: repeatDoubtful},
		"ExportSnapshot": {limit: export, repeat: repeatDoubtful},

		"RemoveSnapshot_Task": {limit: func(t Timeouts) time.Duration { return t.Change }, repeat: repeatAlways}, // what is gone stays gone

		"AddCustomFieldDef": {limit: read, repeat: repeatAlways}, // a second one is told that there is one
		"SetField":          {limit: read, repeat: repeatAlways},

		"HttpNfcLeaseProgress":                {limit: read, repeat: repeatElsewhere, fresh: true}, // the keeper's
		"HttpNfcLeaseGetManifest":             {limit: lease, repeat: repeatAlways},
		"HttpNfcLeaseSetManifestChecksumType": {limit: lease, repeat: repeatAlways},
		"HttpNfcLeaseComplete":                {limit: lease, repeat: repeatAlways}, // a second one is told that the lease has ended
		"HttpNfcLeaseAbort":                   {limit: lease, repeat: repeatAlways},

		"CreateDescriptor": {limit: descriptor, repeat: repeatAlways},
		"CancelTask":       {limit: read, repeat: repeatAlways},
	}
}()

// methodOf is the name of the request's method.
func methodOf(req soap.HasFault) string {
	return strings.TrimSuffix(reflect.TypeOf(req).Elem().Name(), "Body")
}

// once says that it must not be done twice.
func (r repeat) once() bool { return r == repeatUnsent || r == repeatDoubtful }

// kindOf says how a request is treated.
func kindOf(req soap.HasFault) kind {
	name := methodOf(req)
	k, known := kinds[name]
	if !known {
		k = changing
	}
	k.method = name
	return k
}
