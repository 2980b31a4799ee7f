package api

import (
	"context"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hyper2kvm/hyper2kvm/daemon/audit"
	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// daemonInput is a path with a daemon's id.
type daemonInput struct {
	ID string `path:"id" doc:"Id of the daemon as GET /daemons gives it"`
}

// drainInput is the body of a drain, which may be empty.
type drainInput struct {
	ID      string `path:"id" doc:"Id of the daemon as GET /daemons gives it"`
	RawBody []byte
}

// registerDaemons adds the routes about the daemons on the store.
func (b builder) registerDaemons(a *API) {
	list := b.op("list-daemons", "GET", "/daemons", "The daemons on the store")
	list.Description = "Who shares the queue, what each runs, and when it was last heard of. Without a database of several daemons it is this one."
	huma.Register(b.h, list, a.daemons)

	drain, body := b.withBody(b.op("drain-daemon", "POST", "/daemons/{id}/drain", "Have a daemon run no more jobs"))
	drain.Description = "It claims none from now on, also after a restart, and hands back what it runs, or with wait lets that end. " +
		"Any daemon on the store may be asked for any. Answers at once: GET /daemons tells when it is drained."
	huma.Register(b.h, drain, a.drain)
	body.Content, body.Required = b.json(reflect.TypeFor[models.Drain]()), false

	resume := b.op("resume-daemon", "POST", "/daemons/{id}/resume", "Have a daemon run jobs again")
	resume.Description = "After a drain."
	huma.Register(b.h, resume, a.resumeDaemon)
}

func (a *API) daemons(ctx context.Context, _ *struct{}) (*reply[models.Daemons], error) {
	return answered(a.Daemons(ctx))
}

// Daemons is the answer to GET /daemons.
func (a *API) Daemons(ctx context.Context) (models.Daemons, error) {
	out := models.Daemons{Daemons: []models.Daemon{}, Timestamp: a.now()}
	if err := a.need(ctx, "GET /daemons"); err != nil {
		return out, err
	}
	all, self, err := a.jobs.Daemons(ctx)
	if err != nil {
		return out, a.fail(ctx, "daemons", err)
	}
	for _, d := range all {
		out.Daemons = append(out.Daemons, shownDaemon(d, self))
	}
	return out, nil
}

// shownDaemon is a daemon as the API gives it.
func shownDaemon(d jobs.Daemon, self string) models.Daemon {
	shown := models.Daemon{
		ID: d.ID, Host: d.Host, Version: d.Version, Labels: d.Labels, State: d.State(), Drain: string(d.Drain),
		Self: d.ID == self, StartedAt: d.Started, LastHeartbeat: d.LastBeat, JobIDs: d.Jobs,
	}
	if shown.Labels == nil {
		shown.Labels = job.Labels{}
	}
	if shown.JobIDs == nil {
		shown.JobIDs = []string{}
	}
	return shown
}

func (a *API) drain(ctx context.Context, in *drainInput) (*reply[models.Daemon], error) {
	var d models.Drain
	if len(in.RawBody) > 0 {
		if err := decodeJSON(in.RawBody, &d); err != nil {
			return nil, err
		}
	}
	return answered(a.Drain(ctx, in.ID, d))
}

// Drain does what POST /daemons/{id}/drain does.
func (a *API) Drain(ctx context.Context, id string, d models.Drain) (models.Daemon, error) {
	how := jobs.DrainNow
	if d.Wait {
		how = jobs.DrainWait
	}
	return a.order(ctx, "POST /daemons/{id}/drain", audit.Entry{Action: audit.DrainDaemon, Target: id, Value: string(how)}, how)
}

func (a *API) resumeDaemon(ctx context.Context, in *daemonInput) (*reply[models.Daemon], error) {
	return answered(a.ResumeDaemon(ctx, in.ID))
}

// ResumeDaemon does what POST /daemons/{id}/resume does.
func (a *API) ResumeDaemon(ctx context.Context, id string) (models.Daemon, error) {
	return a.order(ctx, "POST /daemons/{id}/resume", audit.Entry{Action: audit.ResumeDaemon, Target: id}, jobs.DrainNone)
}

// order asks for the daemon to be drained or to go on that the entry is about.
func (a *API) order(ctx context.Context, route string, e audit.Entry, how jobs.Drain) (models.Daemon, error) {
	if err := a.need(ctx, route); err != nil {
		return models.Daemon{}, err
	}
	err := a.audited(ctx, e, func() error {
		if err := a.jobs.Drain(ctx, e.Target, how); err != nil {
			return a.fail(ctx, "daemon", err)
		}
		return nil
	})
	if err != nil {
		return models.Daemon{}, err
	}
	all, err := a.Daemons(ctx)
	if err != nil {
		return models.Daemon{}, err
	}
	for _, d := range all.Daemons {
		if d.ID == e.Target {
			return d, nil
		}
	}
	return models.Daemon{}, a.fail(ctx, "daemon", jobs.ErrNoDaemon) // it has just left
}
