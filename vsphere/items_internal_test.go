package vsphere

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyper2kvm/hyper2kvm/transfer"
)

func TestDeviceURLsAreReadAsHostsWriteThem(t *testing.T) {
	t.Parallel()
	service := &url.URL{Scheme: "https", Host: "esx.example.com:8443", Path: "/sdk"}
	for in, want := range map[string]string{
		"https://esx1/nfc/52a-uuid/disk-0.vmdk":                   "https://esx1/nfc/52a-uuid/disk-0.vmdk",
		"https://*/ha-nfc/52a/disk-0.vmdk":                        "https://esx.example.com:8443/ha-nfc/52a/disk-0.vmdk",
		"https://*:443/ha-nfc/52a/disk-0.vmdk":                    "https://esx.example.com:8443/ha-nfc/52a/disk-0.vmdk",
		"https://[fd00::1]:443/nfc/a/disk-0.vmdk":                 "https://[fd00::1]:443/nfc/a/disk-0.vmdk",
		"https://esx1/nfc/a/My VM.nvram":                          "https://esx1/nfc/a/My%20VM.nvram",
		"https://esx1/nfc/a/My%20VM.nvram":                        "https://esx1/nfc/a/My%20VM.nvram",
		"https://esx1/nfc/a/100% #1.nvram":                        "https://esx1/nfc/a/100%25%20%231.nvram",
		"https://esx1/nfc/a/why?.nvram":                           "https://esx1/nfc/a/why%3F.nvram",
		"https://esx1/nfc/a/disk-0.vmdk?ticket=52-ab&x=1":         "https://esx1/nfc/a/disk-0.vmdk?ticket=52-ab&x=1",
		`https://esx1/nfc/a/"Müller" & 名.nvram`:                   "https://esx1/nfc/a/%22M%C3%BCller%22%20&%20%E5%90%8D.nvram",
		"HTTPS://user:secret@esx1/nfc/a/disk-0.vmdk":              "https://esx1/nfc/a/disk-0.vmdk",
		"http://esx1:8080/nfc/a/a%2fb.vmdk":                       "http://esx1:8080/nfc/a/a%2fb.vmdk",
		"https://esx1/nfc/a/x;y=1,2+3.nvram":                      "https://esx1/nfc/a/x;y=1,2+3.nvram",
		"https://esx1/nfc/a/trailing percent%":                    "https://esx1/nfc/a/trailing%20percent%25",
		"https://esx1/nfc/a/%zz%2":                                "https://esx1/nfc/a/%25zz%252",
		"https://esx1/nfc/a/back\\slash.nvram":                    "https://esx1/nfc/a/back%5Cslash.nvram",
		"https://esx1:443/nfc/a/two  spaces and [brackets].nvram": "https://esx1:443/nfc/a/two%20%20spaces%20and%20%5Bbrackets%5D.nvram",
	} {
		u, err := parseDeviceURL(in, service)
		if err != nil || u.String() != want {
			t.Errorf("%s\ngives %v, %v\nwant  %s", in, u, err, want)
		}
	}
	for _, in := range []string{"", "nonsense", "ftp://esx1/a", "https://", "https:///a", "https://esx1", "https://es x1/a", "https://[::1/a", "https://?/a"} {
		if u, err := parseDeviceURL(in, service); err == nil {
			t.Errorf("%q gives %v", in, u)
		}
	}
}

func TestDeviceKeysNameAPlaceOnAController(t *testing.T) {
	t.Parallel()
	type place struct {
		Family    string
		Bus, Unit int
		OK        bool
	}
	for key, want := range map[string]place{
		"/vm-12/VirtualLsiLogicController0:0":                    {"scsi", 0, 0, true},
		"/vm-12/VirtualLsiLogicSASController1:15":                {"scsi", 1, 15, true},
		"/vm-12/ParaVirtualSCSIController3:2":                    {"scsi", 3, 2, true},
		"/vm-12/VirtualBusLogicController0:1":                    {"scsi", 0, 1, true},
		"/vm-12/VirtualIDEController1:0":                         {"ide", 1, 0, true},
		"/vm-12/VirtualAHCIController0:29":                       {"sata", 0, 29, true},
		"/vm-12/VirtualSATAController0:0":                        {"sata", 0, 0, true},
		"/vm-12/VirtualNVMEController2:7":                        {"nvme", 2, 7, true},
		"VirtualNVMEController0:0":                               {"nvme", 0, 0, true},
		"/vm-12/nvram":                                           {},
		"/vm-12/disk:0":                                          {},
		"/vm-12/VirtualUSBController0:0":                         {},
		"/vm-12/ParaVirtualSCSIController0:99999999999999999999": {"scsi", 0, 0, false},
		"": {},
	} {
		var got place
		got.Family, got.Bus, got.Unit, got.OK = parseDeviceKey(key)
		if got.OK != want.OK || got.OK && got != want {
			t.Errorf("%q gives %+v, want %+v", key, got, want)
		}
	}
}

// offered is a device URL with what a test cares about.
func offered(key, name string, disk *bool) types.HttpNfcLeaseDeviceUrl {
	return types.HttpNfcLeaseDeviceUrl{Key: key, Url: "https://esx1/nfc/uuid/" + name, Disk: disk}
}

func TestItemsAreMatchedWithDisks(t *testing.T) {
	t.Parallel()
	yes, no := true, false
	disks := []Disk{
		{Key: 2000, Controller: PVSCSI, Bus: 0, Unit: 0, Capacity: 100},
		{Key: 2001, Controller: PVSCSI, Bus: 0, Unit: 1, Capacity: 200},
		{Key: 16000, Controller: SATA, Bus: 0, Unit: 1, Capacity: 300},
	}
	for name, tc := range map[string]struct {
		urls []types.HttpNfcLeaseDeviceUrl
		want []int32 // DiskKey of each item, -1 for an item that is no disk
	}{
		"by their place, whatever the order": {[]types.HttpNfcLeaseDeviceUrl{
			offered("/vm-1/VirtualAHCIController0:1", "disk-0.vmdk", &yes),
			offered("/vm-1/ParaVirtualSCSIController0:1", "disk-1.vmdk", &yes),
			offered("/vm-1/ParaVirtualSCSIController0:0", "disk-2.vmdk", &yes),
		}, []int32{16000, 2001, 2000}},
		"by order where keys say nothing": {[]types.HttpNfcLeaseDeviceUrl{
			offered("/vm-1/disk:0", "a.vmdk", &yes), offered("/vm-1/disk:1", "b.vmdk", &yes), offered("/vm-1/disk:2", "c.vmdk", &yes),
		}, []int32{2000, 2001, 16000}},
		"by both": {[]types.HttpNfcLeaseDeviceUrl{
			offered("/vm-1/what", "a.vmdk", &yes), offered("/vm-1/ParaVirtualSCSIController0:0", "b.vmdk", &yes), offered("/vm-1/ever", "c.vmdk", &yes),
		}, []int32{2001, 2000, 16000}},
		"the only one that is left": {[]types.HttpNfcLeaseDeviceUrl{
			offered("/vm-1/what", "a.vmdk", &yes), offered("/vm-1/ParaVirtualSCSIController0:0", "b.vmdk", &yes), offered("/vm-1/VirtualAHCIController0:1", "c.vmdk", &yes),
		}, []int32{2001, 2000, 16000}},
		"not at all rather than wrongly": {[]types.HttpNfcLeaseDeviceUrl{
			offered("/vm-1/what", "a.vmdk", &yes), offered("/vm-1/ParaVirtualSCSIController0:0", "b.vmdk", &yes),
		}, []int32{0, 2000}},
		"images and nvram left out": {[]types.HttpNfcLeaseDeviceUrl{
			offered("/vm-1/VirtualIDEController1:0", "disk-0.iso", &no),
			offered("/vm-1/ParaVirtualSCSIController0:0", "disk-1.vmdk", &yes),
			offered("/vm-1/nvram", "disk-2.nvram", &no),
		}, []int32{-1, 2000, -1}},
		"without the flag": {[]types.HttpNfcLeaseDeviceUrl{
			offered("/vm-1/VirtualIDEController1:0", "disk-0.iso", nil),
			offered("/vm-1/ParaVirtualSCSIController0:1", "disk-1.vmdk", nil),
			offered("/vm-1/nvram", "disk-2.nvram", nil),
		}, []int32{-1, 2001, -1}},
	} {
		items, files, err := readItems(tc.urls, disks, &url.URL{Host: "vc"})
		if err != nil || len(files) != len(tc.urls) {
			t.Errorf("%s: %d files, %v", name, len(files), err)
			continue
		}
		var got []int32
		for _, item := range items {
			key := item.DiskKey
			if !item.Disk {
				key = -1
			}
			got = append(got, key)
			for _, d := range disks {
				if d.Key == item.DiskKey && d.Capacity != item.Capacity {
					t.Errorf("%s: capacity %d of disk %d", name, item.Capacity, d.Key)
				}
			}
		}
		if d := cmp.Diff(tc.want, got); d != "" {
			t.Errorf("%s: (-want +got)\n%s", name, d)
		}
	}
}

func TestDisksOfASizeAreNotTakenForEachOther(t *testing.T) {
	t.Parallel()
	yes := true
	disks := []Disk{
		{Key: 2000, Label: "Hard disk 1", Controller: PVSCSI, Unit: 0, Capacity: 100},
		{Key: 2001, Label: "Hard disk 2", Controller: PVSCSI, Unit: 1, Capacity: 200},
		{Key: 2002, Label: "Hard disk 3", Controller: PVSCSI, Unit: 2, Capacity: 100},
	}
	lease := func(keys ...string) *Lease {
		var urls []types.HttpNfcLeaseDeviceUrl
		for i, key := range keys {
			urls = append(urls, offered(key, string(rune('a'+i))+".vmdk", &yes))
		}
		items, files, err := readItems(urls, disks, &url.URL{Host: "vc"})
		if err != nil {
			t.Fatal(err)
		}
		return &Lease{on: "/DC/vm/web", items: items, files: files}
	}
	l := lease("/vm-1/one", "/vm-1/two", "/vm-1/three")
	for _, d := range disks {
		item, err := l.Disk(d)
		if !errors.Is(err, ErrNotExportable) || !strings.Contains(err.Error(), "/vm-1/two") || !strings.Contains(err.Error(), d.Label) {
			t.Errorf("%s is item %+v, error %v", d.Label, item, err)
		}
	}
	l = lease("/vm-1/one", "/vm-1/ParaVirtualSCSIController0:2", "/vm-1/three") // what is left differs in size
	for _, d := range disks {
		item, err := l.Disk(d)
		if err != nil || item.DiskKey != d.Key || item.Capacity != d.Capacity || item.Assumed != (d.Key != 2002) {
			t.Errorf("%s is item %+v, error %v", d.Label, item, err)
		}
	}
	l = lease("/vm-1/ParaVirtualSCSIController0:0", "/vm-1/ParaVirtualSCSIController0:1", "/vm-1/three") // one place is left
	if item, err := l.Disk(disks[2]); err != nil || item.Assumed {
		t.Errorf("the last disk is item %+v, error %v", item, err)
	}
}

func TestItemNamesAreSafeAndDifferent(t *testing.T) {
	t.Parallel()
	urls := []types.HttpNfcLeaseDeviceUrl{
		{Key: "1", Url: "https://h/nfc/a/disk-0.vmdk", TargetId: "disk-0.vmdk"},
		{Key: "2", Url: "https://h/nfc/a/disk-0.vmdk", TargetId: "DISK-0.vmdk"},
		{Key: "3", Url: "https://h/nfc/a/..", TargetId: "../../etc/passwd"},
		{Key: "4", Url: "https://h/nfc/a/..", TargetId: ".."},
		{Key: "5", Url: "https://h/nfc/a/x", TargetId: "a\x1b[2J\\b:c.nvram"},
		{Key: "6", Url: "https://h/nfc/a/" + strings.Repeat("ü", 300) + ".nvram"},
	}
	items, _, err := readItems(urls, nil, &url.URL{Host: "vc"})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, item := range items {
		n := item.Name
		if n == "" || seen[strings.ToLower(n)] || strings.ContainsAny(n, "/\\:\x1b") || strings.HasPrefix(n, ".") || len(n) > 200 {
			t.Errorf("name %q", n)
		}
		seen[strings.ToLower(n)] = true
	}
}

func TestALeaseThatMakesNoSenseIsAnError(t *testing.T) {
	t.Parallel()
	for name, urls := range map[string][]types.HttpNfcLeaseDeviceUrl{
		"nothing in it": nil,
		"no key":        {offered("", "a.vmdk", nil)},
		"one key twice": {offered("k", "a.vmdk", nil), offered("k", "b.vmdk", nil)},
		"no URL":        {{Key: "k"}},
	} {
		if _, _, err := readItems(urls, nil, &url.URL{Host: "vc"}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestManifestEntriesTakeTheChecksumThatIsThere(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		in   types.HttpNfcLeaseManifestEntry
		want ManifestEntry
	}{
		"sha1 only":            {types.HttpNfcLeaseManifestEntry{Sha1: "AB"}, ManifestEntry{Algorithm: "sha1", Sum: "ab"}},
		"sha256 wins":          {types.HttpNfcLeaseManifestEntry{Sha1: "ab", Checksum: "CD", ChecksumType: "sha256"}, ManifestEntry{Algorithm: "sha256", Sum: "cd"}},
		"SHA-256 spelled so":   {types.HttpNfcLeaseManifestEntry{Checksum: "cd", ChecksumType: "SHA-256"}, ManifestEntry{Algorithm: "sha256", Sum: "cd"}},
		"an unknown algorithm": {types.HttpNfcLeaseManifestEntry{Sha1: "ab", Checksum: "cd", ChecksumType: "md9"}, ManifestEntry{Algorithm: "sha1", Sum: "ab"}},
		"none":                 {types.HttpNfcLeaseManifestEntry{Size: 3}, ManifestEntry{Size: 3}},
	} {
		if got := manifestEntry(tc.in); got != tc.want {
			t.Errorf("%s: %+v, want %+v", name, got, tc.want)
		}
	}
}

func TestDatastoreURLsEscapeNamesAsTheInventoryHasThem(t *testing.T) {
	t.Parallel()
	c := &Client{cfg: Config{URL: &url.URL{Scheme: "https", Host: "vc"}}}
	vm := VM{Power: PoweredOff, Datacenter: "/Europe/DC a%2fb"}
	d := Disk{Datastore: "store+1 & co", File: "my vm #1/my vm.vmdk"}
	u, err := c.datastoreURL(vm, d)
	want := "https://vc/folder/my%20vm%20%231/my%20vm-flat.vmdk?dcPath=Europe%2FDC%20a%252fb&dsName=store%2B1%20%26%20co"
	if err != nil || u.String() != want {
		t.Errorf("%v, %v\nwant %s", u, err, want)
	}
	for name, change := range map[string]func(*VM, *Disk){
		"running": func(vm *VM, _ *Disk) { vm.Power = PoweredOn }, "snapshot": func(vm *VM, _ *Disk) { vm.Snapshots = 1 },
		"delta": func(_ *VM, d *Disk) { d.Parent = true }, "rdm": func(_ *VM, d *Disk) { d.RDM = "virtualMode" },
		"encrypted": func(_ *VM, d *Disk) { d.Encrypted = true }, "no file": func(_ *VM, d *Disk) { d.File = "" },
	} {
		vm, d := vm, d
		change(&vm, &d)
		if u, err := c.datastoreURL(vm, d); err == nil {
			t.Errorf("%s: %v", name, u)
		}
	}
}

func TestAllocatedAreasMustFitTheDisk(t *testing.T) {
	t.Parallel()
	ext := func(pairs ...int64) (out []types.DiskChangeExtent) {
		for i := 0; i < len(pairs); i += 2 {
			out = append(out, types.DiskChangeExtent{Start: pairs[i], Length: pairs[i+1]})
		}
		return out
	}
	for name, tc := range map[string]struct {
		info types.DiskChangeInfo
		want []transfer.Area // nil: refused
	}{
		"two, joined and apart": {types.DiskChangeInfo{Length: 100, ChangedArea: ext(0, 10, 10, 5, 50, 50)}, []transfer.Area{{Offset: 0, Length: 15}, {Offset: 50, Length: 50}}},
		"none":                  {types.DiskChangeInfo{Length: 100}, []transfer.Area{}},
		"from elsewhere":        {types.DiskChangeInfo{StartOffset: 1, Length: 99}, nil},
		"no progress":           {types.DiskChangeInfo{}, nil},
		"beyond the disk":       {types.DiskChangeInfo{Length: 101}, nil},
		"beyond the answer":     {types.DiskChangeInfo{Length: 50, ChangedArea: ext(40, 20)}, nil},
		"overlapping":           {types.DiskChangeInfo{Length: 100, ChangedArea: ext(0, 20, 10, 20)}, nil},
		"backwards":             {types.DiskChangeInfo{Length: 100, ChangedArea: ext(50, 10, 0, 10)}, nil},
		"overflowing":           {types.DiskChangeInfo{Length: 100, ChangedArea: ext(10, 1<<62, 20, 1<<62)}, nil},
		"negative":              {types.DiskChangeInfo{Length: 100, ChangedArea: ext(-5, 10)}, nil},
		"empty":                 {types.DiskChangeInfo{Length: 100, ChangedArea: ext(5, 0)}, nil},
	} {
		areas := []transfer.Area{}
		end, err := appendAreas(&areas, tc.info, 0, 100)
		if tc.want == nil {
			if err == nil {
				t.Errorf("%s: accepted as %v", name, areas)
			}
			continue
		}
		if d := cmp.Diff(tc.want, areas); err != nil || end != 100 || d != "" {
			t.Errorf("%s: end %d, %v, (-want +got)\n%s", name, end, err, d)
		}
	}
}

func FuzzDeviceURL(f *testing.F) {
	for _, s := range []string{"https://*/ha-nfc/a/disk-0.vmdk", "https://esx/nfc/a/100% #1?.nvram", "https://[::1]:1/%2f%zz?a=b", "http://u@h/ü"} {
		f.Add(s)
	}
	service := &url.URL{Scheme: "https", Host: "vc:443"}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := parseDeviceURL(s, service)
		if err != nil {
			return
		}
		again, err := url.Parse(u.String())
		if err != nil || again.Host != u.Host || again.Fragment != "" || again.User != nil || !strings.HasPrefix(again.Path, "/") {
			t.Errorf("%q gives %q, which reads as %+v, %v", s, u, again, err)
		}
		if twice, err := parseDeviceURL(u.String(), service); err != nil || twice.String() != u.String() {
			t.Errorf("%q gives %q, and that %v, %v", s, u, twice, err)
		}
	})
}

func FuzzLeaseItems(f *testing.F) {
	f.Add("/vm-12/VirtualLsiLogicController0:0", "https://esx/nfc/a/disk-0.vmdk", "disk-0.vmdk")
	f.Add("/vm-12/nvram", "https://*/ha-nfc/a/My VM.nvram", "")
	disks := []Disk{{Key: 2000, Controller: LSILogic, Capacity: 1 << 20}}
	f.Fuzz(func(t *testing.T, key, u, target string) {
		urls := []types.HttpNfcLeaseDeviceUrl{{Key: key, Url: u, TargetId: target}, {Key: key + "2", Url: u, TargetId: target}}
		items, _, err := readItems(urls, disks, &url.URL{Scheme: "https", Host: "vc"})
		if err != nil {
			return
		}
		for _, item := range items {
			if n := item.Name; n == "" || n == "." || n == ".." || len(n) > 220 || strings.ContainsAny(n, "/\\\x00\n\x1b") {
				t.Errorf("unsafe name %q", n)
			}
		}
		if items[0].Name == items[1].Name || items[0].DiskKey != 0 && items[0].DiskKey == items[1].DiskKey {
			t.Errorf("two items are one: %+v", items)
		}
	})
}
