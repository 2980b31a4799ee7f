package vspheretest_test

import (
	"net/http"
	"testing"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// faulty starts a lab with one fault and returns the URL of its only disk.
func faulty(t *testing.T, profile vspheretest.Profile, spec string) (*vspheretest.Server, string) {
	t.Helper()
	srv := oneVM(t, func(c *vspheretest.Config) { c.Profile, c.Faults = profile, []string{spec} })
	_, info := connect(t, srv).export("guest1")
	return srv, diskURLs(info)[0]
}

// wantWhole fails the test unless the next GET is complete and unharmed.
func wantWhole(t *testing.T, srv *vspheretest.Server, url string) {
	t.Helper()
	a := get(t, url)
	if a.err != nil || a.StatusCode != http.StatusOK || a.sha256() != srv.Stream("guest1", 0).SHA256 {
		t.Errorf("the fault went on: %s, %d bytes, %v", a.Status, len(a.body), a.err)
	}
}

func TestCutResetsTheConnectionAsOftenAsItSays(t *testing.T) {
	t.Parallel()
	srv, url := faulty(t, vspheretest.Stream, "cut:at=1MiB,times=2")
	for range 2 {
		if a := get(t, url); a.err == nil || len(a.body) != mib {
			t.Errorf("%d bytes, error %v; want 1 MiB and a broken connection", len(a.body), a.err)
		}
	}
	wantWhole(t, srv, url)
}

func TestCutStrikesTheRangeThatHoldsItsByte(t *testing.T) {
	t.Parallel()
	_, url := faulty(t, vspheretest.Ranged, "cut:at=1MiB")
	if a := get(t, url, "Range", "bytes=0-1048575"); a.err != nil || len(a.body) != mib {
		t.Errorf("the range before it: %d bytes, %v", len(a.body), a.err)
	}
	if a := get(t, url, "Range", "bytes=1048000-2097151"); a.err == nil || len(a.body) != mib-1048000 {
		t.Errorf("the range over it: %d bytes, %v", len(a.body), a.err)
	}
}

func TestStatusAnswersWithItsCode(t *testing.T) {
	t.Parallel()
	srv, url := faulty(t, vspheretest.Stream, "status:code=503,times=3,vm=guest1,disk=0")
	for range 3 {
		if a := get(t, url); a.StatusCode != 503 {
			t.Errorf("got %d", a.StatusCode)
		}
	}
	wantWhole(t, srv, url)
}

func TestStallSendsNoFurtherByteUntilTheLeaseEnds(t *testing.T) {
	t.Parallel()
	srv, url := faulty(t, vspheretest.Stream, "stall:at=1MiB")
	reached := srv.ByteReached("guest1", 0, mib)
	got := make(chan answer)
	go func() { got <- get(t, url) }()
	<-reached
	srv.ExpireLeases()
	if a := <-got; a.err == nil || len(a.body) != mib {
		t.Errorf("%d bytes, error %v; want 1 MiB and a broken connection", len(a.body), a.err)
	}
}

func TestTruncateEndsCleanlyInBothProfiles(t *testing.T) {
	t.Parallel()
	for _, profile := range []vspheretest.Profile{vspheretest.Stream, vspheretest.Ranged} {
		srv, url := faulty(t, profile, "truncate:at=1MiB")
		if a := get(t, url); a.err != nil || len(a.body) != mib {
			t.Errorf("%s: %d bytes, error %v; want 1 MiB and no error", profile, len(a.body), a.err)
		}
		wantWhole(t, srv, url)
	}
}

func TestCorruptFlipsOneByteOnTheWire(t *testing.T) {
	t.Parallel()
	srv, url := faulty(t, vspheretest.Stream, "corrupt:at=1MiB")
	bad, good := get(t, url), get(t, url)
	if bad.err != nil || len(bad.body) != len(good.body) {
		t.Fatalf("%d bytes, %v; want %d", len(bad.body), bad.err, len(good.body))
	}
	var differ []int
	for i := range bad.body {
		if bad.body[i] != good.body[i] {
			differ = append(differ, i)
		}
	}
	if len(differ) != 1 || differ[0] != mib {
		t.Errorf("bytes %v differ, want the one at 1 MiB", differ)
	}
	if good.sha256() != srv.Stream("guest1", 0).SHA256 {
		t.Error("the second stream is not whole")
	}
}

func TestEmptyIsACleanAnswerWithoutABody(t *testing.T) {
	t.Parallel()
	srv, url := faulty(t, vspheretest.Stream, "empty:disk=0")
	if a := get(t, url); a.err != nil || a.StatusCode != 200 || len(a.body) != 0 || a.ContentLength != -1 {
		t.Errorf("%s, %d bytes, length %d, %v", a.Status, len(a.body), a.ContentLength, a.err)
	}
	wantWhole(t, srv, url)
}

func TestNoRangeAnswersARangeWithTheWhole(t *testing.T) {
	t.Parallel()
	_, url := faulty(t, vspheretest.Ranged, "norange:times=1")
	if a := get(t, url, "Range", "bytes=0-9"); a.StatusCode != http.StatusOK {
		t.Errorf("got %d", a.StatusCode)
	}
	if a := get(t, url, "Range", "bytes=0-9"); a.StatusCode != http.StatusPartialContent {
		t.Errorf("the second got %d", a.StatusCode)
	}
}

func TestChangeGivesTheObjectAnotherETag(t *testing.T) {
	t.Parallel()
	srv, url := faulty(t, vspheretest.Ranged, "norange:vm=other")
	before := get(t, url, "Range", "bytes=0-0").Header.Get("ETag")
	if err := srv.AddFault("change"); err != nil {
		t.Fatal(err)
	}
	if a := get(t, url, "Range", "bytes=0-0", "If-Match", before); a.StatusCode != http.StatusPreconditionFailed {
		t.Errorf("got %d for the ETag from before", a.StatusCode)
	}
}

func TestExpireEndsTheLeaseInSpiteOfProgress(t *testing.T) {
	t.Parallel()
	for _, spec := range []string{"expire:after=1ms", "expire:at=1MiB"} {
		srv := oneVM(t, func(c *vspheretest.Config) { c.Faults = []string{spec} })
		expired := events(srv, vspheretest.LeaseExpired)
		lease, err := connect(t, srv).vm("guest1").Export(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if info, err := lease.Wait(t.Context(), nil); err == nil {
			_ = get(t, diskURLs(info)[0])
		}
		<-expired
		wantFault[*types.Timedout](t, lease.Progress(t.Context(), 1), spec)
	}
}

func TestSessionLogsEverybodyOutAndEndsTheirLeases(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, func(c *vspheretest.Config) { c.Faults = []string{"session:at=1MiB"} })
	c := connect(t, srv)
	lease, info := c.export("guest1")
	if a := get(t, diskURLs(info)[0]); a.err == nil {
		t.Error("the transfer outlived its lease")
	}
	wantFault[*types.NotAuthenticated](t, lease.Progress(t.Context(), 1), "Progress")
	if srv.Sessions() != 0 || len(srv.Leases()) != 0 {
		t.Errorf("%d sessions, leases %+v", srv.Sessions(), srv.Leases())
	}
	again := connect(t, srv)
	if _, err := again.vm("guest1").Export(t.Context()); err != nil {
		t.Errorf("export after a new login: %v", err)
	}
}

func TestSessionMayLeaveLeasesAlone(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, func(c *vspheretest.Config) { c.Faults = []string{"session:at=1MiB,keep=true"} })
	c := connect(t, srv)
	lease, info := c.export("guest1")
	if a := get(t, diskURLs(info)[0]); a.err != nil {
		t.Errorf("the transfer was cut: %v", a.err)
	}
	wantFault[*types.NotAuthenticated](t, lease.Progress(t.Context(), 1), "Progress")
	if err := c.Login(t.Context(), srv.URL().User); err != nil {
		t.Fatal(err)
	}
	if err := lease.Complete(t.Context()); err != nil {
		t.Errorf("Complete after a new login: %v", err)
	}
}

func TestSessionCanCountTime(t *testing.T) {
	t.Parallel()
	srv := oneVM(t, func(c *vspheretest.Config) { c.Faults = []string{"session:after=20ms"} })
	c := connect(t, srv)
	for ; ; pause() {
		if _, err := methods.GetCurrentTime(t.Context(), c.Client.Client); err != nil {
			wantFault[*types.NotAuthenticated](t, err, "a call after that time")
			return
		}
	}
}

func TestAFaultIsForTheVMAndDiskThatItNames(t *testing.T) {
	t.Parallel()
	disk := []vspheretest.Disk{{Path: rawDisk(t, mib, kib, 0)}, {Path: rawDisk(t, mib, kib, 0)}}
	srv := vspheretest.Start(t, vspheretest.Config{
		VMs:    []vspheretest.VM{{Name: "a", Disks: disk}, {Name: "b", Disks: disk}},
		Faults: []string{"status:code=500,times=always,vm=b,disk=1"},
	})
	c := connect(t, srv)
	for _, name := range []string{"a", "b"} {
		_, info := c.export(name)
		for i, url := range diskURLs(info) {
			want := 200
			if name == "b" && i == 1 {
				want = 500
			}
			if a := get(t, url); a.StatusCode != want {
				t.Errorf("%s disk %d: %d, want %d", name, i, a.StatusCode, want)
			}
		}
	}
}
