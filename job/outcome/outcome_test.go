package outcome_test

import (
	"testing"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/job/outcome"
)

func TestEachWayOfVerifyingIsReported(t *testing.T) {
	t.Parallel()
	const (
		manifest = "verified against the host's manifest"
		marker   = "verified by the end-of-stream marker; the host offered no checksum"
		grains   = "verified by the checksum of every grain; the host's manifest could not be read any more"
		size     = "read from the datastore in ranges and verified by size; there is no checksum"
		twice    = "read from the datastore twice, with the same SHA-256"
	)
	for want, ways := range map[string][]job.Verification{
		"verified":                           nil,
		"1 disk(s) " + manifest:              {"manifest"},
		"2 disk(s) " + marker:                {"end-of-stream", "end-of-stream"},
		"1 disk(s) " + grains:                {"grain-checksums"},
		"1 disk(s) " + size:                  {"size"},
		"1 disk(s) " + twice:                 {"second-read"},
		"1 disk(s) not known to be verified": {""},
		"1 disk(s) verified in a way that this program does not know (oath); is the daemon newer?": {"oath"},
		"2 disk(s) " + manifest + "; 1 disk(s) " + size:                                            {"manifest", "size", "manifest"},
	} {
		var disks []job.DiskResult
		for _, way := range ways {
			disks = append(disks, job.DiskResult{Verified: way})
		}
		if got := outcome.Verification(disks); got != want {
			t.Errorf("%q is worded %q, want %q", ways, got, want)
		}
	}
}

func TestTheNextStepIsACommandThatIsSafeToShowAndToRun(t *testing.T) {
	t.Parallel()
	for want, r := range map[string]job.Result{
		"":                                      {OutputDir: "/srv"},
		"Next: virsh define '/srv/a b/a.xml'":   {OutputDir: "/srv/a b", DomainXML: "/srv/a b/a.xml"},
		`Next: virsh define '/srv/\x1b[2J.xml'`: {DomainXML: "/srv/\x1b[2J.xml"},
		"Next: virt-v2v -i ova '/srv/a b' -o local -os DIR": {OutputDir: "/srv/a b", OVFPath: "/srv/a b/a.ovf"},
	} {
		if got := outcome.NextStep(r); got != want {
			t.Errorf("the next step is %q, want %q", got, want)
		}
	}
}
