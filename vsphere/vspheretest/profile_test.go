package vspheretest_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

func TestTheStreamProfileKnowsNoRangesNoLengthAndNoHEAD(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, nil)
	_, info := connect(t, srv).export("guest1")
	url := diskURLs(info)[0]
	a := get(t, url, "Range", "bytes=100-199")
	if a.StatusCode != http.StatusOK || a.ContentLength != -1 || a.Header.Get("Accept-Ranges") != "" {
		t.Errorf("a range got %s, length %d, Accept-Ranges %q", a.Status, a.ContentLength, a.Header.Get("Accept-Ranges"))
	}
	if got := a.Header.Get("Content-Type"); got != "application/x-vnd.vmware-streamVmdk" {
		t.Errorf("Content-Type %q", got)
	}
	if a.ProtoMajor != 1 {
		t.Errorf("the host speaks %s", a.Proto)
	}
	if a.err != nil || a.sha256() != srv.Stream("guest1", 0).SHA256 {
		t.Errorf("the stream differs (%d bytes, error %v)", len(a.body), a.err)
	}
	if a := fetch(t, http.MethodHead, url); a.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("HEAD got %d", a.StatusCode)
	}
	if got, want := srv.BytesServed("guest1", 0), srv.Stream("guest1", 0).Size; got != want {
		t.Errorf("BytesServed: %d, want %d", got, want)
	}
}

func TestTheRangedProfileAnswersRangesWithAnETag(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, func(c *vspheretest.Config) { c.Profile = vspheretest.Ranged })
	lease, info := connect(t, srv).export("guest1")
	url, size := diskURLs(info)[0], srv.Stream("guest1", 0).Size
	whole := get(t, url)
	etag := whole.Header.Get("ETag")
	if whole.StatusCode != http.StatusOK || whole.ContentLength != size || etag == "" {
		t.Fatalf("GET: %s, length %d, ETag %q", whole.Status, whole.ContentLength, etag)
	}
	head := fetch(t, http.MethodHead, url)
	if head.StatusCode != http.StatusOK || head.ContentLength != size || head.Header.Get("Accept-Ranges") != "bytes" {
		t.Errorf("HEAD: %s, length %d", head.Status, head.ContentLength)
	}
	for _, tt := range []struct{ header, contentRange, body string }{
		{"bytes=100-199", fmt.Sprintf("bytes 100-199/%d", size), string(whole.body[100:200])},
		{fmt.Sprintf("bytes=%d-", size-10), fmt.Sprintf("bytes %d-%d/%d", size-10, size-1, size), string(whole.body[size-10:])},
		{"bytes=-512", fmt.Sprintf("bytes %d-%d/%d", size-512, size-1, size), string(whole.body[size-512:])},
		{fmt.Sprintf("bytes=0-%d", size*2), fmt.Sprintf("bytes 0-%d/%d", size-1, size), string(whole.body)},
	} {
		a := get(t, url, "Range", tt.header, "If-Match", etag)
		if a.StatusCode != http.StatusPartialContent || a.Header.Get("Content-Range") != tt.contentRange || string(a.body) != tt.body {
			t.Errorf("%s: %s, Content-Range %q, %d bytes", tt.header, a.Status, a.Header.Get("Content-Range"), len(a.body))
		}
	}
	if a := get(t, url, "Range", fmt.Sprintf("bytes=%d-", size)); a.StatusCode != http.StatusRequestedRangeNotSatisfiable {
		t.Errorf("a range beyond the end got %d", a.StatusCode)
	}
	if a := get(t, url, "Range", "bytes=0-1", "If-Match", `"other"`); a.StatusCode != http.StatusPreconditionFailed {
		t.Errorf("another If-Match got %d", a.StatusCode)
	}
	if a := get(t, url, "Range", "bytes=0-1", "If-Range", `"other"`); a.StatusCode != http.StatusOK {
		t.Errorf("another If-Range got %d", a.StatusCode)
	}
	if m, err := lease.GetManifest(t.Context()); err != nil || len(m) != 1 {
		t.Errorf("manifest: %+v, %v", m, err)
	}
}

func TestTheVSANProfileServesOneDiskALease(t *testing.T) {
	t.Parallel()
	disks := []vspheretest.Disk{{Path: rawDisk(t, mib, kib, 0)}, {Path: rawDisk(t, 2*mib, kib, 0)}}
	srv := vspheretest.Start(t, vspheretest.Config{Profile: vspheretest.VSAN, VMs: []vspheretest.VM{{Name: "guest1", Disks: disks}}})
	c := connect(t, srv)
	lease, info := c.export("guest1")
	first, second := get(t, diskURLs(info)[0]), get(t, diskURLs(info)[1])
	if first.sha256() != srv.Stream("guest1", 0).SHA256 {
		t.Error("the first disk differs")
	}
	if second.StatusCode != http.StatusOK || len(second.body) != 0 || second.ContentLength != -1 || second.err != nil {
		t.Errorf("the second disk: %s, %d bytes, length %d, %v", second.Status, len(second.body), second.ContentLength, second.err)
	}
	if err := lease.Complete(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, info = c.export("guest1")
	if get(t, diskURLs(info)[1]).sha256() != srv.Stream("guest1", 1).SHA256 {
		t.Error("the second disk differs on a lease of its own")
	}
	a := get(t, folderURL(srv, "guest1/guest1-flat.vmdk"), "Cookie", sessionCookie(t, c))
	if a.StatusCode != http.StatusNotFound {
		t.Errorf("/folder got %d", a.StatusCode)
	}
}

func TestAStreamOptimizedVMDKIsServedAsItIs(t *testing.T) {
	t.Parallel()
	raw := rawDisk(t, 4*mib, mib, 0)
	vmdk := filepath.Join(t.TempDir(), "front.vmdk")
	convert(t, raw, vmdk)
	srv := vspheretest.Start(t, vspheretest.Config{VMs: []vspheretest.VM{{Name: "guest1", Disks: []vspheretest.Disk{{Path: vmdk}}}}})
	if got := srv.Stream("guest1", 0).Capacity; got != 4*mib {
		t.Errorf("capacity %d", got)
	}
	_, info := connect(t, srv).export("guest1")
	want, err := os.ReadFile(vmdk)
	if err != nil {
		t.Fatal(err)
	}
	if a := get(t, diskURLs(info)[0]); !bytes.Equal(a.body, want) {
		t.Errorf("%d bytes, want the %d of the file", len(a.body), len(want))
	}
}

func TestDeviceURLsTakeTheFormsThatHostsAndOldVCentersGive(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, func(c *vspheretest.Config) {
		c.DirectURLs, c.NamedURLs = true, true
		c.VMs[0].Name = `web 1/"blue"`
	})
	_, info := connect(t, srv).export(`web 1/"blue"`)
	url := diskURLs(info)[0]
	if !strings.HasPrefix(url, "https://*/ha-nfc/") || !strings.HasSuffix(url, `/web 1%2f"blue"-disk-0.vmdk`) {
		t.Errorf("URL %q", url)
	}
	if got := info.DeviceUrl[0].SslThumbprint; got != srv.Thumbprint() {
		t.Errorf("thumbprint %s is not of the address one connected to", got)
	}
	a := get(t, strings.Replace(url, "*", srv.URL().Host, 1))
	if a.sha256() != srv.Stream(`web 1/"blue"`, 0).SHA256 {
		t.Errorf("%s, %d bytes", a.Status, len(a.body))
	}
}

func TestAHostRefusesMoreStreamsThanItHasMemoryFor(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, func(c *vspheretest.Config) { c.StreamsPerHost = 1 })
	_, info := connect(t, srv).export("guest1")
	url := diskURLs(info)[0]
	var second answer
	srv.OnByte("guest1", 0, mib, func() { second = get(t, url) })
	first := get(t, url)
	if second.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("the second stream got %d", second.StatusCode)
	}
	if first.sha256() != srv.Stream("guest1", 0).SHA256 {
		t.Error("the first stream suffered")
	}
}
