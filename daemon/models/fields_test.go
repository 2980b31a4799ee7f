package models_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
)

// fill sets every field to something that is not its zero value.
func fill(v reflect.Value) {
	for i := range v.NumField() {
		switch f := v.Field(i); f.Interface().(type) {
		case string:
			f.SetString("x")
		case models.Format, models.Transport:
			f.SetString("qcow2")
		case bool:
			f.SetBool(true)
		case int:
			f.SetInt(1)
		case time.Time:
			f.Set(reflect.ValueOf(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)))
		default:
			fill(f)
		}
	}
}

func TestEveryFieldOfAJobMayStandInAJobFile(t *testing.T) {
	t.Parallel()
	var want models.JobDefinition
	fill(reflect.ValueOf(&want).Elem())
	file, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	batch, err := models.DecodeJobs(strings.NewReader(string(file)), "application/json")
	if err != nil {
		t.Fatalf("%v\n%s", err, file)
	}
	if diff := cmp.Diff([]models.JobDefinition{want}, batch.Jobs); diff != "" {
		t.Error(diff)
	}
}

func TestWhatIsFalseOrNotThereYetIsWrittenOut(t *testing.T) {
	t.Parallel()
	text, err := json.Marshal(models.Job{Definition: models.JobDefinition{VMPath: "/a"}.WithDefaults()})
	if err != nil {
		t.Fatal(err)
	}
	var job, definition, options map[string]json.RawMessage
	if text, err := json.Marshal(models.Job{Error: "no space"}); err != nil || !strings.Contains(string(text), `"error":"no space"`) {
		t.Errorf("a job that failed: %s, %v", text, err)
	}
	read := func(from []byte, to *map[string]json.RawMessage) {
		t.Helper()
		if err := json.Unmarshal(from, to); err != nil {
			t.Fatal(err)
		}
	}
	read(text, &job)
	read(job["definition"], &definition)
	read(definition["options"], &options)
	for key, want := range map[string]string{"error": "null", "result": "null", "started_at": "null", "completed_at": "null"} {
		if got := string(job[key]); got != want {
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
