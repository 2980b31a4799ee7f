package models_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
)

func TestWhatIsFalseOrNotThereYetIsWrittenOut(t *testing.T) {
	t.Parallel()
	text, err := json.Marshal(models.Job{Definition: job.Definition{VMPath: "/a"}.WithDefaults()})
	if err != nil {
		t.Fatal(err)
	}
	var j, definition, options map[string]json.RawMessage
	if text, err := json.Marshal(models.Job{Error: "no space"}); err != nil || !strings.Contains(string(text), `"error":"no space"`) {
		t.Errorf("a job that failed: %s, %v", text, err)
	}
	read := func(from []byte, to *map[string]json.RawMessage) {
		t.Helper()
		if err := json.Unmarshal(from, to); err != nil {
			t.Fatal(err)
		}
	}
	read(text, &j)
	read(j["definition"], &definition)
	read(definition["options"], &options)
	for key, want := range map[string]string{"error": "null", "result": "null", "started_at": "null", "completed_at": "null"} {
		if got := string(j[key]); got != want {
			t.Errorf("%s = %q, want %s", key, got, want)
		}
	}
	if got := string(definition["insecure"]); got != "false" {
		t.Errorf("insecure = %q, want false", got)
	}
	for _, key := range []string{"remove_cdrom", "show_individual_progress", "snapshot", "virtio", "compress", "overwrite"} {
		if got := string(options[key]); got != "false" {
			t.Errorf("options.%s = %q, want false", key, got)
		}
	}
	if got := string(options["retries"]); got != "0" {
		t.Errorf("options.retries = %q, want 0", got)
	}
}
