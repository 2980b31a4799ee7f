package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/client"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
	"github.com/hyper2kvm/hyper2kvm/progress/display"
	"github.com/hyper2kvm/hyper2kvm/units"
)

func (a *app) watchCommand() *cli.Command {
	return &cli.Command{
		Name: "watch", Usage: "follow jobs until they have ended; fails when one of them did",
		Flags: []cli.Flag{
			idFlag(),
			&cli.BoolFlag{Name: "all", Usage: "every job that is pending or running now"},
		},
		Action: a.with(a.watch),
	}
}

func (a *app) watch(ctx context.Context, cmd *cli.Command, c *client.Client) error {
	if !cmd.Bool("all") {
		all, err := ids(ctx, cmd, c)
		if err != nil {
			return err
		}
		return a.watchJobs(ctx, c, all)
	}
	var all []string
	for page, err := range c.QueryPages(ctx, models.Query{Status: []models.Status{models.StatusPending, models.StatusRunning}}) {
		if err != nil {
			return err
		}
		for _, j := range page.Jobs {
			all = append(all, j.Definition.ID)
		}
	}
	if len(all) == 0 && !a.JSON {
		a.Info("No job is pending or running")
	}
	return a.watchJobs(ctx, c, all)
}

// watched is an event of one of several jobs, or the end of its stream.
type watched struct {
	id    string
	event models.Event
	err   error
	end   bool
}

// view shows watched events. It is used by one goroutine.
type view interface {
	show(w watched)
	close()
}

// watchJobs follows jobs side by side until all have ended. It fails when one
// did not complete, or could not be watched.
func (a *app) watchJobs(ctx context.Context, c *client.Client, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	names, err := jobNames(ctx, c, ids)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := make(chan watched)
	var streams sync.WaitGroup
	for _, id := range ids {
		streams.Go(func() { follow(ctx, c, id, events) })
	}
	defer streams.Wait() // after cancel
	defer cancel()

	v := a.view(names, ids)
	defer v.close()
	outcome := make(map[string]models.Status, len(ids))
	var failed error
	for open := len(ids); open > 0; {
		w := <-events
		switch {
		case w.end:
			open--
		case w.err == nil && w.event.Type == models.EventState:
			outcome[w.id] = w.event.Status
		case w.err != nil && failed == nil:
			failed = w.err
		}
		v.show(w)
	}
	return watchOutcome(ids, outcome, failed)
}

// follow passes a job's events on, and an end mark last, which is always
// taken: watchJobs counts them.
func follow(ctx context.Context, c *client.Client, id string, to chan<- watched) {
	for ev, err := range c.Watch(ctx, id) {
		to <- watched{id: id, event: ev, err: err}
	}
	to <- watched{id: id, end: true}
}

func watchOutcome(ids []string, outcome map[string]models.Status, failed error) error {
	if failed != nil {
		return failed
	}
	bad := 0
	for _, id := range ids {
		if outcome[id] != models.StatusCompleted {
			bad++
		}
	}
	if bad > 0 {
		return toldError{fmt.Errorf("%d of %d jobs did not complete", bad, len(ids))}
	}
	return nil
}

func jobNames(ctx context.Context, c *client.Client, ids []string) (map[string]string, error) {
	names := make(map[string]string, len(ids))
	for page, err := range c.QueryPages(ctx, models.Query{JobIDs: ids}) {
		if err != nil {
			return nil, err
		}
		for _, j := range page.Jobs {
			names[j.Definition.ID] = display.SafeText(j.Definition.Name)
		}
	}
	for _, id := range ids {
		if _, ok := names[id]; !ok {
			return nil, fmt.Errorf("job %s: %w", display.SafeText(id), client.ErrNotFound)
		}
	}
	return names, nil
}

func (a *app) view(names map[string]string, ids []string) view {
	switch {
	case a.JSON:
		return jsonView{enc: json.NewEncoder(a.Out)}
	case a.TTY:
		return newLive(a.Printer, names, ids)
	}
	return &plainView{out: a.Out, names: names, tenth: map[string]int{}}
}

// jsonView prints an event a line, as {"job_id": …, "event": {…}}.
type jsonView struct{ enc *json.Encoder }

func (v jsonView) close() {}

func (v jsonView) show(w watched) {
	if w.end || w.err != nil {
		return
	}
	_ = v.enc.Encode(struct {
		JobID string       `json:"job_id"`
		Event models.Event `json:"event"`
	}{w.id, w.event}) // a closed pipe ends the command by itself
}

// plainView prints a line for each state and log event, and for every ten per
// cent.
type plainView struct {
	out   io.Writer
	names map[string]string
	tenth map[string]int // by job, the last ten per cent told
}

func (v *plainView) close() {}

func (v *plainView) show(w watched) {
	if w.end || w.err != nil {
		return
	}
	if p := w.event.Progress; w.event.Type == models.EventProgress {
		if p == nil || int(p.PercentComplete)/10 <= v.tenth[w.id] {
			return
		}
		v.tenth[w.id] = int(p.PercentComplete) / 10
	}
	fmt.Fprintf(v.out, "%s %s %s\n", shortID(w.id), v.names[w.id], eventText(w.event))
}

// eventText is one event as a line for people.
func eventText(e models.Event) string {
	switch e.Type {
	case models.EventState:
		s := display.SafeText(string(e.Status))
		if e.Phase != "" && e.Phase != string(e.Status) {
			s += ": " + display.SafeText(e.Phase)
		}
		if e.Error != "" {
			s += ": " + display.SafeText(e.Error)
		}
		return s
	case models.EventLog:
		s := display.SafeText(e.Text)
		if e.File != "" {
			s = display.SafeText(e.File) + ": " + s
		}
		if e.Level != "" && e.Level != "info" {
			s = display.SafeText(e.Level) + ": " + s
		}
		return s
	}
	p := e.Progress
	if p == nil {
		return ""
	}
	s := progressText(p)
	if p.TotalBytes > 0 {
		s += " " + units.Bytes(p.BytesDownloaded) + " received"
	}
	if p.EstimatedRemaining != "" {
		s += ", " + display.SafeText(p.EstimatedRemaining) + " left"
	}
	return s
}

func (a *app) logsCommand() *cli.Command {
	return &cli.Command{
		Name: "logs", Usage: "show what happened to a job",
		Flags: []cli.Flag{
			idFlag(),
			&cli.BoolFlag{Name: "follow", Usage: "go on until the job has ended"},
		},
		Action: a.with(a.logs),
	}
}

func (a *app) logs(ctx context.Context, cmd *cli.Command, c *client.Client) error {
	all, err := ids(ctx, cmd, c)
	if err != nil {
		return err
	}
	if len(all) != 1 {
		return cliargs.Usage("logs takes one job id")
	}
	seq := c.Watch(ctx, all[0])
	if !cmd.Bool("follow") {
		seq = c.Log(ctx, all[0])
	}
	enc := json.NewEncoder(a.Out)
	for ev, err := range seq {
		switch {
		case err != nil:
			return err
		case ev.Type == models.EventProgress:
		case a.JSON:
			if err := enc.Encode(ev); err != nil {
				return err
			}
		default:
			fmt.Fprintf(a.Out, "%s %s\n", ev.Time.Local().Format(timeLayout), eventText(ev))
		}
	}
	return nil
}
