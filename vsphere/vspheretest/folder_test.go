package vspheretest_test

import (
	"net/http"
	"net/url"
	"slices"
	"testing"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

func folderURL(srv *vspheretest.Server, file string) string {
	u := &url.URL{Scheme: "https", Host: srv.URL().Host, Path: "/folder/" + file}
	u.RawQuery = url.Values{"dcPath": {"DC0"}, "dsName": {"LocalDS_0"}}.Encode()
	return u.String()
}

// sessionCookie is the cookie as the client would send it.
func sessionCookie(t *testing.T, c *client) string {
	t.Helper()
	for _, k := range c.Client.Client.Jar.Cookies(c.srv.URL()) {
		if k.Name == soap.SessionCookieName {
			if !k.Quoted {
				t.Errorf("the session's cookie has no quotes: %s", k.Name)
			}
			return k.String()
		}
	}
	t.Fatal("the client has no session cookie")
	return ""
}

func TestFolderServesTheDiskOfAVMAtRest(t *testing.T) {
	t.Parallel()
	raw := rawDisk(t, 2*mib, mib, 0)
	disk := []vspheretest.Disk{{Path: raw}}
	srv := vspheretest.Start(t, vspheretest.Config{VMs: []vspheretest.VM{
		{Name: "off", Disks: disk}, {Name: "on", Disks: disk, PoweredOn: true}, {Name: "snap", Disks: disk, Snapshots: []string{"s"}},
	}})
	cookie := sessionCookie(t, connect(t, srv))
	file := func(vm string) string { return folderURL(srv, vm+"/"+vm+"-flat.vmdk") }
	if a := get(t, file("off")); a.StatusCode != http.StatusUnauthorized {
		t.Errorf("without a session: %d", a.StatusCode)
	}
	a := get(t, file("off"), "Cookie", cookie, "Range", "bytes=1048576-")
	if a.StatusCode != http.StatusPartialContent || len(a.body) != mib {
		t.Errorf("a range: %s, %d bytes", a.Status, len(a.body))
	}
	if a := fetch(t, http.MethodHead, file("off"), "Cookie", cookie); a.ContentLength != 2*mib {
		t.Errorf("HEAD: %s, length %d", a.Status, a.ContentLength)
	}
	for _, vm := range []string{"on", "snap"} {
		if a := get(t, file(vm), "Cookie", cookie); a.StatusCode != http.StatusInternalServerError {
			t.Errorf("%s: %d", vm, a.StatusCode)
		}
	}
	if a := get(t, folderURL(srv, "off/off.vmx"), "Cookie", cookie); a.StatusCode != http.StatusOK {
		t.Errorf("another file: %d", a.StatusCode)
	}
}

func TestChangedBlockTrackingListsAllocatedAreas(t *testing.T) {
	t.Parallel()
	disk := []vspheretest.Disk{{Path: rawDisk(t, 64*mib, 100*kib, 0, 32*mib)}}
	srv := vspheretest.Start(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "cbt", Disks: disk, CBT: true}, {Name: "none", Disks: disk}}})
	c := connect(t, srv)
	query := func(vm string, start int64) (types.DiskChangeInfo, error) {
		res, err := methods.QueryChangedDiskAreas(t.Context(), c.Client.Client, &types.QueryChangedDiskAreas{
			This: c.vm(vm).Reference(), DeviceKey: 2000, StartOffset: start, ChangeId: "*",
		})
		if err != nil {
			return types.DiskChangeInfo{}, err
		}
		return res.Returnval, nil
	}
	info, err := query("cbt", 0)
	if err != nil {
		t.Fatal(err)
	}
	want := []types.DiskChangeExtent{{Start: 0, Length: 128 * kib}, {Start: 32 * mib, Length: 128 * kib}}
	if info.Length != 64*mib || !slices.Equal(info.ChangedArea, want) {
		t.Errorf("areas %+v, want %+v", info, want)
	}
	if info, err = query("cbt", mib); err != nil || info.Length != 63*mib || len(info.ChangedArea) != 1 {
		t.Errorf("from 1 MiB: %+v, %v", info, err)
	}
	_, err = query("none", 0)
	wantFault[*types.FileFault](t, err, "without tracking")
}
