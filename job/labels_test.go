package job_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hyper2kvm/hyper2kvm/job"
)

func TestAJobSuitsADaemonThatHasAllThatItAsksFor(t *testing.T) {
	t.Parallel()
	daemon := job.Labels{"site": "dc1", "rack": "7"}
	for what, tt := range map[string]struct {
		constraint job.Labels
		want       bool
	}{
		"nothing":                        {nil, true},
		"its site":                       {job.Labels{"site": "dc1"}, true},
		"all of it":                      {job.Labels{"site": "dc1", "rack": "7"}, true},
		"another site":                   {job.Labels{"site": "dc2"}, false},
		"a site of which it is a prefix": {job.Labels{"site": "dc10"}, false},
		"its site and more":              {job.Labels{"site": "dc1", "fast": "yes"}, false},
		"a key in other letters":         {job.Labels{"Site": "dc1"}, false},
	} {
		if got := daemon.Suits(tt.constraint); got != tt.want {
			t.Errorf("a job that asks for %s: %v, want %v", what, got, tt.want)
		}
	}
	if (job.Labels)(nil).Suits(job.Labels{"site": "dc1"}) {
		t.Error("a daemon without labels suits a job that asks for a site")
	}
}

func TestLabelsAreReadFromACommandLine(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]job.Labels{
		"":                         nil,
		"  ":                       nil,
		"site=dc1":                 {"site": "dc1"},
		" site = dc1 , rack=7":     {"site": "dc1", "rack": "7"},
		"example.com/site=a_b-c.d": {"example.com/site": "a_b-c.d"},
	} {
		got, err := job.ParseLabels(text)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("ParseLabels(%q): %v\n%s", text, err, diff)
		}
	}
	for _, text := range []string{"site", "=dc1", "site=", "site=dc1,", ",", "site=dc1,site=dc2", "site=dc1=", "a b=c", "a=<b>", "a=ü", "a=" + strings.Repeat("x", 64)} {
		if got, err := job.ParseLabels(text); err == nil {
			t.Errorf("ParseLabels(%q) = %v, want an error", text, got)
		}
	}
	if got := (job.Labels{"site": "dc1", "rack": "7"}).String(); got != "rack=7, site=dc1" {
		t.Errorf("labels are written as %q", got)
	}
}

func TestTheConstraintOfAJobIsChecked(t *testing.T) {
	t.Parallel()
	many := make(job.Labels)
	for i := range job.MaxLabels + 1 {
		many[fmt.Sprint(i)] = "x"
	}
	for what, tt := range map[string]struct {
		constraint job.Labels
		wrong      bool
	}{
		"none":            {nil, false},
		"a site":          {job.Labels{"site": "dc1"}, false},
		"an empty value":  {job.Labels{"site": ""}, true},
		"an odd letter":   {job.Labels{"site": "dc1>"}, true},
		"a line feed":     {job.Labels{"site\n": "dc1"}, true},
		"more than a few": {many, true},
	} {
		def := job.Definition{VMPath: "vm", OutputPath: "/out", Constraint: tt.constraint}.WithDefaults()
		err := def.Validate()
		if (err != nil) != tt.wrong || err != nil && !strings.Contains(err.Error(), "constraint: ") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
