package vspheretest

import (
	"cmp"
	"embed"
	"fmt"
	"io/fs"
	"path"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/hyper2kvm/hyper2kvm/probe/findings"
)

// profileFiles are reports of hyper2kvm probe, each of which is a profile: what stands in
// one is how the lab behaves, and what does not is as in stream.json. A report from the
// field becomes a regression test by being put there.
//
//go:embed profiles/*.json
var profileFiles embed.FS

// Profiles lists the names of all profiles.
func Profiles() []Profile {
	files, _ := fs.Glob(profileFiles, "profiles/*.json") // the pattern is a good one
	var out []Profile
	for _, f := range files {
		out = append(out, Profile(strings.TrimSuffix(path.Base(f), ".json")))
	}
	return out
}

// Report is the report that the profile is.
func (p Profile) Report() (findings.Report, error) {
	b, err := profileFiles.ReadFile("profiles/" + string(p) + ".json")
	if err != nil {
		return findings.Report{}, fmt.Errorf("profile %q: want one of %v, or the file of a report", p, Profiles())
	}
	r, err := findings.Decode(b)
	if err != nil {
		return r, fmt.Errorf("profiles/%s.json: %w", p, err)
	}
	return r, nil
}

// As returns c with everything that r says of a site, where c says nothing: versions,
// the number of hosts, what the user lacks, limits, rate and latency, and how data is
// served. The VMs, and what hangs on them (power, snapshots, change tracking), are c's
// own.
//
// A port that is silent is imitated as one that is closed, and port 443 of the hosts is
// always open: what else is wrong with the way to a host is nothing that a lab can have.
func (c Config) As(r findings.Report) Config {
	c.Like = &r
	c.APIVersion = cmp.Or(c.APIVersion, r.Service.APIVersion)
	c.Hosts = cmp.Or(c.Hosts, r.Hosts.Count)
	c.LeaseTimeout = cmp.Or(c.LeaseTimeout, time.Duration(r.Lease.TimeoutS)*time.Second)
	c.Latency = cmp.Or(c.Latency, latencyOf(r))
	c.Rate = cmp.Or(c.Rate, rateOf(r))
	c.StreamsPerHost = cmp.Or(c.StreamsPerHost, streamsOf(r))
	c.NFC902 = c.NFC902 || r.Port902.Ticket != "" && r.Port902.Ticket != findings.None
	c.DirectURLs = c.DirectURLs || r.Lease.URLs == findings.Wildcard || r.Service.Kind == findings.Host
	c.DeniedPrivileges = slices.Concat(c.DeniedPrivileges, r.Lacks())
	c.Faults = slices.Concat(c.Faults, faultsOf(r))
	return c
}

// latencyOf is what a call takes longer than one on this machine.
func latencyOf(r findings.Report) time.Duration {
	if r.Timings.CallMS < 3 {
		return 0
	}
	return time.Duration(r.Timings.CallMS) * time.Millisecond
}

// rateOf is that of one stream, the fastest of the channels.
func rateOf(r findings.Report) (rate int64) {
	for _, x := range r.Rates {
		if x.Streams == 1 && x.Served == 1 {
			rate = max(rate, x.PerSec)
		}
	}
	return rate
}

// streamsOf is how many streams a host serves at a time; 0 when none was refused.
func streamsOf(r findings.Report) (most int) {
	for _, x := range r.Rates {
		if x.Channel == findings.ByLease && x.Served > 0 && x.Served < x.Streams {
			most = max(most, x.Served)
		}
	}
	return most
}

// refusals are the faults with which port 902 refuses for a reason.
var refusals = map[findings.Answer]string{
	findings.InUse: "locked", findings.Memory: "memory", findings.Ticket: "expired", findings.Busy: "busy",
	findings.Untrusted: "wrong-thumbprint", findings.Protocol: "clear", findings.Failed: "status",
}

// faultsOf are what a report says in the words of faults.
func faultsOf(r findings.Report) (faults []string) {
	nfc := func(how string) { faults = append(faults, "nfc902:how="+how+",times=always") }
	if r.Port902.Opened == findings.No {
		if how := refusals[r.Port902.Why]; how != "" {
			nfc(how)
		}
	}
	switch r.Port902.Blocks {
	case findings.Whole:
		nfc("all-blocks")
	case findings.Refused:
		nfc("no-blocks")
	}
	if r.Port902.Status == findings.Late {
		nfc("late-36")
	}
	if r.Lease.Version == findings.Changed {
		faults = append(faults, "touch:times=always")
	}
	unknown := len(r.Privileges) > 0
	for _, a := range r.Privileges {
		unknown = unknown && a == findings.Unknown
	}
	if unknown {
		faults = append(faults, "fault:call=HasPrivilegeOnEntities,fault=NoPermission,times=always")
	}
	if r.Lease.Opened == findings.No && r.Lease.Why == findings.NotExportable {
		faults = append(faults, "fault:call=ExportVm,fault=FileFault,times=always", "fault:call=ExportSnapshot,fault=FileFault,times=always")
	}
	return faults
}

// behaviour is how the lab of c behaves: as the report that it is like or that its
// profile is, and as its own fields say.
func (c Config) behaviour() (*findings.Report, error) {
	base, err := Stream.Report()
	if err != nil {
		return nil, err
	}
	r := base
	if c.Like != nil {
		r = *c.Like
	} else if r, err = c.Profile.Report(); err != nil {
		return nil, err
	}
	c.age(&r)
	fill(reflect.ValueOf(&r).Elem(), reflect.ValueOf(base))
	l := &r.Lease
	if c.DirectURLs {
		l.URLs = findings.Wildcard
	}
	if c.NoManifest {
		l.Manifest = findings.Empty
	}
	if c.ConcurrentLeases {
		l.SecondLease = findings.Granted
	}
	return &r, nil
}

// age fills in what depends on the version, where the report does not tell (F-NFC-6,
// F-NFC-12).
func (c Config) age(r *findings.Report) {
	pinned, early, late := findings.Thumbprint, findings.Honoured, findings.Ignored
	if atLeast(c.APIVersion, 9, 0) {
		pinned = findings.Both
	}
	if !atLeast(c.APIVersion, 6, 7) {
		early, late = findings.Refused, findings.Refused
	}
	r.Lease.Pinned = cmp.Or(r.Lease.Pinned, pinned)
	r.Lease.SHA256, r.Lease.SHA256Late = cmp.Or(r.Lease.SHA256, early), cmp.Or(r.Lease.SHA256Late, late)
}

// fill gives the words of dst that are missing those of src.
func fill(dst, src reflect.Value) {
	switch dst.Kind() { //nolint:exhaustive // the rest stays as it is
	case reflect.Struct:
		for i := range dst.NumField() {
			if dst.Type().Field(i).Tag.Get("one") != "reason" {
				fill(dst.Field(i), src.Field(i))
			}
		}
	case reflect.String:
		if dst.String() == "" && dst.Type() == reflect.TypeFor[findings.Answer]() {
			dst.SetString(src.String())
		}
	}
}
