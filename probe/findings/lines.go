package findings

import (
	"slices"
	"strings"
)

// Line is one thing that a probe looks at.
type Line struct {
	Area     string // "service", "lease", "folder", "port 902"
	Fact     string // its number in docs/vsphere-facts.md, as F-NFC-9; "" for none
	What     string
	Expected string // what the project takes for granted; "" where anything may be
	Seen     string // "-" when it was not looked at
	Differs  bool   // from what is expected
	Means    string // for whoever exports here; "" where there is nothing to say
}

// item is how a [Line] is made of a report.
type item struct {
	area, fact, what string
	expected         Answer
	seen             func(*Report) Answer
	means            map[Answer]string
}

// items are the lines of each report, in their order.
var items = slices.Concat(siteItems, leaseItems, folderItems, port902Items)

var siteItems = []item{
	{"service", "F-NFC-5", "the name of the VM's host", Yes, func(r *Report) Answer { return r.Hosts.Resolves }, map[Answer]string{
		No: "nothing can be read: the data comes from the host; add its name to DNS or /etc/hosts",
	}},
	{"service", "F-NFC-5", "TCP 443 of the VM's host", Open, func(r *Report) Answer { return r.Hosts.Port443 }, map[Answer]string{
		Closed: "leases bring nothing: something at the host refuses port 443",
		Silent: "leases bring nothing: a firewall drops port 443 between here and the host",
	}},
	{"service", "F-PRIV-5", "privileges are told", Yes, privilegesTold, map[Answer]string{
		No: "preflight cannot say what is missing; the call itself will",
	}},
	{"service", "F-PRIV-1", "VApp.Export", Granted, func(r *Report) Answer { return r.Privileges["VApp.Export"] }, map[Answer]string{
		Missing: "no lease can be opened: ask for it (docs/vsphere-permissions.md)",
	}},
}

var leaseItems = []item{
	{"lease", "F-NFC-2", "an export lease opens", Yes, func(r *Report) Answer { return r.Lease.Opened }, map[Answer]string{
		No: "transport nfc does not work for this VM: see why",
	}},
	{"lease", "F-NFC-5", "device URLs name the host by", "", func(r *Report) Answer { return r.Lease.URLs }, map[Answer]string{
		ByName: "this machine has to resolve the names of all hosts",
	}},
	{"lease", "F-NFC-6", "the host's certificate is told by", "", func(r *Report) Answer { return r.Lease.Pinned }, map[Answer]string{
		None: "the host's certificate needs an authority or a known-hosts line",
	}},
	{"lease", "F-NFC-9", "Range on a stream", Ignored, func(r *Report) Answer { return r.Lease.Range }, map[Answer]string{
		Honoured: "a disk comes over several connections, and is resumed in its middle",
		Ignored:  "one stream a disk; an export that breaks begins the disk again",
		Refused:  "one stream a disk; please report this",
	}},
	{"lease", "F-NFC-9", "HEAD on a stream", Refused, func(r *Report) Answer { return r.Lease.Head }, nil},
	{"lease", "F-NFC-9", "ETag of a stream", None, func(r *Report) Answer { return r.Lease.ETag }, nil},
	{"lease", "F-NFC-8", "length of a stream", Chunked, func(r *Report) Answer { return r.Lease.Body }, nil},
	{"lease", "", "keep-alive", Yes, func(r *Report) Answer { return r.Lease.KeepAlive }, map[Answer]string{
		No: "each request costs a TLS handshake",
	}},
	{"lease", "F-NFC-13", "a URL fetched again", Served, func(r *Report) Answer { return r.Lease.SecondFetch }, map[Answer]string{
		Empty:   "a disk that breaks needs a new lease",
		Refused: "a disk that breaks needs a new lease",
	}},
	{"lease", "F-NFC-13", "another disk under the lease", Served, func(r *Report) Answer { return r.Lease.SecondDisk }, map[Answer]string{
		Empty:   "each disk gets a lease of its own; hyper2kvm does that by itself",
		Refused: "export with -parallel 1, so that each disk gets a lease of its own; please report this",
	}},
	{"lease", "F-NFC-13", "a second lease on the VM", Refused, func(r *Report) Answer { return r.Lease.SecondLease }, nil},
	{"lease", "F-NFC-12", "a manifest lists what was sent", Listed, func(r *Report) Answer { return r.Lease.Manifest }, map[Answer]string{
		Empty:   "images are checked by their structure alone, which the result says",
		Refused: "images are checked by their structure alone, which the result says",
	}},
	{"lease", "F-NFC-12", "and matches what arrived", Yes, func(r *Report) Answer { return r.Lease.Matches }, map[Answer]string{
		No: "exports will fail their verification: please report this",
	}},
	{"lease", "F-NFC-12", "SHA-256, asked for before", Honoured, func(r *Report) Answer { return r.Lease.SHA256 }, map[Answer]string{
		Ignored: "manifests have SHA-1",
		Refused: "manifests have SHA-1",
	}},
	{"lease", "F-NFC-12", "SHA-256, asked for later", "", func(r *Report) Answer { return r.Lease.SHA256Late }, nil},
	{"lease", "F-NFC-21", "the VM's change version", Kept, func(r *Report) Answer { return r.Lease.Version }, map[Answer]string{
		Changed: "an export that needs several leases fails with \"keeps changing\": please report this",
	}},
}

var folderItems = []item{
	{"folder", "F-DS-1", "the disk's flat file", Served, func(r *Report) Answer { return r.Folder.Answer }, map[Answer]string{
		Refused: "transport datastore does not work for this VM",
	}},
	{"folder", "F-DS-1", "Range on it", Honoured, func(r *Report) Answer { return r.Folder.Range }, map[Answer]string{
		Ignored: "transport datastore does not work here",
		Refused: "transport datastore does not work here",
	}},
	{"folder", "F-DS-1", "HEAD on it", Sized, func(r *Report) Answer { return r.Folder.Head }, nil},
	{"folder", "F-DS-7", "ETag of it", Strong, func(r *Report) Answer { return r.Folder.ETag }, map[Answer]string{
		Weak: "a later run does not go on in the middle of a disk",
		None: "a later run does not go on in the middle of a disk",
	}},
	{"folder", "F-DS-6", "served while a lease is open", Served, func(r *Report) Answer { return r.Folder.UnderLease }, map[Answer]string{
		Refused: "transport auto takes the lease; transport datastore does not work",
	}},
	{"folder", "F-902-3", "while port 902 has the disk", Refused, func(r *Report) Answer { return r.Folder.Beside902 }, nil},
	{"folder", "F-DS-5", "allocated areas, by tracking", Trimmed, func(r *Report) Answer { return r.Folder.Areas }, map[Answer]string{
		Whole:   "holes are read, too",
		Refused: "holes are read, too",
	}},
}

var port902Items = []item{
	{"port 902", "F-902-4", "a ticket", AllFiles, func(r *Report) Answer { return r.Port902.Ticket }, map[Answer]string{
		OneDisk: "the privilege GetVmFiles is missing, and DiskRandomRead does instead",
		Refused: "transport nfc902 does not work: GetVmFiles and DiskRandomRead are missing, or something else is",
		None:    "there is no NFC service: transport nfc902 does not work",
	}},
	{"port 902", "F-902-4", "the host's certificate is told by", "", func(r *Report) Answer { return r.Port902.Pinned }, map[Answer]string{
		None: "the host's certificate needs a known-hosts line",
	}},
	{"port 902", "F-INV-3", "TCP 902 of the host", Open, func(r *Report) Answer { return r.Port902.Port }, map[Answer]string{
		Closed:     "transport nfc902 does not work: something at the host refuses port 902",
		Silent:     "transport nfc902 does not work: a firewall drops port 902 between here and the host",
		Unresolved: "transport nfc902 does not work: the host's name is not known here",
	}},
	{"port 902", "F-902-9", "SHA-256 is announced", Yes, announces("SHA256 supported"), map[Answer]string{
		No: "transport nfc902 does not work with a host this old",
	}},
	{"port 902", "F-902-8", "NFC over TLS is announced", Yes, announces("NFCSSL supported"), map[Answer]string{
		No: "transport nfc902 does not work with a host this old",
	}},
	{"port 902", "F-902-14", "message 36 comes", "", func(r *Report) Answer { return r.Port902.Status }, nil},
	{"port 902", "F-902-1", "the disk opens", Yes, func(r *Report) Answer { return r.Port902.Opened }, map[Answer]string{
		No: "transport nfc902 does not work for this VM: see why",
	}},
	{"port 902", "F-902-17", "allocated blocks", Trimmed, func(r *Report) Answer { return r.Port902.Blocks }, map[Answer]string{
		Whole:   "holes are read, too, unless the disk is full",
		Refused: "holes are read, too",
	}},
	{"port 902", "F-902-19", "a second connection to the disk", Yes, func(r *Report) Answer { return r.Port902.SecondConn }, map[Answer]string{
		No: "one connection a disk",
	}},
	{"port 902", "F-902-21", "opens while a lease is open", Served, func(r *Report) Answer { return r.Port902.UnderLease }, map[Answer]string{
		Refused: "transport auto takes the lease; transport nfc902 does not work",
	}},
	{"port 902", "F-902-3", "while /folder serves the disk", Refused, func(r *Report) Answer { return r.Port902.BesideFiles }, nil},
}

// privilegesTold says whether the service tells of any privilege.
func privilegesTold(r *Report) Answer {
	if len(r.Privileges) == 0 {
		return ""
	}
	for _, a := range r.Privileges {
		if a != Unknown {
			return Yes
		}
	}
	return No
}

// announces says whether a greeting has a word in it.
func announces(word string) func(*Report) Answer {
	return func(r *Report) Answer {
		switch {
		case len(r.Port902.Announces) == 0:
			return ""
		case slices.Contains(r.Port902.Announces, word):
			return Yes
		}
		return No
	}
}

// Lines says what the report means, one line for each thing that a probe looks at.
func (r Report) Lines() []Line {
	var out []Line
	for _, it := range items {
		seen := it.seen(&r)
		l := Line{
			Area: it.area, Fact: it.fact, What: it.what, Expected: words(it.expected), Seen: words(seen),
			Differs: seen != "" && it.expected != "" && seen != it.expected, Means: it.means[seen],
		}
		if seen == "" {
			l.Seen = "-"
		}
		out = append(out, l)
	}
	return append(out, r.missing()...)
}

// missing is a line for each privilege beside those of the items that this user lacks.
func (r Report) missing() (out []Line) {
	for _, id := range r.Lacks() {
		if id != "VApp.Export" {
			out = append(out, Line{Area: "service", Fact: factOf(id), What: id, Expected: "granted", Seen: "missing", Differs: true, Means: needed(id)})
		}
	}
	return out
}

// Lacks lists the privileges that are missing, in order.
func (r Report) Lacks() (ids []string) {
	for id, a := range r.Privileges {
		if a == Missing {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// factOf is the fact that says what a privilege is for.
func factOf(id string) string {
	switch {
	case strings.HasPrefix(id, "VirtualMachine.State."):
		return "F-PRIV-2"
	case strings.HasPrefix(id, "Datastore."):
		return "F-PRIV-4"
	case strings.HasPrefix(id, "VirtualMachine.Provisioning."):
		return "F-902-4"
	}
	return "F-PRIV-3"
}

// needed says what cannot be done without a privilege.
func needed(id string) string {
	switch factOf(id) {
	case "F-PRIV-2":
		return "running VMs cannot be exported (-snapshot)"
	case "F-PRIV-4":
		return "disks cannot be read from the datastore (-transport datastore)"
	case "F-902-4":
		return "one of the two ways to a ticket for port 902 is closed"
	}
	return "CD/DVD drives cannot be taken out (-remove-cdrom)"
}

// Facts lists the facts that a probe can settle, each once.
func Facts() []string {
	var out []string
	for _, it := range items {
		if it.fact != "" && !slices.Contains(out, it.fact) {
			out = append(out, it.fact)
		}
	}
	return out
}

// plain are the words that stand otherwise in a table.
var plain = map[Answer]string{
	AllFiles: "for all files", OneDisk: "for one disk", Sized: "with the size", Unsized: "without size", Length: "known", Chunked: "not told",
	None: "nothing",
}

func words(a Answer) string {
	if s := plain[a]; s != "" {
		return s
	}
	return string(a)
}

// Why puts a reason into words.
func Why(a Answer) string {
	switch a {
	case "":
		return ""
	case PowerState:
		return "the VM runs; -snapshot lets a temporary snapshot be taken"
	case NoPermission:
		return "a privilege is missing"
	case Busy:
		return "the VM is busy with something else"
	case NotExportable:
		return "vSphere refuses to export the VM"
	case Unsupported:
		return "there is no such thing here"
	case Unreachable:
		return "there is no connection"
	case Untrusted:
		return "the certificate is not the expected one"
	case TimedOut:
		return "it took longer than the probe waits"
	case InUse:
		return "something else holds the disk"
	case Memory:
		return "the host has no memory left for NFC"
	case Ticket:
		return "the host does not accept the ticket"
	case Protocol:
		return "the other side does not keep to the protocol"
	case NotFound:
		return "it is not there"
	case Snapshots:
		return "the disk is spread over snapshots"
	case NoVM:
		return "there is no VM to look at; name one with -vm"
	case Interrupted:
		return "the probe was interrupted"
	}
	return "it failed; the log on the terminal says how"
}
