package migrate_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// A host before 6.7 has SHA-1 in its manifest, an OVF manifest has SHA-256: both
// come of the same bytes as they pass. What is read again would be seen here,
// because the file is another one by then.
func TestAHostWithSHA1OnlyCostsNoSecondReadingOfADisk(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{APIVersion: "6.5.0"}, twoDisks(t)...)
	b.OnLease(func(e vspheretest.LeaseEvent) {
		if e.Kind != vspheretest.LeaseCompleted {
			return
		}
		parts, err := filepath.Glob(filepath.Join(b.out, ".hyper2kvm-*", "*.vmdk.part"))
		if err != nil || len(parts) != 2 {
			t.Errorf("part files %v (%v)", parts, err)
		}
		for _, p := range parts {
			if err := os.Rename(p, p+".away"); err != nil {
				t.Error(err)
			}
			if err := os.WriteFile(p, []byte("another file"), 0o600); err != nil {
				t.Error(err)
			}
		}
	})
	result := b.export(b.job(job.FormatOVF))
	mf, err := os.ReadFile(filepath.Join(b.out, "guest1.mf"))
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range result.Disks {
		want := b.Stream("guest1", i)
		if d.Verified != "manifest" || !strings.HasPrefix(d.Digest, "sha1:") {
			t.Errorf("%s is verified by %s with %s", d.File, d.Verified, d.Digest)
		}
		if line := "SHA256(" + filepath.Base(d.File) + ")= " + want.SHA256 + "\n"; !strings.Contains(string(mf), line) {
			t.Errorf("the manifest has no line %q:\n%s", line, mf)
		}
	}
}

// The SHA-256 of a disk that an earlier run finished is known as well, and so is
// that of one that resumes from a checkpoint.
func TestASecondRunAtAHostWithSHA1OnlyKnowsEverySHA256(t *testing.T) {
	t.Parallel()
	for _, profile := range bothProfiles {
		t.Run(string(profile), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, vspheretest.Config{Profile: profile, APIVersion: "6.5.0"}, twoDisks(t)...)
			def := b.job(job.FormatOVF)
			def.Options.ParallelDownloads = 1
			b.cancelAt(def, 1, 2*mib, job.Cancelled{KeepParts: true})
			result := b.export(def)
			if !result.Disks[0].Resumed {
				t.Error("the first disk was fetched again")
			}
			for _, f := range result.Files {
				if filepath.Ext(f) == ".mf" {
					continue
				}
				out, err := exec.Command("sha256sum", f).Output() // an independent judge
				if err != nil {
					t.Fatal(err)
				}
				sum, _, _ := strings.Cut(string(out), " ")
				mf, err := os.ReadFile(filepath.Join(b.out, "guest1.mf"))
				if err != nil || !strings.Contains(string(mf), "SHA256("+filepath.Base(f)+")= "+sum) {
					t.Errorf("%s has %s; the manifest says (%v)\n%s", f, sum, err, mf)
				}
			}
		})
	}
}
