package config_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hyper2kvm/hyper2kvm/daemon/config"
	"github.com/hyper2kvm/hyper2kvm/job"
)

func TestLabelsOfTheDaemonAreRead(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]job.Labels{
		"":                                     nil,
		"labels: {}\n":                         {},
		"labels: {site: dc1}\n":                {"site": "dc1"},
		"labels:\n  site: dc1\n  rack: 0017\n": {"site": "dc1", "rack": "0017"},
	} {
		got, err := config.Decode(strings.NewReader(in), "c.yaml")
		if diff := cmp.Diff(want, got.Labels); err != nil || diff != "" {
			t.Errorf("%q: %v (-want +got):\n%s", in, err, diff)
		}
	}
	for _, in := range []string{"labels: {site: }", "labels: {site: ''}", "labels: {'': dc1}", "labels: {site: [hunter2]}", "labels: {si te: hunter2}", "labels: [hunter2]",
		"labels: hunter2", "labels: {site: dc1, site: hunter2}", "labels: {site: 'a>b'}"} {
		_, err := config.Decode(strings.NewReader(in), "c.yaml")
		if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "l") {
			t.Errorf("%q: %v", in, err)
		}
	}
}
