package vspheretest_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/vmware/govmomi/ovf"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

func convert(t *testing.T, raw, vmdk string) {
	t.Helper()
	out, err := exec.Command("qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", raw, vmdk).CombinedOutput()
	if err != nil {
		t.Fatalf("qemu-img convert: %v\n%s", err, out)
	}
}

func TestTheManifestHasWhatWasSentInFull(t *testing.T) {
	t.Parallel()
	disks := []vspheretest.Disk{{Path: rawDisk(t, 3*mib, mib, 0)}, {Path: rawDisk(t, 2*mib, kib, 0)}}
	srv := vspheretest.Start(t, vspheretest.Config{
		VMs:    []vspheretest.VM{{Name: "guest1", Disks: disks}},
		Faults: []string{"truncate:at=64KiB,disk=0"},
	})
	c := connect(t, srv)
	lease, info := c.export("guest1")
	urls := diskURLs(info)
	manifest := func() []types.HttpNfcLeaseManifestEntry {
		t.Helper()
		m, err := lease.GetManifest(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	get(t, urls[0])
	if m := manifest(); len(m) != 0 {
		t.Errorf("after a truncated transfer: %+v", m)
	}
	req := &types.HttpNfcLeaseSetManifestChecksumType{This: lease.Reference()}
	for _, d := range info.DeviceUrl {
		req.DeviceUrlsToChecksumTypes = append(req.DeviceUrlsToChecksumTypes, types.KeyValue{Key: d.Key, Value: "sha256"})
	}
	if _, err := methods.HttpNfcLeaseSetManifestChecksumType(t.Context(), c.Client.Client, req); err != nil {
		t.Fatal(err)
	}
	get(t, urls[0])
	get(t, urls[1])
	m := manifest()
	if len(m) != 2 {
		t.Fatalf("manifest: %+v", m)
	}
	for i, e := range m {
		s := srv.Stream("guest1", i)
		if e.Key != info.DeviceUrl[i].Key || e.Sha1 != s.SHA1 || e.Size != s.Size || e.Capacity != s.Capacity || !e.Disk || e.PopulatedSize == 0 {
			t.Errorf("entry %d: %+v, want %+v", i, e, s)
		}
	}
	if m[0].Checksum != "" { // asked for after its transfer had begun
		t.Errorf("disk 0 has a checksum of type %q", m[0].ChecksumType)
	}
	if m[1].ChecksumType != "sha256" || m[1].Checksum != srv.Stream("guest1", 1).SHA256 {
		t.Errorf("disk 1: %+v", m[1])
	}
}

func TestTheManifestHasADiskWhoseRangesWereCut(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, func(c *vspheretest.Config) { c.Profile, c.Faults = vspheretest.Ranged, []string{"cut:at=1MiB"} })
	lease, info := connect(t, srv).export("guest1")
	url := diskURLs(info)[0]
	if a := get(t, url); a.err == nil {
		t.Fatal("it was not cut")
	}
	if m, err := lease.GetManifest(t.Context()); err != nil || len(m) != 0 {
		t.Errorf("after the cut: %+v, %v", m, err)
	}
	get(t, url, "Range", "bytes=1048576-")
	if m, err := lease.GetManifest(t.Context()); err != nil || len(m) != 1 {
		t.Errorf("after the rest: %+v, %v", m, err)
	}
}

func TestTheDescriptorHasTheVMsHardwareAndTheFilesThatWereWritten(t *testing.T) {
	t.Parallel()
	path := rawDisk(t, 3*mib, mib, 0)
	srv := vspheretest.Start(t, vspheretest.Config{VMs: []vspheretest.VM{{
		Name: "a<b>&\"c\"", CPUs: 4, CoresPerSocket: 2, MemoryMiB: 2048, EFI: true, SecureBoot: true,
		GuestID: "debian12_64Guest", NVRAM: []byte("n"), ISO: []byte("i"),
		Disks: []vspheretest.Disk{
			{Path: path}, {Path: path, Controller: vspheretest.SATA}, {Path: path, Controller: vspheretest.NVMe},
			{Path: path, Controller: vspheretest.LSILogicSAS}, {Path: path, Controller: vspheretest.IDE},
		},
		NICs: []vspheretest.NIC{{MAC: "00:50:56:00:00:01"}, {Type: "e1000e"}},
	}}})
	c := connect(t, srv)
	vm := c.vm(`a<b>&"c"`)
	_, info := c.export(`a<b>&"c"`)
	params := types.OvfCreateDescriptorParams{ExportOption: []string{"mac"}}
	for i, d := range info.DeviceUrl {
		params.OvfFiles = append(params.OvfFiles, types.OvfFile{DeviceId: d.Key, Path: "f" + d.TargetId, Size: int64(1000 + i)})
	}
	res, err := ovf.NewManager(c.Client.Client).CreateDescriptor(t.Context(), vm, params)
	if err != nil {
		t.Fatal(err)
	}
	e, err := ovf.Unmarshal(strings.NewReader(res.OvfDescriptor))
	if err != nil {
		t.Fatalf("%v\n%s", err, res.OvfDescriptor)
	}
	if len(e.References) != 7 || len(e.Disk.Disks) != 5 || len(e.Network.Networks) != 1 {
		t.Errorf("%d files, %d disks, %d networks", len(e.References), len(e.Disk.Disks), len(e.Network.Networks))
	}
	for _, d := range e.Disk.Disks {
		if d.Capacity != "3145728" || d.FileRef == nil {
			t.Errorf("disk %+v", d)
		}
	}
	for _, want := range []string{
		`<Name>a&lt;b&gt;&amp;&#34;c&#34;</Name>`, `vmw:key="firmware" vmw:value="efi"`, `efiSecureBootEnabled" vmw:value="true"`,
		`vmw:key="nvram" vmw:value="ovf:/file/file7"`, `<rasd:Address>00:50:56:00:00:01</rasd:Address>`,
		`vmware.sata.ahci`, `vmware.nvme.controller`, `lsilogicsas`, `<rasd:ResourceSubType>VirtualSCSI<`,
		`<vmw:CoresPerSocket ovf:required="false">2</vmw:CoresPerSocket>`, `ovf:size="1001"`, `ovf:id="96"`,
	} {
		if !strings.Contains(res.OvfDescriptor, want) {
			t.Errorf("the descriptor has no %s", want)
		}
	}
	if t.Failed() {
		t.Log(res.OvfDescriptor)
	}

	params.OvfFiles = params.OvfFiles[1:3] // the image and three disks were not exported
	if res, err = ovf.NewManager(c.Client.Client).CreateDescriptor(t.Context(), vm, params); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(res.OvfDescriptor, "<Disk "); got != 2 {
		t.Errorf("%d disks in the descriptor of two", got)
	}
}

func TestADescriptorWithoutFilesHasPlaceholders(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, nil)
	c := connect(t, srv)
	res, err := ovf.NewManager(c.Client.Client).CreateDescriptor(t.Context(), c.vm("guest1"), types.OvfCreateDescriptorParams{})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(res.OvfDescriptor, `ovf:size="0"`) {
		t.Errorf("no file of size 0:\n%s", res.OvfDescriptor)
	}
}
