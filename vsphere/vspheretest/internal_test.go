package vspheretest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

func TestFaultSpecsAreReadAsDocumented(t *testing.T) {
	t.Parallel()
	for spec, want := range map[string]fault{
		"cut:at=50MB,times=2":                  {kind: faultCut, at: 50e6, disk: -1, code: 503, left: 2},
		"status:code=500,times=always":         {kind: faultStatus, at: -1, disk: -1, code: 500, left: -1},
		"stall:at=10MiB,vm=a b/c,disk=3":       {kind: faultStall, at: 10 << 20, vm: "a b/c", disk: 3, code: 503, left: 1},
		"truncate:at=0":                        {kind: faultTruncate, disk: -1, code: 503, left: 1},
		"corrupt:at=1.5KB":                     {kind: faultCorrupt, at: 1500, disk: -1, code: 503, left: 1},
		"empty:disk=1":                         {kind: faultEmpty, at: -1, disk: 1, code: 503, left: 1},
		"empty":                                {kind: faultEmpty, at: -1, disk: -1, code: 503, left: 1},
		"expire:after=5s":                      {kind: faultExpire, at: -1, after: 5 * time.Second, disk: -1, code: 503, left: 1},
		"session:after=1m,keep=true,times=100": {kind: faultSession, at: -1, after: time.Minute, disk: -1, code: 503, keep: true, left: 100},
		"task:call=CreateSnapshot_Task,takes=70s,cancel=true": {
			kind: faultTask, at: -1, disk: -1, code: 503, left: 1, call: "CreateSnapshot_Task", lasts: 70 * time.Second, cancel: "true"},
		"late:call=ExportVm,after=5s":         {kind: faultLate, at: -1, disk: -1, code: 503, left: 1, call: "ExportVm", after: 5 * time.Second},
		"hang:call=*,effect=false,vm=a":       {kind: faultHang, at: -1, disk: -1, code: 503, left: 1, call: "*", vm: "a", noEffect: true},
		"lose:call=Login,how=html":            {kind: faultLose, at: -1, disk: -1, code: 503, left: 1, call: "Login", how: HTML},
		"fault:call=Login,fault=NoPermission": {kind: faultRefuse, at: -1, disk: -1, code: 503, left: 1, call: "Login", name: "NoPermission"},
		"down:for=8s":                         {kind: faultDown, at: -1, disk: -1, code: 503, left: 1, plane: Control, how: Refuse, lasts: 8 * time.Second},
		"down:plane=all,at=1MB,for=1s":        {kind: faultDown, at: 1e6, disk: -1, code: 503, left: 1, plane: Everything, how: Refuse, lasts: time.Second},
		"manifest:late=2s,times=always":       {kind: faultManifest, at: -1, disk: -1, code: 503, left: -1, lasts: 2 * time.Second},
		"touch:on=open":                       {kind: faultTouch, at: -1, disk: -1, code: 503, left: 1, onOpen: true},
		"touch":                               {kind: faultTouch, at: -1, disk: -1, code: 503, left: 1},
	} {
		got, err := parseFault(spec)
		if err != nil {
			t.Errorf("%s: %v", spec, err)
		} else if *got != want {
			t.Errorf("%s: %+v, want %+v", spec, *got, want)
		}
	}
	for spec, complaint := range map[string]string{
		"explode":                            "unknown fault",
		"cut":                                "at=SIZE is missing",
		"cut:at=lots":                        "want a number",
		"cut:at=5,times=0":                   "positive",
		"cut:at=5,sometimes":                 "not key=value",
		"cut:at=5,where=here":                "unknown key",
		"status:code=200":                    "400 to 599",
		"expire":                             "after=DURATION",
		"cut:at=1QB":                         "want a number",
		"cut:at=1iB":                         "unknown unit",
		"cut:at=1,plane=all":                 "nfc or folder",
		"late:after=1s":                      "call=METHOD",
		"late:call=ExportVm":                 "after=DURATION",
		"hang:call=Export":                   "no such method",
		"fault:call=ExportVm":                "fault=NAME",
		"fault:call=ExportVm,fault=Wrath":    "no such fault",
		"fault:call=ExportVm,fault=ExportVm": "no such fault",
		"task:call=ExportVm,takes=1s":        "late",
		"task:call=ReconfigVM_Task":          "takes=DURATION",
		"task:call=ReconfigVM_Task,takes=1s,cancel=no": "true, false or ignore",
		"lose:call=ExportVm,how=hang":                  "reset, 503 or html",
		"hang:call=ExportVm,effect=first":              "true or false",
		"down":                                         "for=DURATION",
		"down:for=1s,how=softly":                       "want one of",
		"down:for=1s,plane=nfc":                        "control, hosts or all",
		"down:for=1s,times=2":                          "between them",
		"down:for=1s,at=1MB,after=1s":                  "not both",
		"manifest":                                     "late=DURATION",
		"touch:on=monday":                              "open or end",
	} {
		if _, err := parseFault(spec); err == nil || !strings.Contains(err.Error(), complaint) {
			t.Errorf("%s: %v, want a word on %q", spec, err, complaint)
		}
	}
}

func FuzzParseFault(f *testing.F) {
	f.Add("cut:at=50MB,times=2,vm=guest1,disk=0")
	f.Add("session:after=5s,keep=true")
	f.Add("status:code=503,times=always")
	f.Add("down:plane=control,for=8s,at=1MB,how=503")
	f.Add("fault:call=Login,fault=InvalidLogin")
	f.Add(":,=,=")
	f.Fuzz(func(t *testing.T, spec string) {
		r, err := parseFault(spec)
		if err == nil && (r.left == 0 || r.at < -1) {
			t.Errorf("%q became %+v", spec, r)
		}
	})
}

func FuzzParseRange(f *testing.F) {
	f.Add("bytes=0-99", int64(1000))
	f.Add("bytes=-5", int64(3))
	f.Add("bytes=9223372036854775807-", int64(10))
	f.Add("bytes=5-9223372036854775807", int64(10))
	f.Fuzz(func(t *testing.T, header string, size int64) {
		if size < 0 {
			return
		}
		from, to, ok := parseRange(header, size)
		if ok && (from < 0 || to > size || from < size && from >= to) {
			t.Errorf("%q of %d bytes became [%d, %d)", header, size, from, to)
		}
	})
}

func TestAConnectionIsAsSlowAsAskedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const rate, total = 25e6, 250e6
		p := newPacer(rate)
		start := time.Now()
		for sent := 0; sent < total; sent += p.chunk {
			if err := p.wait(t.Context(), p.chunk); err != nil {
				t.Fatal(err)
			}
		}
		got := time.Since(start).Seconds()
		if got < 9.8 || got > 10.2 {
			t.Errorf("250 MB at 25 MB/s took %.2f s of virtual time", got)
		}
	})
}

func TestALeaseLivesAsLongAsItIsRenewedAndThenForItsTimeout(t *testing.T) {
	t.Parallel()
	disk := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(disk, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	srv := Start(t, Config{VMs: []VM{{Name: "guest1", Disks: []Disk{{Path: disk}}}}})
	g := srv.guests[0]
	synctest.Test(t, func(t *testing.T) {
		ref, fault := srv.openLease(srv.simContext(), g, g.ref)
		if fault != nil {
			t.Fatalf("open: %T", fault)
		}
		l := srv.leases.on(g.ref)
		for range 5 {
			time.Sleep(299 * time.Second)
			body := l.object.HttpNfcLeaseProgress(srv.simContext(), &types.HttpNfcLeaseProgress{This: ref, Percent: 0})
			if body.Fault() != nil {
				t.Fatalf("Progress: %s", body.Fault().String)
			}
		}
		time.Sleep(299 * time.Second)
		if !l.ready() {
			t.Error("the lease ended before its timeout")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if l.ready() || !l.timedOut || srv.leases.on(g.ref) != nil {
			t.Error("the lease outlived its timeout")
		}
	})
}

func TestASpanIsCompleteOnlyWithoutGaps(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		spans []span
		want  bool
	}{
		{nil, false},
		{[]span{{0, 10}}, true},
		{[]span{{5, 10}, {0, 5}}, true},
		{[]span{{0, 7}, {3, 10}}, true},
		{[]span{{0, 4}, {5, 10}}, false},
		{[]span{{0, 9}}, false},
	} {
		if got := complete(tt.spans, 10); got != tt.want {
			t.Errorf("%v: %v", tt.spans, got)
		}
	}
}

func TestVersionsAreComparedByNumber(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]bool{
		"6.5": false, "6.7": true, "6.7.3": true, "6.10": true, "7.0": true, "8.0.3.0": true, "5.5": false, "10": true, "": false,
	} {
		if got := atLeast(version, 6, 7); got != want {
			t.Errorf("%q at least 6.7: %v", version, got)
		}
	}
}
