package vspheretest_test

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/nfc"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// client is a logged-in user of a lab.
type client struct {
	*govmomi.Client
	t   *testing.T
	srv *vspheretest.Server
}

func connect(t *testing.T, srv *vspheretest.Server) *client {
	t.Helper()
	c, err := govmomi.NewClient(t.Context(), srv.URL(), true)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	return &client{c, t, srv}
}

func (c *client) vm(name string) *object.VirtualMachine {
	c.t.Helper()
	vm, err := find.NewFinder(c.Client.Client).VirtualMachine(c.t.Context(), c.srv.InventoryPath(name))
	if err != nil {
		c.t.Fatalf("find %s: %v", name, err)
	}
	return vm
}

// pause is between two looks at what has no other way to tell: the lab needs the processor,
// too.
func pause() { <-time.After(5 * time.Millisecond) }

// export opens a lease on a VM and waits until it is ready.
func (c *client) export(name string) (*nfc.Lease, *nfc.LeaseInfo) {
	c.t.Helper()
	lease, err := c.vm(name).Export(c.t.Context())
	if err != nil {
		c.t.Fatalf("export %s: %v", name, err)
	}
	info, err := lease.Wait(c.t.Context(), nil)
	if err != nil {
		c.t.Fatalf("wait for the lease on %s: %v", name, err)
	}
	return lease, info
}

// diskURLs returns the URLs of a lease's disks.
func diskURLs(info *nfc.LeaseInfo) []string {
	var urls []string
	for _, d := range info.DeviceUrl {
		if *d.Disk {
			urls = append(urls, d.Url)
		}
	}
	return urls
}

// answer is what an HTTP request got.
type answer struct {
	*http.Response
	body []byte
	err  error // while the body was read
}

func (a answer) sha256() string {
	sum := sha256.Sum256(a.body)
	return hex.EncodeToString(sum[:])
}

// fetch does one request on a connection of its own. header is key, value, …
func fetch(t *testing.T, method, url string, header ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	tr := &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}},
		ForceAttemptHTTP2: true, DisableKeepAlives: true,
	}
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return answer{Response: &http.Response{}, err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answer{resp, body, err}
}

func get(t *testing.T, url string, header ...string) answer {
	t.Helper()
	return fetch(t, http.MethodGet, url, header...)
}

// wantFault fails the test unless err carries a fault of target's type.
func wantFault[F types.BaseMethodFault](t *testing.T, err error, what string) {
	t.Helper()
	var target F
	if _, ok := fault.As(err, &target); !ok {
		t.Errorf("%s: got %v, want a fault of type %T", what, err, target)
	}
}

// oneVM starts a lab with a VM "guest1" of one 8 MiB disk with 3 MiB of noise.
func oneVM(t *testing.T, change func(*vspheretest.Config)) *vspheretest.Server {
	t.Helper()
	cfg := vspheretest.Config{VMs: []vspheretest.VM{{
		Name: "guest1", Disks: []vspheretest.Disk{{Path: rawDisk(t, 8*mib, 3*mib, mib)}},
	}}}
	if change != nil {
		change(&cfg)
	}
	return vspheretest.Start(t, cfg)
}
