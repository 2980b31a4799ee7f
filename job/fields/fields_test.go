package fields_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/job/fields"
)

func TestEveryOptionOfAJobIsAskedForOnce(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{"show_individual_progress": true}
	for _, f := range fields.All() {
		if seen[f.Key] {
			t.Errorf("%s twice", f.Key)
		}
		seen[f.Key] = true
		if f.Label == "" || f.Kind == fields.Choice && len(f.Choices) < 2 || f.Kind == fields.Number && f.Most <= f.Least {
			t.Errorf("%+v", f)
		}
	}
	text, err := json.Marshal(job.Options{
		ParallelDownloads: 1, Format: "x", Verify: "x", Transport: "x", Limit: "x", ShutdownTimeout: "x", Finish: "x", For: "x",
		NetworkMap: map[string]string{"a": "b"},
		Landing:    job.Landing{Libvirt: "x", Pool: "x", Define: true, Start: true, OnCollision: "x"},
	})
	var keys map[string]any
	if err := errors.Join(err, json.Unmarshal(text, &keys)); err != nil {
		t.Fatal(err)
	}
	for key := range keys {
		if !seen[key] {
			t.Errorf("%s is not asked for", key)
		}
	}
	if len(keys) < 20 {
		t.Errorf("only %d options", len(keys))
	}
}

// answers are those of a form that gives o.
func answers(o job.Options) func(string) string {
	return func(key string) string { return fields.Of(key).Answer(o) }
}

func TestAnswersGiveTheOptionsThatTheyWereMadeOf(t *testing.T) {
	t.Parallel()
	for _, o := range []job.Options{
		{},
		{Format: job.FormatQcow2, ParallelDownloads: 7, Compress: true, Transport: job.TransportAuto},
		{
			Format: job.FormatRaw, Snapshot: true, Shutdown: true, PowerOff: true, RemoveCDROM: true, Virtio: true, Overwrite: true,
			Verify: job.VerifyFull, Retries: 3, Limit: "200MB/s", ShutdownTimeout: "10m", Finish: "tag,rename", For: "proxmox",
			NetworkMap: map[string]string{"VM Network": "default", "*": "bridge:br0"},
			Landing:    job.Landing{Libvirt: "qemu:///system", Pool: "default", Define: true, Start: true, OnCollision: job.CollisionSuffix},
		},
	} {
		got, err := fields.Read(answers(o))
		if diff := cmp.Diff(o, got); err != nil || diff != "" {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	}
}

func TestAnAnswerThatCannotBeReadIsAProblemOfItsField(t *testing.T) {
	t.Parallel()
	for key, text := range map[string]string{"parallel_downloads": "many", "retries": "1.5", "network_map": "nothing"} {
		_, err := fields.Read(func(k string) string {
			if k == key {
				return text
			}
			return ""
		})
		var invalid *job.ValidationError
		if !errors.As(err, &invalid) || invalid.Problems[0].Field != "options."+key || strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", key, err)
		}
	}
}

func TestEveryChoiceThatIsOfferedIsTaken(t *testing.T) {
	t.Parallel()
	for _, f := range fields.All() {
		for _, choice := range f.Choices {
			o, err := fields.Read(func(key string) string {
				switch {
				case key == f.Key:
					return choice
				case key == "format":
					return string(job.FormatQcow2)
				case f.Key == "on_collision" && key == "libvirt":
					return "qemu:///system"
				case f.Key == "on_collision" && key == "define":
					return "on"
				}
				return ""
			})
			if err == nil {
				err = job.Definition{VMPath: "/vm", OutputPath: "/out", Options: o}.WithDefaults().Validate()
			}
			if err != nil {
				t.Errorf("%s %q: %v", f.Key, choice, err)
			}
		}
	}
}
