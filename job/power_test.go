package job_test

import (
	"strings"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/job"
)

func TestTheTimeToShutDownIsJudged(t *testing.T) {
	t.Parallel()
	for text, good := range map[string]bool{
		"": true, "1s": true, "90s": true, "10m": true, "24h": true,
		"0": false, "500ms": false, "-1m": false, "25h": false, "5": false, "five minutes": false, "1e9h": false,
	} {
		def := job.Definition{VMPath: "vm", OutputPath: "/out", Options: job.Options{Shutdown: true, ShutdownTimeout: text}}
		err := def.WithDefaults().Validate()
		if (err == nil) != good || err != nil && !strings.Contains(err.Error(), "options.shutdown_timeout") {
			t.Errorf("%q: %v", text, err)
		}
	}
	def := job.Definition{VMPath: "vm", OutputPath: "/out", Options: job.Options{PowerOff: true, ShutdownTimeout: "5m"}}
	if err := def.WithDefaults().Validate(); err == nil {
		t.Error("a time to shut down without a shutdown makes no sense")
	}
	if d := (job.Options{Shutdown: true}).ShutdownWait(); d != 5*time.Minute {
		t.Errorf("left out, it is %s", d)
	}
}

func TestWhatAJobFinishesWithIsJudged(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"": 0, "nothing": 0, "tag": 1, "tag,rename": 2, "disconnect, rename ,tag": 3, "tag,tag": 1,
		"nothing,tag": -1, "destroy": -1, "tag,": -1, ",": -1, "TAG": -1,
	} {
		def := job.Definition{VMPath: "vm", OutputPath: "/out", Options: job.Options{Finish: text}}
		err := def.WithDefaults().Validate()
		if (err == nil) != (want >= 0) || err != nil && !strings.Contains(err.Error(), "options.finish") {
			t.Errorf("%q: %v", text, err)
		}
		if n := len(def.Options.Finishes()); want >= 0 && n != want {
			t.Errorf("%q: %v", text, def.Options.Finishes())
		}
	}
}
