// Package outcome says for people what has become of a job: how its disks were verified,
// and what one does next. The texts are the same wherever they are shown.
package outcome

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress/display"
)

// Verified says how a disk was verified, for people.
func Verified(d job.DiskResult) string {
	switch d.Transport {
	case job.FromFile:
		return verifiedFile(d.Verified)
	case job.FromNBD:
		return "read whole from the NBD server; there is no checksum"
	}
	switch d.Verified {
	case job.ByManifest:
		return "verified against the host's manifest"
	case job.ByGrains:
		return "verified by the checksum of every grain; the host's manifest could not be read any more"
	case job.BySize:
		return "read " + from(d, "from the datastore in ranges") + " and verified by size; there is no checksum"
	case job.BySecondRead:
		return "read " + from(d, "from the datastore") + " twice, with the same SHA-256"
	case job.ByEndOfStream:
		return "verified by the end-of-stream marker; the host offered no checksum"
	case "":
		return "not known to be verified"
	}
	return fmt.Sprintf("verified in a way that this program does not know (%s); is the daemon newer?", display.SafeText(string(d.Verified)))
}

// verifiedFile is [Verified] of a disk that was converted.
func verifiedFile(by job.Verification) string {
	switch by {
	case job.ByManifest:
		return "verified against the package's manifest"
	case job.ByGrains:
		return "verified by the checksum of every grain; no manifest lists it"
	}
	return "read whole; it has no checksum, and no manifest lists it"
}

// from says where a disk without a manifest was read; datastore is how the first of the
// ways is called.
func from(d job.DiskResult, datastore string) string {
	switch d.Transport {
	case string(job.TransportNFC902):
		return "over port 902 of the host"
	case string(job.TransportVDDK):
		return "by VDDK"
	}
	return datastore
}

// Verification says in a few words how the disks of a finished job were
// verified: how many in each way.
func Verification(disks []job.DiskResult) string {
	if len(disks) == 0 {
		return "verified"
	}
	var ways []string
	count := map[string]int{}
	for _, d := range disks {
		way := Verified(d)
		if count[way] == 0 {
			ways = append(ways, way)
		}
		count[way]++
	}
	for i, way := range ways {
		ways[i] = fmt.Sprintf("%d disk(s) %s", count[way], way)
	}
	return strings.Join(ways, "; ")
}

// NextStep is a line that says what one does with a finished export, "" when
// nothing is known. It is safe for a terminal.
func NextStep(r job.Result) string {
	word := func(path string) string { return Quote(display.SafeText(path)) }
	switch {
	case r.Landed != nil && r.Landed.Started:
		return ""
	case r.Landed != nil && r.Landed.Domain != "":
		return "Next: virsh -c " + word(r.Landed.URI) + " start " + word(r.Landed.Domain)
	case r.DomainXML != "":
		return "Next: virsh define " + word(r.DomainXML)
	case r.OVAPath != "":
		return "Next: virt-v2v -i ova " + word(r.OVAPath) + " -o local -os DIR"
	case r.OVFPath != "":
		return "Next: virt-v2v -i ova " + word(r.OutputDir) + " -o local -os DIR"
	}
	return ""
}

// Quote returns s as one word of a POSIX shell.
func Quote(s string) string {
	plain := func(r rune) bool {
		return r < 0x80 && (unicode.IsLetter(r) || unicode.IsDigit(r)) || strings.ContainsRune("%+,-./:=@_", r)
	}
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
