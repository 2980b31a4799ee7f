package job_test

import (
	"strings"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/job"
)

func TestAWayBackIsAskedForByItself(t *testing.T) {
	t.Parallel()
	back := job.Rollback{Back: true}
	for name, c := range map[string]struct {
		options job.Options
		field   string // that is wrong; "" is none
	}{
		"alone":                       {job.Options{Rollback: back}, ""},
		"with the libvirt to ask":     {job.Options{Rollback: back, Landing: job.Landing{Libvirt: "qemu:///system"}}, ""},
		"with what each job has":      {job.Options{Rollback: back, Retries: 2, ParallelDownloads: 8, NetworkMap: map[string]string{}}, ""},
		"with its own":                {job.Options{Rollback: job.Rollback{Back: true, StopTimeout: "90s", TargetIsStopped: true}}, ""},
		"a time that is none":         {job.Options{Rollback: job.Rollback{Back: true, StopTimeout: "soon"}}, "options.stop_timeout"},
		"another machine":             {job.Options{Rollback: back, Landing: job.Landing{Libvirt: "qemu+ssh://h/system"}}, "options.libvirt"},
		"with a shutdown":             {job.Options{Rollback: back, Shutdown: true}, "options.rollback"},
		"with a format":               {job.Options{Rollback: back, Format: job.FormatRaw}, "options.rollback"},
		"with a start":                {job.Options{Rollback: back, Landing: job.Landing{Libvirt: "qemu:///system", Start: true}}, "options.rollback"},
		"with a mark":                 {job.Options{Rollback: back, Finish: "tag"}, "options.rollback"},
		"its options without it":      {job.Options{Rollback: job.Rollback{TargetIsStopped: true}}, "options.rollback"},
		"its time without it":         {job.Options{Rollback: job.Rollback{StopTimeout: "5m"}}, "options.rollback"},
		"overwriting with a way back": {job.Options{Rollback: back, Overwrite: true}, "options.rollback"},
	} {
		def := job.Definition{VMPath: "vm", OutputPath: "/out", Options: c.options}
		err := def.WithDefaults().Validate()
		if (err == nil) != (c.field == "") || err != nil && !strings.Contains(err.Error(), c.field) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if d := back.StopWait(); d != 5*time.Minute {
		t.Errorf("a guest has %s", d)
	}
}
