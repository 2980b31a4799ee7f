package migrate_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/internal/volume/volumetest"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// unpack unpacks an OVA with tar and returns its files' names in their order.
func unpack(t testing.TB, ova, dir string) []string {
	t.Helper()
	out, err := exec.Command("tar", "-C", dir, "-xvf", ova).CombinedOutput()
	if err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	return strings.Fields(string(out))
}

// inOVA holds the disks in an OVA against their sources and its files against its
// manifest, with tar, qemu-img and sha256sum as the judges.
func (b *bench) inOVA(result job.Result) {
	b.t.Helper()
	dir := b.t.TempDir()
	names := unpack(b.t, result.OVAPath, dir)
	want := []string{"guest1.ovf", "guest1.mf"}
	for i, raw := range b.raw {
		want = append(want, fmt.Sprintf("guest1-disk-%d.vmdk", i))
		qemuImg(b.t, "compare", "-f", "raw", "-F", "vmdk", raw, filepath.Join(dir, want[len(want)-1]))
	}
	if !slices.Equal(slices.DeleteFunc(names, func(n string) bool { return strings.HasSuffix(n, ".nvram") }), want) {
		b.t.Errorf("the OVA has %v, want %v", names, want)
	}
	check := exec.Command("sh", "-c", `sed -E 's/^SHA256\((.*)\)= (.*)$/\2  \1/' guest1.mf | sha256sum --check --strict --quiet`)
	check.Dir = dir
	if out, err := check.CombinedOutput(); err != nil {
		b.t.Errorf("sha256sum: %v\n%s", err, out)
	}
}

func TestAnOVAHasTheDescriptorFirstAndEveryDiskIdentical(t *testing.T) {
	t.Parallel()
	for _, profile := range []vspheretest.Profile{vspheretest.Stream, vspheretest.Ranged} {
		t.Run(string(profile), func(t *testing.T) {
			t.Parallel()
			cfg := vspheretest.Config{Profile: profile, VMs: []vspheretest.VM{{Name: "guest1", EFI: true, NVRAM: []byte("variables")}}}
			b := newBench(t, cfg, rawDisk(t, 5*mib+512, extent{mib, 2 * mib, false}), rawDisk(t, 2*mib, extent{0, mib, true}))
			result := b.export(b.job(job.FormatOVA))
			b.clean()
			b.inOVA(result)
			if got := b.visible(); !slices.Equal(got, []string{"guest1.export.json", "guest1.ova"}) {
				t.Errorf("the output directory has %v", got)
			}
			if len(result.Files) != 1 || result.Files[0] != result.OVAPath || result.OVFPath != "" || result.DomainXML != "" {
				t.Errorf("the result is %+v", result)
			}
			for _, d := range result.Disks {
				if d.File != result.OVAPath || d.Verified != job.ByManifest {
					t.Errorf("a disk is in %s, verified by %s", d.File, d.Verified)
				}
			}
			if left := b.hidden(); left != nil {
				t.Errorf("the work directory is left with %v", left)
			}
			b.m.AcceptFinished = true
			if again := b.export(b.job(job.FormatOVA)); !again.Earlier || again.OVAPath != result.OVAPath {
				t.Errorf("a second run gives %+v", again)
			}
		})
	}
}

func TestAFullDiskWhileTheOVAIsPutTogetherCostsNoDisk(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{}, rawDisk(t, 6*mib, extent{0, 5 * mib, false}))
	tiny := volumetest.Tiny(t, 12*mib)
	ballast := filepath.Join(tiny, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 4*mib), 0o600); err != nil {
		t.Fatal(err)
	}
	b.out = filepath.Join(tiny, "out")
	def := b.job(job.FormatOVA)
	_, _, err := b.run(t.Context(), def)
	if !errors.Is(err, migrate.ErrNoSpace) || !migrate.Permanent(err) || !strings.Contains(err.Error(), "OVA") {
		t.Fatalf("the error is %v, want that the space is used up", err)
	}
	b.clean()
	if got := b.hidden(); !slices.Contains(got, "guest1-disk-0.vmdk.part") || slices.Contains(got, "guest1.ova.part") || len(b.visible()) > 0 {
		t.Errorf("left: %v and %v, want the disk alone", got, b.visible())
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	result := b.export(def)
	b.inOVA(result)
	if !result.Disks[0].Resumed || result.Disks[0].Transferred != 0 {
		t.Errorf("the disk was fetched again: %+v", result.Disks[0])
	}
}

func TestAnOVAIsSaidToTakeTheSpaceTwice(t *testing.T) {
	t.Parallel()
	vm := vsphere.VM{CommittedBytes: 4 * gib, Disks: []vsphere.Disk{{Capacity: 8 * gib, Thin: true}}}
	ovf, ova := migrate.SpaceOf(vm, job.Options{Format: job.FormatOVF}), migrate.SpaceOf(vm, job.Options{Format: job.FormatOVA})
	if ova.AtMost != 2*ovf.AtMost || ova.AtLeast != 0 {
		t.Errorf("an OVA takes %+v, an OVF directory %+v", ova, ovf)
	}
}
