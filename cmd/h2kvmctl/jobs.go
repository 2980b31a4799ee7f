package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/hyper2kvm/hyper2kvm/client"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/progress/display"
)

func (a *app) cancelCommand() *cli.Command {
	return &cli.Command{
		Name: "cancel", Usage: "cancel jobs, and return when they have really ended",
		Flags: []cli.Flag{
			idFlag(),
			&cli.BoolFlag{Name: "keep-parts", Usage: "keep part files, so that a retry resumes from them"},
		},
		Action: a.with(a.cancel),
	}
}

func (a *app) cancel(ctx context.Context, cmd *cli.Command, c *client.Client) error {
	all, err := ids(ctx, cmd, c)
	if err != nil {
		return err
	}
	told := a.tellWaiting(ctx, c, all)
	r, err := c.Cancel(ctx, all, cmd.Bool("keep-parts"))
	told()
	if err != nil {
		return err
	}
	if a.JSON {
		if err := a.PrintJSON(r); err != nil {
			return err
		}
	} else {
		for _, id := range r.Cancelled {
			a.Info("- Job ID: %s", display.SafeText(id))
		}
		for _, id := range r.Failed {
			a.Error("%s: %s", display.SafeText(id), display.SafeText(r.Errors[id]))
		}
		if len(r.Cancelled) > 0 {
			a.Success("Cancelled %d job(s)", len(r.Cancelled))
		}
	}
	if len(r.Failed) > 0 {
		return toldError{fmt.Errorf("%d jobs were not cancelled: %w", len(r.Failed), client.ErrRejected)}
	}
	return nil
}

// tellWaiting says of each job, while it is being cancelled, what it waits for,
// once. It ends when the function that it returns is called.
func (a *app) tellWaiting(ctx context.Context, c *client.Client, ids []string) (end func()) {
	if a.JSON {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		look := time.NewTicker(2 * time.Second)
		defer look.Stop()
		told := make(map[string]bool)
		for {
			select {
			case <-ctx.Done():
				return
			case <-look.C:
			}
			r, err := c.Query(ctx, models.Query{JobIDs: ids})
			if err != nil {
				continue // the cancel itself will say it
			}
			for _, j := range r.Jobs {
				if id := j.Definition.ID; j.WaitingFor != "" && !told[id] {
					told[id] = true
					a.Info("%s: %s", shortID(id), display.SafeText(j.WaitingFor))
				}
			}
		}
	}()
	return func() { cancel(); <-ended }
}

func (a *app) deleteCommand() *cli.Command {
	return &cli.Command{
		Name: "delete", Usage: "forget finished jobs; the files they made stay",
		Flags:  []cli.Flag{idFlag()},
		Action: a.with(a.delete),
	}
}

func (a *app) delete(ctx context.Context, cmd *cli.Command, c *client.Client) error {
	all, err := ids(ctx, cmd, c)
	if err != nil {
		return err
	}
	n := 0
	err = a.each(all, func(id string) error {
		err := c.Delete(ctx, id)
		if err == nil {
			n++
		}
		return err
	})
	if n > 0 && !a.JSON {
		a.Success("Deleted %d job(s)", n)
	}
	return err
}

// each calls f for every id, says which failed and why, and goes on after
// answers of the daemon; anything else ends it. It returns the last error.
func (a *app) each(ids []string, f func(id string) error) error {
	var last error
	for _, id := range ids {
		err := f(id)
		var answer *client.Error
		switch {
		case err == nil:
		case errors.As(err, &answer):
			a.Error("%s: %s", display.SafeText(id), display.SafeText(err.Error()))
			last = toldError{err}
		default:
			return err
		}
	}
	return last
}
