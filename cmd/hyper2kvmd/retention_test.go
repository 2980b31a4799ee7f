package main

import (
	"errors"
	"slices"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/audit"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/memory"
	"github.com/hyper2kvm/hyper2kvm/job"
)

func TestWhatTheDaemonForgetsIsInTheAuditLogAsItsOwnDoing(t *testing.T) {
	t.Parallel()
	log := audit.New(new(memory.Audit), "", nil)
	old := []models.Job{{Definition: job.Definition{ID: "a", VMPath: "/dc/vm/a"}}, {Definition: job.Definition{ID: "b"}}}
	tell, err := forgetting(log)(t.Context(), old)
	if err != nil {
		t.Fatal(err)
	}
	tell([]string{"a"}, errors.New("the disk is full"))
	records, err := log.Page(t.Context(), 0, 10)
	if err != nil || len(records) != 2 {
		t.Fatalf("%d entries, %v", len(records), err)
	}
	result, err := records[0].Entry()
	if err != nil || result.Of != 1 || result.Done != 1 || !slices.Equal(result.Failed, []string{"b"}) || result.Error == "" {
		t.Errorf("the result is %+v, %v", result, err)
	}
	first, err := records[1].Entry()
	if err != nil || first.Action != audit.Expire || first.Via != access.ViaDaemon || len(first.Jobs) != 2 || first.Jobs[0].VM != "/dc/vm/a" {
		t.Errorf("the first entry is %+v, %v", first, err)
	}
}
