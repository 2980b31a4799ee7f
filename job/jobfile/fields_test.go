package jobfile_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/job/jobfile"
)

// fill sets every field to something that is not its zero value.
func fill(v reflect.Value) {
	for i := range v.NumField() {
		switch f := v.Field(i); f.Interface().(type) {
		case string:
			f.SetString("x")
		case job.Format, job.Transport, job.Verify, job.OnCollision:
			f.SetString("qcow2")
		case bool:
			f.SetBool(true)
		case map[string]string:
			f.Set(reflect.ValueOf(map[string]string{"VM Network": "default", "=, ü": "bridge:br0"}))
		case job.Labels:
			f.Set(reflect.ValueOf(job.Labels{"site": "dc1", "rack": "7"}))
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
	var want job.Definition
	fill(reflect.ValueOf(&want).Elem())
	file, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	batch, err := jobfile.Decode(strings.NewReader(string(file)), "application/json")
	if err != nil {
		t.Fatalf("%v\n%s", err, file)
	}
	if diff := cmp.Diff([]job.Definition{want}, batch.Jobs); diff != "" {
		t.Error(diff)
	}
}
