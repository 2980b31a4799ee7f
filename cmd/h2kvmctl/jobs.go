package main

import (
	"context"
	"errors"
	"fmt"

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
			&cli.BoolFlag{Name: "keep-parts", Usage: "keep part files, so that a retry goes on from them"},
		},
		Action: a.with(a.cancel),
	}
}

func (a *app) cancel(ctx context.Context, cmd *cli.Command, c *client.Client) error {
	all, err := ids(ctx, cmd, c)
	if err != nil {
		return err
	}
	r, err := c.Cancel(ctx, all, cmd.Bool("keep-parts"))
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

func (a *app) retryCommand() *cli.Command {
	return &cli.Command{
		Name: "retry", Usage: "queue failed or cancelled jobs again; they go on from what is on disk",
		Flags: []cli.Flag{
			idFlag(),
			&cli.BoolFlag{Name: "watch", Usage: "follow the jobs until they have ended"},
		},
		Action: a.with(a.retry),
	}
}

func (a *app) retry(ctx context.Context, cmd *cli.Command, c *client.Client) error {
	all, err := ids(ctx, cmd, c)
	if err != nil {
		return err
	}
	var queued []models.Job
	err = a.each(all, func(id string) error {
		j, err := c.Retry(ctx, id)
		if err == nil {
			queued = append(queued, j)
		}
		return err
	})
	if a.JSON {
		if jerr := a.PrintJSON(queued); jerr != nil {
			return jerr
		}
	} else if len(queued) > 0 {
		a.Success("Queued %d job(s) again", len(queued))
	}
	if cmd.Bool("watch") && len(queued) > 0 {
		following := make([]string, len(queued))
		for i, j := range queued {
			following[i] = j.Definition.ID
		}
		if werr := a.watchJobs(ctx, c, following); werr != nil {
			return werr
		}
	}
	return err
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
