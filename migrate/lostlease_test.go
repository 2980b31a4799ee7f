package migrate_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/soap"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// losing puts something between the Migrator and its vCenter that cuts the
// connection after the first call of method has been carried out, so that its
// answer never comes. It returns how often that was.
func (b *bench) losing(method string) *atomic.Int64 {
	b.t.Helper()
	cfg := b.config()
	var lost atomic.Int64
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "https", Host: b.URL().Host})
	proxy.Transport = &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} // the lab, on loopback
	b.t.Cleanup(proxy.Transport.(*http.Transport).CloseIdleConnections)
	proxy.ModifyResponse = func(resp *http.Response) error {
		if resp.Request.Header.Get("Lose") != "" && lost.CompareAndSwap(0, 1) {
			return errors.New("lost")
		}
		return nil
	}
	proxy.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		r.Header.Del("Lose")
		if bytes.Contains(body, []byte("<"+method+" ")) {
			r.Header.Set("Lose", "yes")
		}
		proxy.ServeHTTP(w, r)
	}))
	b.t.Cleanup(server.Close)
	cfg.URL.Host = strings.TrimPrefix(server.URL, "https://")
	cfg.Thumbprint = soap.ThumbprintSHA256(server.Certificate())
	b.m.Endpoint = func(job.Definition) (vsphere.Config, error) { return cfg, nil }
	return &lost
}

// ExportVm is carried out and its answer lost: the VM has a lease that nobody
// can name, and is busy until that times out.
func TestALeaseThatALostConnectionLeftIsWaitedFor(t *testing.T) {
	t.Parallel()
	b := newBench(t, vspheretest.Config{LeaseTimeout: 4 * time.Second}, rawDisk(t, 4*mib, extent{mib, mib, false}))
	b.m.LeasePause = time.Millisecond
	seen := make(chan vspheretest.LeaseEventKind, 100)
	b.OnLease(func(e vspheretest.LeaseEvent) { seen <- e.Kind })
	lost := b.losing("ExportVm")
	result := b.export(b.job(job.FormatRaw))
	if lost.Load() != 1 {
		t.Fatal("no answer was lost")
	}
	b.identical(result)
	b.clean()
	count := map[vspheretest.LeaseEventKind]int{}
	for len(seen) > 0 {
		count[<-seen]++
	}
	if count[vspheretest.LeaseOpened] != 2 || count[vspheretest.LeaseExpired] != 1 || count[vspheretest.LeaseCompleted] != 1 {
		t.Errorf("what became of leases: %v; want one that timed out and one completed", count)
	}
}
