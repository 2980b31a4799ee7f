package probe_test

import (
	"encoding/json"
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hyper2kvm/hyper2kvm/probe/findings"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// like starts a lab that behaves as a report says, as fast as it can.
func like(t *testing.T, r findings.Report) *vspheretest.Server {
	t.Helper()
	return lab(t, func(c *vspheretest.Config) {
		*c = vspheretest.Config{VMs: c.VMs, NFC902: r.Port902.Ticket == ""}.As(r)
		c.Rate, c.Latency, c.StreamsPerHost = 0, 0, 0
	})
}

// lasting is a report without what no two probes have in common: times, rates, and what
// is made of them.
func lasting(r findings.Report) findings.Report {
	r.Timings, r.Rates, r.Advice, r.Taken, r.Program = findings.Timings{}, nil, nil, "", ""
	return r
}

// said is what stands in a report, by the path of its field.
func said(t *testing.T, r findings.Report) map[string]any {
	t.Helper()
	b, err := json.Marshal(lasting(r))
	if err != nil {
		t.Fatal(err)
	}
	var tree map[string]any
	if err := json.Unmarshal(b, &tree); err != nil {
		t.Fatal(err)
	}
	out := map[string]any{}
	var walk func(path string, tree map[string]any)
	walk = func(path string, tree map[string]any) {
		for name, v := range tree {
			if branch, is := v.(map[string]any); is {
				walk(path+name+".", branch)
				continue
			}
			out[path+name] = v
		}
	}
	walk("", tree)
	return out
}

func TestAProbeReportsWhatEachProfileIsAndItsReportIsAProfileThatGivesTheSame(t *testing.T) {
	t.Parallel()
	for _, name := range vspheretest.Profiles() {
		t.Run(string(name), func(t *testing.T) {
			t.Parallel()
			profile, err := name.Report()
			if err != nil {
				t.Fatal(err)
			}
			first := probed(t, like(t, profile), nil)
			want, got := said(t, profile), said(t, first)
			maps.DeleteFunc(got, func(path string, _ any) bool { _, is := want[path]; return !is })
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the profile, and what a probe of it says: -profile +probe\n%s", diff)
			}
			second := probed(t, like(t, first), nil)
			if diff := cmp.Diff(lasting(first), lasting(second)); diff != "" {
				t.Errorf("the report, and that of the lab made of it: -first +second\n%s", diff)
			}
		})
	}
}
