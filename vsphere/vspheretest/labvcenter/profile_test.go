package main

import (
	"io"
	"strings"
	"testing"
	"time"
)

const seen = `{
  "format": 1,
  "service": {"kind": "vcenter", "version": "7.0.3", "api_version": "7.0.3.0"},
  "privileges": {"VApp.Export": "granted", "Datastore.Browse": "missing"},
  "hosts": {"count": 3, "versions": ["7.0.2", "7.0.3"]},
  "lease": {"timeout_s": 120, "range": "honoured", "version": ""},
  "port_902": {"ticket": "none"},
  "timings": {"call_ms": 40},
  "rates": [{"channel": "lease", "streams": 1, "served": 1, "bytes": 1, "bytes_per_second": 25000000},
            {"channel": "lease", "streams": 8, "served": 5, "bytes": 1, "bytes_per_second": 90000000}]
}`

func TestAReportIsWhatTheFlagsBeginWith(t *testing.T) {
	t.Parallel()
	name := write(t, "report.json", strings.Replace(seen, `, "version": ""`, "", 1))
	o, err := parse([]string{"-profile", name}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	c := o.config
	if c.APIVersion != "7.0.3.0" || c.Hosts != 3 || c.LeaseTimeout != 2*time.Minute || c.NFC902 || c.Latency != 40*time.Millisecond ||
		c.Rate != 25_000_000 || c.StreamsPerHost != 5 || len(c.DeniedPrivileges) != 1 || c.Like == nil || c.Like.Lease.Range != "honoured" {
		t.Errorf("%+v", c)
	}
	o, err = parse([]string{"-profile", name, "-hosts", "1", "-latency", "0", "-rate", "1MB/s", "-nfc902", "-deny", "VApp.Export"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if c := o.config; c.Hosts != 1 || c.Latency != 0 || c.Rate != 1_000_000 || !c.NFC902 || len(c.DeniedPrivileges) != 2 || c.LeaseTimeout != 2*time.Minute {
		t.Errorf("with flags: %+v", c)
	}
}

func TestWithoutAReportTheFlagsMeanWhatTheyDid(t *testing.T) {
	t.Parallel()
	o, err := parse(nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if c := o.config; c.Hosts != 1 || c.LeaseTimeout != 300*time.Second || !c.NFC902 || c.Rate != 0 || c.Latency != 0 || c.APIVersion != "" || c.StreamsPerHost != 0 {
		t.Errorf("%+v", c)
	}
}

func TestAProfileThatCannotBeReadIsRefusedWithItsPlace(t *testing.T) {
	t.Parallel()
	bad := write(t, "bad.json", seen)
	for profile, want := range map[string]string{
		bad:             `bad.json: line 6, column 60: there is no field "lease.version"`,
		"nothing.json":  "nothing.json",
		"no-such":       `profile "no-such": want one of`,
		"./also/absent": "absent",
	} {
		if _, err := parse([]string{"-profile", profile}, io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", profile, err)
		}
	}
}
