package convert_test

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/hyper2kvm/hyper2kvm/convert"
	"github.com/hyper2kvm/hyper2kvm/disk"
	"github.com/hyper2kvm/hyper2kvm/disk/disktest"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/migrate/workdir"
	"github.com/hyper2kvm/hyper2kvm/ova"
	"github.com/hyper2kvm/hyper2kvm/progress"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is an OVF package of a VM with two disks, and where it is converted to.
type bench struct {
	t     *testing.T
	dir   string // of the package
	out   string
	right []string // raw files with what the disks hold
	names []string // of the package's files, in the order of an OVA
}

// newBench makes the package, with disks of a kind that qemu-img makes.
func newBench(t *testing.T, shape string) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir(), out: filepath.Join(t.TempDir(), "out"), names: []string{"erp.ovf"}}
	var files, disks, devices strings.Builder
	for i, size := range []int64{3<<20 + 512, 1 << 20} {
		raw := filepath.Join(t.TempDir(), "right.raw")
		disktest.WriteRaw(t, raw, disktest.Content(uint64(i)+20, size, 5))
		b.right = append(b.right, raw)
		name := fmt.Sprintf("erp-disk%d.vmdk", i+1)
		disktest.QemuImg(t, "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat="+shape, raw, b.path(name))
		b.names = append(b.names, name)
		fmt.Fprintf(&files, `<File ovf:href="%s" ovf:id="file%d" ovf:size="%d"/>`, name, i, len(disktest.ReadFile(t, b.path(name))))
		fmt.Fprintf(&disks, `<Disk ovf:capacity="%d" ovf:diskId="d%d" ovf:fileRef="file%d"/>`, size, i, i)
		// The second disk is the first device.
		fmt.Fprintf(&devices, `<Item><rasd:AddressOnParent>%d</rasd:AddressOnParent><rasd:ElementName>x</rasd:ElementName><rasd:HostResource>ovf:/disk/d%d</rasd:HostResource><rasd:InstanceID>%d</rasd:InstanceID><rasd:Parent>3</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType></Item>`, 1-i, 1-i, 7+i)
	}
	b.right[0], b.right[1] = b.right[1], b.right[0]
	b.write("erp.ovf", `<?xml version="1.0"?><Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:vmw="http://www.vmware.com/schema/ovf" xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData">
<References>`+files.String()+`</References><DiskSection><Info/>`+disks.String()+`</DiskSection>
<NetworkSection><Info/><Network ovf:name="DMZ"/></NetworkSection>
<VirtualSystem ovf:id="erp"><Info/><Name>erp/1</Name><OperatingSystemSection ovf:id="96" vmw:osType="debian12_64Guest"><Info/><Description>Debian 12</Description></OperatingSystemSection>
<AnnotationSection><Info/><Annotation>the old one</Annotation></AnnotationSection><VirtualHardwareSection><Info/>
<Item><rasd:AllocationUnits>hertz * 10^6</rasd:AllocationUnits><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>4</rasd:VirtualQuantity><vmw:CoresPerSocket ovf:required="false">2</vmw:CoresPerSocket></Item>
<Item><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>2048</rasd:VirtualQuantity></Item>
<Item><rasd:Address>1</rasd:Address><rasd:InstanceID>3</rasd:InstanceID><rasd:ResourceSubType>VirtualSCSI</rasd:ResourceSubType><rasd:ResourceType>6</rasd:ResourceType></Item>
<Item><rasd:Address>005056aabbcc</rasd:Address><rasd:Connection>DMZ</rasd:Connection><rasd:InstanceID>4</rasd:InstanceID><rasd:ResourceSubType>VmxNet3</rasd:ResourceSubType><rasd:ResourceType>10</rasd:ResourceType></Item>`+
		devices.String()+`<vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="efi"/><vmw:Config ovf:required="false" vmw:key="cpuHotAddEnabled" vmw:value="true"/><vmw:Config ovf:required="false" vmw:key="memoryHotAddEnabled" vmw:value="true"/></VirtualHardwareSection></VirtualSystem></Envelope>`)
	return b
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

func (b *bench) write(name, text string) {
	b.t.Helper()
	if err := os.WriteFile(b.path(name), []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// manifest writes a manifest with hashes of a kind.
func (b *bench) manifest(a ova.Algorithm) {
	b.t.Helper()
	var text strings.Builder
	for _, name := range b.names {
		h := map[ova.Algorithm]func() hash.Hash{ova.SHA1: sha1.New, ova.SHA256: sha256.New, ova.SHA512: sha512.New}[a]()
		h.Write(disktest.ReadFile(b.t, b.path(name)))
		fmt.Fprintf(&text, "%s(%s)= %x\n", a, name, h.Sum(nil))
	}
	b.write("erp.mf", text.String())
	b.names = append(b.names[:1:1], append([]string{"erp.mf"}, b.names[1:]...)...)
}

// pack makes an OVA of the package and returns its path.
func (b *bench) pack() string {
	b.t.Helper()
	args := append([]string{"--format=ustar", "-C", b.dir, "-cf", b.path("erp.ova")}, b.names...)
	if out, err := exec.Command("tar", args...).CombinedOutput(); err != nil {
		b.t.Fatalf("tar: %v\n%s", err, out)
	}
	return b.path("erp.ova")
}

// run converts a file of the package.
func (b *bench) run(ctx context.Context, name string, change func(*convert.Options)) (job.Result, error) {
	o := convert.Options{Source: b.path(name), Output: b.out, Format: job.FormatQcow2}
	if change != nil {
		change(&o)
	}
	return convert.Run(ctx, o, progress.New())
}

// convert is run that must succeed.
func (b *bench) convert(name string, change func(*convert.Options)) job.Result {
	b.t.Helper()
	result, err := b.run(b.t.Context(), name, change)
	if err != nil {
		b.t.Fatalf("convert %s: %v", name, err)
	}
	return result
}

// identical holds the images against what the disks hold.
func (b *bench) identical(result job.Result, right ...string) {
	b.t.Helper()
	if len(result.Disks) != len(right) {
		b.t.Fatalf("%d disks landed, want %d", len(result.Disks), len(right))
	}
	for i, d := range result.Disks {
		disktest.Judge(b.t, strings.TrimPrefix(filepath.Ext(d.File), "."), d.File, right[i])
	}
}

// left lists what is in the output directory.
func (b *bench) left() []string {
	entries, err := os.ReadDir(b.out)
	if err != nil && !os.IsNotExist(err) {
		b.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestAnOVFPackageOfAnyShapeBecomesTheSameDisksAndADomain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		shape, file string
		sum         ova.Algorithm
		verified    job.Verification
		change      func(*convert.Options)
	}{
		{"streamOptimized", "erp.ova", ova.SHA256, job.ByManifest, nil},
		{"streamOptimized", "erp.ova", ova.SHA1, job.ByManifest, func(o *convert.Options) { o.Compress = true }},
		{"streamOptimized", "erp.ovf", ova.SHA512, job.ByManifest, func(o *convert.Options) { o.Format = job.FormatRaw }},
		{"streamOptimized", "erp.ova", "", job.ByGrains, nil},
		{"monolithicSparse", "erp.ova", ova.SHA256, job.ByManifest, nil},
		{"monolithicSparse", "erp.ovf", "", job.BySize, func(o *convert.Options) { o.Compress = true }},
		{"monolithicFlat", "erp.ovf", ova.SHA1, job.BySize, nil}, // the manifest does not list the content
		{"twoGbMaxExtentSparse", "erp.ovf", "", job.BySize, nil},
	} {
		t.Run(c.shape+" "+c.file+" "+string(c.sum), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, c.shape)
			if c.sum != "" {
				b.manifest(c.sum)
			}
			b.pack()
			result := b.convert(c.file, c.change)
			b.identical(result, b.right...)
			for _, d := range result.Disks {
				if d.Verified != c.verified || d.Transport != job.FromFile {
					t.Errorf("%s is verified by %s, want %s", d.File, d.Verified, c.verified)
				}
			}
			b.domain(result)
			if got := strings.Join(b.left(), " "); strings.Contains(got, ".part") || strings.Contains(got, ".hyper2kvm") || len(b.left()) != 4 {
				t.Errorf("left in the directory: %s", got)
			}
		})
	}
}

// domain looks whether the domain is the VM of the package.
func (b *bench) domain(result job.Result) {
	b.t.Helper()
	text := disktest.ReadFile(b.t, result.DomainXML)
	for _, want := range []string{
		"<name>erp-1</name>", "the old one", `<memory unit="MiB">2048</memory>`, `<topology sockets="8" cores="2" threads="1">`, "debian/12",
		`<vcpu placement="static" current="4">16</vcpu>`, `<maxMemory unit="MiB" slots="16">8192</maxMemory>`,
		`firmware="efi"`, `<mac address="00:50:56:aa:bb:cc">`, `<model type="vmxnet3">`, `model="vmpvscsi"`, filepath.Base(result.Disks[0].File),
	} {
		if !bytes.Contains(text, []byte(want)) {
			b.t.Errorf("the domain lacks %s:\n%s", want, text)
		}
	}
}

func TestASingleVMDKOfAnyShapeBecomesAnImage(t *testing.T) {
	t.Parallel()
	for _, shape := range []string{"streamOptimized", "monolithicSparse", "monolithicFlat", "twoGbMaxExtentFlat"} {
		b := newBench(t, shape)
		result := b.convert("erp-disk1.vmdk", nil)
		b.identical(result, b.right[1])
		if result.DomainXML != "" || len(result.Files) != 1 {
			t.Errorf("%s: %+v", shape, result)
		}
	}
}

func TestTheSameRunAgainIsASuccessThatDoesNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t, "streamOptimized")
	b.manifest(ova.SHA256)
	b.pack()
	first := b.convert("erp.ova", nil)
	before, err := os.Stat(first.Disks[0].File)
	if err != nil {
		t.Fatal(err)
	}
	again := b.convert("erp.ova", nil)
	after, err := os.Stat(first.Disks[0].File)
	if err != nil {
		t.Fatal(err)
	}
	if !again.Earlier || !os.SameFile(before, after) || after.ModTime() != before.ModTime() {
		t.Errorf("the second run gives %+v", again)
	}
	// Anything else is refused, and replaced when asked for.
	raw := func(o *convert.Options) { o.Compress = true }
	if _, err := b.run(t.Context(), "erp.ova", raw); !errors.Is(err, workdir.ErrExists) || migrate.Hint(err) == "" {
		t.Errorf("other options give %v, want that it is there already", err)
	}
	if got := len(b.left()); got != 4 {
		t.Errorf("%d files are left after a refusal: %v", got, b.left())
	}
	replaced := b.convert("erp.ova", func(o *convert.Options) { o.Compress, o.Overwrite = true, true })
	b.identical(replaced, b.right...)
	// So is another file of the same name.
	b.write("erp.ova", string(disktest.ReadFile(t, b.path("erp.ova")))+strings.Repeat("\x00", 512))
	if _, err := b.run(t.Context(), "erp.ova", raw); !errors.Is(err, workdir.ErrExists) {
		t.Errorf("another file gives %v, want that it is there already", err)
	}
}

func TestARunThatAnEarlierVersionFinishedTellsOfTheLandingKitThatItDidNotWrite(t *testing.T) {
	t.Parallel()
	b := newBench(t, "streamOptimized")
	libvirt := func(o *convert.Options) { o.For = "libvirt,proxmox" }
	first := b.convert("erp.ovf", libvirt)
	if again := b.convert("erp.ovf", libvirt); !again.Earlier || len(again.Notes) != len(first.Notes) {
		t.Errorf("with all that is asked for, it says %v", again.Notes)
	}
	stem := strings.TrimSuffix(first.DomainXML, ".xml")
	script, receipt := stem+".libvirt.sh", stem+".export.json"
	var all map[string]any
	if err := json.Unmarshal(disktest.ReadFile(t, receipt), &all); err != nil {
		t.Fatal(err)
	}
	files := all["files"].([]any)
	all["files"] = slices.DeleteFunc(files, func(f any) bool { return f.(map[string]any)["name"] == filepath.Base(script) })
	text, err := json.Marshal(all)
	if err == nil {
		err = errors.Join(os.WriteFile(receipt, text, 0o600), os.Remove(script))
	}
	if err != nil {
		t.Fatal(err)
	}
	again := b.convert("erp.ovf", libvirt)
	if n := len(again.Notes); !again.Earlier || n != len(first.Notes)+1 || !strings.Contains(again.Notes[n-1], script) || !strings.Contains(again.Notes[n-1], "-overwrite") {
		t.Errorf("it says %v", again.Notes)
	}
}

func TestAnotherDescriptorIsAnotherSource(t *testing.T) {
	t.Parallel()
	b := newBench(t, "streamOptimized")
	b.convert("erp.ovf", nil)
	text := string(disktest.ReadFile(t, b.path("erp.ovf")))
	b.write("erp.ovf", strings.Replace(text, ">2048<", ">4096<", 1)+"\n")
	if _, err := b.run(t.Context(), "erp.ovf", nil); !errors.Is(err, workdir.ErrExists) {
		t.Errorf("the error is %v, want that it is there already", err)
	}
	result := b.convert("erp.ovf", func(o *convert.Options) { o.Overwrite = true })
	if text := disktest.ReadFile(t, result.DomainXML); !bytes.Contains(text, []byte(">4096<")) {
		t.Errorf("the domain is not that of the new descriptor:\n%s", text)
	}
}

func TestAnExportOfAVMIsNotReplacedByAFile(t *testing.T) {
	t.Parallel()
	b := newBench(t, "streamOptimized")
	if err := os.MkdirAll(b.out, 0o700); err != nil {
		t.Fatal(err)
	}
	receipt := filepath.Join(b.out, "erp_1.export.json")
	if err := os.WriteFile(receipt, []byte(`{"vm_path": "/DC/vm/erp", "instance_uuid": "5034"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := b.run(t.Context(), "erp.ovf", func(o *convert.Options) { o.Overwrite = true })
	if !errors.Is(err, workdir.ErrExists) || !strings.Contains(err.Error(), "/DC/vm/erp") || migrate.Hint(err) == "" {
		t.Errorf("the error is %v, want one that names the VM", err)
	}
	if left := b.left(); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
}

func TestADiskThatIsNotWhatTheManifestSaysHasNoFinalName(t *testing.T) {
	t.Parallel()
	for _, shape := range []string{"streamOptimized", "monolithicSparse"} {
		b := newBench(t, shape)
		b.manifest(ova.SHA256)
		text := string(disktest.ReadFile(t, b.path("erp.mf")))
		lines := strings.Split(text, "\n")
		lines[1] = lines[1][:len(lines[1])-4] + "0000"
		b.write("erp.mf", strings.Join(lines, "\n"))
		b.pack()
		_, err := b.run(t.Context(), "erp.ova", nil)
		if !errors.Is(err, migrate.ErrVerify) || !strings.Contains(err.Error(), "erp-disk1.vmdk") || migrate.Hint(err) == "" {
			t.Errorf("%s: the error is %v, want that verification failed", shape, err)
		}
		for _, name := range b.left() {
			if !strings.HasPrefix(name, ".hyper2kvm-") {
				t.Errorf("%s: %s is left", shape, name)
			}
		}
	}
}

func TestADamagedGrainIsAnErrorOfItsDisk(t *testing.T) {
	t.Parallel()
	b := newBench(t, "streamOptimized")
	data := disktest.ReadFile(t, b.path("erp-disk2.vmdk"))
	data[len(data)/2] ^= 0xff
	b.write("erp-disk2.vmdk", string(data))
	b.pack()
	for _, compress := range []bool{false, true} {
		_, err := b.run(t.Context(), "erp.ova", func(o *convert.Options) { o.Compress = compress })
		if !errors.Is(err, disk.ErrCorrupt) || !errors.Is(err, migrate.ErrVerify) || !strings.Contains(err.Error(), "erp-disk2.vmdk: VMDK at byte ") {
			t.Errorf("the error is %v, want one that names the disk and the place", err)
		}
	}
}

func TestARunThatIsBrokenOffGoesOnWithTheDisksThatAreNotFinished(t *testing.T) {
	t.Parallel()
	b := newBench(t, "streamOptimized")
	name := b.path("erp-disk1.vmdk") // the second one of the VM
	right := disktest.ReadFile(t, name)
	written, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	put := func(data []byte) { // so that nothing tells of it but the content
		b.write("erp-disk1.vmdk", string(data))
		if err := os.Chtimes(name, written.ModTime(), written.ModTime()); err != nil {
			t.Fatal(err)
		}
	}
	wrong := bytes.Clone(right)
	wrong[len(wrong)/2] ^= 0xff
	put(wrong)
	if _, err := b.run(t.Context(), "erp.ovf", nil); !errors.Is(err, disk.ErrCorrupt) {
		t.Fatalf("the error is %v, want that of the second disk", err)
	}
	if left := b.left(); len(left) != 1 || !strings.HasPrefix(left[0], ".hyper2kvm-") {
		t.Errorf("left: %v, want the work directory alone", left)
	}
	put(right)
	result := b.convert("erp.ovf", nil)
	if !result.Disks[0].Resumed || result.Disks[1].Resumed {
		t.Error("the disk that was finished was made again, or the other one was not")
	}
	b.identical(result, b.right...)
	if len(b.left()) != 4 {
		t.Errorf("left: %v", b.left())
	}
}

func TestAConversionThatIsCancelledBeforeItsFirstDiskLeavesNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t, "streamOptimized")
	b.pack()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.run(ctx, "erp.ova", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	if left := b.left(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestWhatIsNoDiskIsRefusedInWords(t *testing.T) {
	t.Parallel()
	b := newBench(t, "streamOptimized")
	b.write("notes.txt", "hello")
	b.write("empty.vmdk", "")
	b.write("evil.vmdk", "# Disk DescriptorFile\nRW 1 FLAT \"/etc/shadow\" 0\n")
	for name, says := range map[string]string{
		"notes.txt": "not a VMDK", "empty.vmdk": "not a VMDK", "none.ova": "no such file", ".": "is a directory", "evil.vmdk": "/etc/shadow",
	} {
		_, err := b.run(t.Context(), name, nil)
		if err == nil || !strings.Contains(err.Error(), says) || !migrate.Permanent(err) {
			t.Errorf("%s gives %v, want %q", name, err, says)
		}
	}
	if left := b.left(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestADescriptorThatDescribesTooLittleGivesTheDisksAlone(t *testing.T) {
	t.Parallel()
	b := newBench(t, "streamOptimized")
	text := string(disktest.ReadFile(t, b.path("erp.ovf")))
	b.write("erp.ovf", strings.Replace(text, "<rasd:ResourceType>4<", "<rasd:ResourceType>1<", 1))
	result := b.convert("erp.ovf", nil)
	b.identical(result, b.right...)
	if result.DomainXML != "" || !strings.Contains(strings.Join(result.Notes, "\n"), "no libvirt domain") {
		t.Errorf("%+v", result)
	}
}

// A disk that the descriptor has without a file is an empty one.
func TestADiskWithoutAFileIsEmpty(t *testing.T) {
	t.Parallel()
	b := newBench(t, "streamOptimized")
	text := string(disktest.ReadFile(t, b.path("erp.ovf")))
	b.write("erp.ovf", strings.Replace(text, ` ovf:fileRef="file1"`, "", 1))
	result := b.convert("erp.ovf", nil)
	empty := filepath.Join(t.TempDir(), "empty.raw")
	disktest.WriteRaw(t, empty, make([]byte, 1<<20))
	b.identical(result, empty, b.right[1])
}
