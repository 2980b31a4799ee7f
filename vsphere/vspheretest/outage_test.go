package vspheretest_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/vim25/methods"

	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

func TestAnOutageOfTheControlPlaneLeavesHostsAndLeasesAlone(t *testing.T) {
	t.Parallel()
	for how, want := range map[vspheretest.Outage]func(answer) bool{
		vspheretest.Refuse:      func(a answer) bool { return errors.Is(a.err, syscall.ECONNREFUSED) },
		vspheretest.Reset:       func(a answer) bool { return a.err != nil && !errors.Is(a.err, syscall.ECONNREFUSED) },
		vspheretest.Unavailable: func(a answer) bool { return a.StatusCode == 503 && !strings.Contains(string(a.body), "<") },
		vspheretest.HTML: func(a answer) bool {
			return a.StatusCode == 200 && strings.HasPrefix(a.Header.Get("Content-Type"), "text/html") && strings.Contains(string(a.body), "<html>")
		},
	} {
		srv := oneVM(t, nil)
		c := connect(t, srv)
		lease, info := c.export("guest1")
		up := srv.Down(vspheretest.Control, how)
		if a := fetch(t, http.MethodPost, srv.URL().Redacted()); !want(a) {
			t.Errorf("%s: %d %q, %v", how, a.StatusCode, a.body, a.err)
		}
		if _, err := methods.GetCurrentTime(t.Context(), c.Client.Client); err == nil {
			t.Errorf("%s: a client's connection outlived the beginning", how)
		}
		wantWhole(t, srv, diskURLs(info)[0])
		up()
		up()
		if m, err := lease.GetManifest(t.Context()); err != nil || len(m) != 1 {
			t.Errorf("%s: afterwards: %v, %v", how, m, err)
		}
		connect(t, srv)
	}
}

func TestAHangingPlaneIsSilentUntilTheClientGivesUp(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, nil)
	c := connect(t, srv)
	up := srv.Down(vspheretest.Control, vspheretest.Hang)
	for _, old := range []bool{true, false} {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			if old { // its connection was there before
				_, err := methods.GetCurrentTime(ctx, c.Client.Client)
				done <- err
				return
			}
			_, err := govmomi.NewClient(ctx, srv.URL(), true)
			done <- err
		}()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("existing connection %v: %v", old, err)
		}
	}
	up()
	connect(t, srv)
}

func TestAnOutageOfTheHostsLeavesVCenterAlone(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, func(c *vspheretest.Config) { c.Hosts = 2 })
	lease, info := connect(t, srv).export("guest1")
	up := srv.Down(vspheretest.Hosts, vspheretest.Refuse)
	if a := get(t, diskURLs(info)[0]); !errors.Is(a.err, syscall.ECONNREFUSED) {
		t.Errorf("a host that is down: %v", a.err)
	}
	if err := lease.Progress(t.Context(), 1); err != nil {
		t.Errorf("vCenter: %v", err)
	}
	up()
	wantWhole(t, srv, diskURLs(info)[0])
}

func TestAnOutageCanBeginInTheMiddleOfAStreamAndEndsInTime(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, nil)
	c := connect(t, srv)
	_, info := c.export("guest1")
	add(t, srv, "down:plane=all,for=1ms,at=1MiB")
	if a := get(t, diskURLs(info)[0]); a.err == nil {
		t.Error("the stream was not cut")
	}
	for ; ; pause() {
		if _, err := methods.GetCurrentTime(t.Context(), c.Client.Client); err == nil {
			break
		}
	}
	for ; ; pause() {
		if a := get(t, diskURLs(info)[0]); a.err == nil && a.StatusCode == http.StatusOK {
			break
		}
	}
}

func TestOutagesFollowOneAnother(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, nil)
	add(t, srv, "down:plane=control,after=1ms,for=1ms,times=3,how=reset")
	for ; srv.Struck()["down"] < 3; pause() {
		_, _ = govmomi.NewClient(t.Context(), srv.URL(), true)
	}
	for ; ; pause() {
		if _, err := govmomi.NewClient(t.Context(), srv.URL(), true); err == nil {
			return
		}
	}
}

func TestTheLastOfSeveralOutagesCounts(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, nil)
	first := srv.Down(vspheretest.Everything, vspheretest.Refuse)
	second := srv.Down(vspheretest.Control, vspheretest.Unavailable)
	if a := get(t, srv.URL().Redacted()); a.StatusCode != 503 {
		t.Errorf("under both: %d, %v", a.StatusCode, a.err)
	}
	second()
	if a := get(t, srv.URL().Redacted()); !errors.Is(a.err, syscall.ECONNREFUSED) {
		t.Errorf("under the first: %v", a.err)
	}
	first()
	connect(t, srv)
}

func TestCloseEndsAnOutage(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, nil)
	c := connect(t, srv)
	up := srv.Down(vspheretest.Everything, vspheretest.Hang)
	done := make(chan error, 1)
	go func() {
		_, err := methods.GetCurrentTime(t.Context(), c.Client.Client)
		done <- err
	}()
	srv.Close()
	if err := <-done; err == nil {
		t.Error("the call was answered")
	}
	up()
}
