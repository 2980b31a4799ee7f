package migrate_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// shapes are disks of every kind that an export must get right.
func shapes(t testing.TB) map[string]string {
	return map[string]string{
		"with holes":   rawDisk(t, 64*mib, extent{0, mib, true}, extent{10 * mib, 3*mib + 5*kib, false}, extent{63 * mib, mib, true}),
		"of odd size":  rawDisk(t, 5*mib+3*512, extent{mib - 512, 70 * kib, true}, extent{5 * mib, 3 * 512, false}),
		"empty":        rawDisk(t, 32*mib),
		"dense":        rawDisk(t, 24*mib, extent{0, 24 * mib, false}),
		"of 1.5 GiB":   rawDisk(t, gib+gib/2, extent{0, 2 * mib, true}, extent{gib - mib, 2 * mib, false}, extent{gib + gib/2 - 64*kib, 64 * kib, true}),
		"one sector":   rawDisk(t, 512, extent{0, 512, true}),
		"one grain":    rawDisk(t, 64*kib, extent{0, 64 * kib, false}),
		"zeros inside": rawDisk(t, 8*mib, extent{0, 64 * kib, true}, extent{8*mib - 512, 512, true}),
	}
}

func TestEveryDiskLandsIdenticalInEveryFormatFromEveryProfile(t *testing.T) {
	t.Parallel()
	all := shapes(t)
	var names, disks []string
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		disks = append(disks, all[name])
	}
	for _, profile := range []vspheretest.Profile{vspheretest.Stream, vspheretest.Ranged, vspheretest.VSAN} {
		for _, c := range []struct {
			format   job.Format
			compress bool
		}{{job.FormatOVF, false}, {job.FormatRaw, false}, {job.FormatQcow2, false}, {job.FormatQcow2, true}} {
			t.Run(fmt.Sprintf("%s %s compress=%v", profile, c.format, c.compress), func(t *testing.T) {
				t.Parallel()
				b := newBench(t, vspheretest.Config{Profile: profile}, disks...)
				def := b.job(c.format)
				def.Options.Compress = c.compress
				result := b.export(def)
				b.identical(result)
				b.clean()
				for i, d := range result.Disks {
					if d.Verified != "manifest" || !strings.HasPrefix(d.Digest, "sha256:") {
						t.Errorf("disk %s: verified by %s with %s", names[i], d.Verified, d.Digest)
					}
					if want := b.Stream("guest1", i); d.StreamSize != want.Size || d.Digest != "sha256:"+want.SHA256 {
						t.Errorf("disk %s: stream of %d bytes, %s; the lab sent %d, %s", names[i], d.StreamSize, d.Digest, want.Size, want.SHA256)
					}
				}
				for _, f := range result.Files {
					if _, err := os.Stat(f); err != nil {
						t.Error(err)
					}
				}
				if left := b.hidden(); left != nil {
					t.Errorf("the work directory is left with %v", left)
				}
			})
		}
	}
}

func TestA2TiBSparseDiskTakesOnlyWhatItHolds(t *testing.T) {
	t.Parallel()
	const size = 2 << 40
	disk := rawDisk(t, size, extent{0, mib, true}, extent{size / 2, mib, false}, extent{size - mib, mib, true})
	for _, format := range []job.Format{job.FormatOVF, job.FormatRaw, job.FormatQcow2} {
		t.Run(string(format), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, vspheretest.Config{}, disk)
			result := b.export(b.job(format))
			if format == job.FormatOVF {
				sameAt(t, disk, result.Disks[0].File, 0, 1, size/2/mib-1, size/2/mib, size/mib-2, size/mib-1)
			} else {
				b.identical(result)
			}
			if kb := diskUsage(t, result.Disks[0].File); kb > 64*1024 {
				t.Errorf("3 MiB of data take %d KiB on disk", kb)
			}
		})
	}
}

// sameAt compares single MiB of a VMDK with the raw disk. qemu-img takes a
// minute to compare all of 2 TiB of VMDK.
func sameAt(t *testing.T, raw, vmdk string, offsets ...int64) {
	t.Helper()
	var got [2][]byte
	for _, off := range offsets {
		for i, image := range []string{raw, vmdk} {
			out := filepath.Join(t.TempDir(), "window")
			qemuImg(t, "dd", "-f", []string{"raw", "vmdk"}[i], "-O", "raw", "bs=1M", "count=1",
				fmt.Sprintf("skip=%d", off), "if="+image, "of="+out)
			var err error
			if got[i], err = os.ReadFile(out); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(got[0], got[1]) {
			t.Errorf("MiB %d differs", off)
		}
	}
}

// diskUsage returns the KiB that a file takes on its file system.
func diskUsage(t *testing.T, path string) int64 {
	t.Helper()
	out, err := exec.Command("du", "-k", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	var kb int64
	if _, err := fmt.Sscan(string(out), &kb); err != nil {
		t.Fatal(err)
	}
	return kb
}

func TestAnOVFDirectoryIsCompleteAndTellsRealSizes(t *testing.T) {
	t.Parallel()
	disk := rawDisk(t, 16*mib, extent{mib, 2 * mib, true})
	nvram := []byte(strings.Repeat("nvram ", 1000))
	b := newBench(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "guest1", EFI: true, NVRAM: nvram, ISO: []byte("an ISO image")}}}, disk)
	result := b.export(b.job(job.FormatOVF))
	want := []string{"guest1-disk-0.vmdk", "guest1.export.json", "guest1.mf", "guest1.nvram", "guest1.ovf"}
	if got := b.visible(); !slices.Equal(got, want) {
		t.Fatalf("the directory holds %v, want %v", got, want)
	}
	if got, err := os.ReadFile(filepath.Join(b.out, "guest1.nvram")); err != nil || string(got) != string(nvram) {
		t.Errorf("the NVRAM differs (%v)", err)
	}
	ovf, err := os.ReadFile(result.OVFPath)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"guest1-disk-0.vmdk", "guest1.nvram"} {
		info, err := os.Stat(filepath.Join(b.out, name))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(ovf), name) || !strings.Contains(string(ovf), fmt.Sprintf(`ovf:size="%d"`, info.Size())) {
			t.Errorf("the descriptor does not list %s with its %d bytes:\n%s", name, info.Size(), ovf)
		}
	}
	// sha256sum is the independent judge of the manifest.
	mf, err := os.ReadFile(filepath.Join(b.out, "guest1.mf"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(mf)), "\n")
	if len(lines) != 3 {
		t.Fatalf("the manifest has %d lines, want one for each of 3 files:\n%s", len(lines), mf)
	}
	for _, line := range lines {
		name, sum, ok := strings.Cut(strings.TrimPrefix(line, "SHA256("), ")= ")
		out, err := exec.Command("sha256sum", filepath.Join(b.out, name)).Output()
		if !ok || err != nil || !strings.HasPrefix(string(out), sum+" ") {
			t.Errorf("manifest line %q: sha256sum says %q (%v)", line, out, err)
		}
	}
}

func TestADiskThatNoManifestListsIsSaidToBeVerifiedByItsMarker(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{NoManifest: true}, twoDisks(t)...)
	b.m.ManifestPatience = 10 * time.Millisecond
	result, tracker, err := b.run(t.Context(), b.job(job.FormatQcow2))
	if err != nil {
		t.Fatal(err)
	}
	b.identical(result)
	for _, d := range result.Disks {
		if d.Verified != "end-of-stream" {
			t.Errorf("%s is verified by %q", d.File, d.Verified)
		}
	}
	for _, told := range []string{events(tracker), strings.Join(result.Notes, "\n")} {
		if strings.Count(told, "verified by its end-of-stream marker") != 2 {
			t.Errorf("two disks without a checksum are reported as\n%s", told)
		}
	}
}

func TestADomainIsOnTheNetworksThatTheJobNamesAndTheResultHasTheRest(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{VMs: []vspheretest.VM{
		{Name: "guest1", Folder: "a", NICs: []vspheretest.NIC{{Network: "VM Network"}, {Network: "DMZ"}, {Network: "DMZ"}}},
		{Name: "guest1", Folder: "b"},
	}}, rawDisk(t, mib, extent{0, mib / 2, true}))
	def := b.job(job.FormatRaw)
	def.VMPath = "/DC0/vm/a/guest1"
	def.Options.NetworkMap = map[string]string{"VM Network": "lan"}
	result := b.export(def)
	if !slices.Equal(result.Unmapped, []string{"DMZ"}) || len(result.Notes) != 2 {
		t.Errorf("unmapped %q, notes %q", result.Unmapped, result.Notes)
	}
	text, err := os.ReadFile(result.DomainXML)
	if err != nil {
		t.Fatal(err)
	}
	for part, times := range map[string]int{`network="lan"`: 1, `network="default"`: 2, "<title>guest1</title>": 1, "<name>guest1</name>": 0} {
		if n := strings.Count(string(text), part); n != times {
			t.Errorf("%s stands %d times in %s", part, n, text)
		}
	}
}
