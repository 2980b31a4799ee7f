package jobfile_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/job/jobfile"
)

func TestTheNetworkMapOfAJobFileIsReadStrictly(t *testing.T) {
	t.Parallel()
	const head = "vm_path: /v\noutput_path: /o\noptions:\n  format: qcow2\n  network_map:"
	batch, err := jobfile.Decode(strings.NewReader(head+"\n    VM Network: default\n    2019: 0123\n"), yamlType)
	if err != nil {
		t.Fatal(err)
	}
	if want := map[string]string{"VM Network": "default", "2019": "0123"}; !maps.Equal(batch.Jobs[0].Options.NetworkMap, want) {
		t.Errorf("read %q", batch.Jobs[0].Options.NetworkMap)
	}
	for text, parts := range map[string][]string{
		" default":                      {"line 5", "options.network_map", "want keys and values"},
		" [a, b]":                       {"options.network_map", "want keys and values"},
		"\n    DMZ: [s3cret]":           {"line 6", `options.network_map["DMZ"]`, "want text"},
		"\n    DMZ: {s3cret: x}":        {"line 6", `options.network_map["DMZ"]`, "want text"},
		"\n    DMZ:":                    {"line 6", `"DMZ" has no value`},
		"\n    DMZ: s3cret\n    DMZ: b": {"line 7", `"DMZ"`, "in line 6 already"},
		"\n    ? [x]\n    : s3cret":     {"a key must be plain text"},
		"\n    DMZ: \"s3cret\\0\"":      {"NUL"},
	} {
		_, err := jobfile.Decode(strings.NewReader(head+text+"\n"), yamlType)
		if err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: %v", text, err)
			continue
		}
		for _, part := range parts {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q: %q is not in %v", text, part, err)
			}
		}
	}
	_, err = jobfile.Decode(strings.NewReader(`{"vm_path": "/v", "output_path": "/o", "options": {"network_map": {"DMZ": 7}}}`), jsonType)
	if err == nil || !strings.Contains(err.Error(), `options.network_map["DMZ"]`) {
		t.Errorf("a number in JSON: %v", err)
	}
}
