package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/audit"
	"github.com/hyper2kvm/hyper2kvm/daemon/config"
	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/daemon/watch"
)

// retention is for how long jobs are kept, as [jobs.Options] has it.
func (s settings) retention() jobs.Retention {
	r := s.config.Retention
	span := func(d *config.Duration) time.Duration {
		if d == nil {
			return 0
		}
		return time.Duration(*d)
	}
	failed := r.Failed
	if failed == nil {
		failed = r.Jobs
	}
	return jobs.Retention{Jobs: span(r.Jobs), Failed: span(failed), Events: span(r.Events), MaxJobs: int(r.MaxJobs)}
}

// forgetting writes into the audit log which jobs the daemon forgets.
func forgetting(l *audit.Log) jobs.Forgetting {
	return func(ctx context.Context, old []models.Job) (func([]string, error), error) {
		e := audit.Entry{Action: audit.Expire, From: fmt.Sprintf("uid %d, pid %d", os.Getuid(), os.Getpid()), Value: "retention"}
		for _, j := range old {
			e.Jobs = append(e.Jobs, audit.Job{ID: j.Definition.ID, VM: j.Definition.VMPath, Output: j.Definition.OutputPath})
		}
		change, err := l.Begin(asDaemon(ctx), e)
		if err != nil {
			return nil, err
		}
		return func(ids []string, err error) {
			// An entry that cannot be written is logged.
			_ = change.End(asDaemon(ctx), audit.Entry{Done: len(ids), Failed: without(e.Jobs, ids), Error: textOf(err)})
		}, nil
	}
}

// without are the ids of jobs that are not among done.
func without(all []audit.Job, done []string) []string {
	gone := make(map[string]bool, len(done))
	for _, id := range done {
		gone[id] = true
	}
	var left []string
	for _, j := range all {
		if !gone[j.ID] {
			left = append(left, j.ID)
		}
	}
	return left
}

// asDaemon is a context of what the daemon does by itself.
func asDaemon(ctx context.Context) context.Context {
	return access.WithPrincipal(ctx, access.Principal{Name: "hyper2kvmd", Role: access.Admin, Via: access.ViaDaemon})
}

// minFree is how many bytes a file system must have for a new job to be begun there.
func (s settings) minFree() int64 {
	n, _ := s.config.Limits.MinFree() // it was checked
	return cmp.Or(n, watch.DefaultMinFree)
}
