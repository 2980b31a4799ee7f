package migrate

import (
	"errors"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

func TestADiskAgreesWithAManifestInSizeAndInEitherHash(t *testing.T) {
	t.Parallel()
	const sha1, sha256 = "da39a3ee5e6b4b0d3255bfef95601890afd80709", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	for name, c := range map[string]struct {
		entry vsphere.ManifestEntry
		want  error
	}{
		"the same":                    {vsphere.ManifestEntry{Algorithm: algSHA1, Sum: sha1, Size: 100}, nil},
		"the other hash of the same":  {vsphere.ManifestEntry{Algorithm: algSHA256, Sum: sha256, Size: 100}, nil},
		"no size is told":             {vsphere.ManifestEntry{Algorithm: algSHA1, Sum: sha1}, nil},
		"another size":                {vsphere.ManifestEntry{Algorithm: algSHA1, Sum: sha1, Size: 99}, errRefetch},
		"another hash":                {vsphere.ManifestEntry{Algorithm: algSHA1, Sum: sha256[:40], Size: 100}, errRefetch},
		"another hash of either kind": {vsphere.ManifestEntry{Algorithm: algSHA256, Sum: sha1 + sha1[:24], Size: 100}, errRefetch},
		"a hash that nobody knows":    {vsphere.ManifestEntry{Algorithm: "md5", Sum: sha1, Size: 100}, ErrVerify},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := &diskRun{arrival: arrival{result: job.DiskResult{Digest: "sha1:" + sha1, StreamSize: 100}, sha256: "sha256:" + sha256}}
			if err := (&leaseRoute{d: d}).compare(t.Context(), c.entry); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Errorf("error %v, want %v", err, c.want)
			}
		})
	}
}
