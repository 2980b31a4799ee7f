package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http/httptest"

	"github.com/hyper2kvm/hyper2kvm/client"
	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/memory"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
)

// exports stands in for vSphere: every export takes no time and succeeds.
type exports struct{}

func (exports) Run(context.Context, job.Definition, *progress.Tracker) (job.Result, error) {
	return job.Result{Success: true}, nil
}

func (exports) CleanUp(context.Context, job.Definition, bool, *progress.Tracker) (job.Result, error) {
	return job.Result{}, nil
}

// exampleDaemon is a hyper2kvmd without its process and without vSphere.
func exampleDaemon() (url string, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	manager := jobs.New(memory.New(), exports{}, jobs.Options{})
	ended := make(chan error, 1)
	go func() { ended <- manager.Run(ctx) }()
	srv := httptest.NewServer(api.New(manager, api.Options{}))
	return srv.URL, func() {
		cancel()
		srv.Close()
		if err := <-ended; err != nil {
			log.Fatal(err)
		}
	}
}

// A job is submitted and watched until it has ended.
func Example() {
	url, stop := exampleDaemon()
	defer stop()
	c, err := client.New(url, client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	ctx := context.Background()
	submitted, err := c.Submit(ctx, []job.Definition{{
		VMPath: "/DC0/vm/Production/erp", OutputPath: "/exports/erp",
		Options: job.Options{Format: job.FormatQcow2},
	}}, true)
	if err != nil {
		log.Fatal(err)
	}
	for event, err := range c.Watch(ctx, submitted.JobIDs[0]) {
		if err != nil {
			log.Fatal(err)
		}
		if event.Type == models.EventState && event.Status == models.StatusCompleted {
			fmt.Println("the export is", event.Status)
		}
	}
	_, err = c.Job(ctx, "another")
	fmt.Println("there is no other:", errors.Is(err, client.ErrNotFound))
	// Output:
	// the export is completed
	// there is no other: true
}
