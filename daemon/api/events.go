package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
)

type eventsInput struct {
	ID          string `path:"id" doc:"Id of the job"`
	LastEventID int64  `header:"Last-Event-ID" minimum:"0" doc:"Leave out events up to this id"`
	Follow      bool   `query:"follow" default:"true" doc:"Go on until the job has ended; false ends after the events kept now"`
}

// events follows a job. The stream ends cleanly only when the job has ended;
// whatever else ends it cuts the connection, so that a client can tell.
func (a *API) events(ctx context.Context, in *eventsInput) (*huma.StreamResponse, error) {
	job, err := a.jobs.Get(ctx, in.ID)
	if err != nil {
		return nil, a.fail(ctx, "watch", err)
	}
	watch, err := a.jobs.Watch(ctx, in.ID, in.LastEventID)
	if err != nil {
		return nil, a.fail(ctx, "watch", err)
	}
	s := &stream{api: a, watch: watch, follow: in.Follow}
	if job.Status.Final() {
		// What is left can be read without waiting, and may be nothing: an
		// EventSource keeps coming back unless it is told 204.
		first, err := watch.Next(ctx)
		if err != nil {
			watch.Close()
			if errors.Is(err, io.EOF) {
				return &huma.StreamResponse{Body: func(h huma.Context) { h.SetStatus(http.StatusNoContent) }}, nil
			}
			return nil, a.fail(ctx, "watch", err)
		}
		s.first = &first
	}
	return &huma.StreamResponse{Body: s.run}, nil
}

// Events are those kept of a job whose ids are greater than after, as GET
// /jobs/{id}/events begins with.
func (a *API) Events(ctx context.Context, id string, after int64) ([]models.Event, error) {
	if err := a.need(ctx, "GET /jobs/{id}/events"); err != nil {
		return nil, err
	}
	events, err := a.jobs.Events(ctx, id, after)
	if err != nil {
		return nil, a.fail(ctx, "watch", err)
	}
	return events, nil
}

// Files are how far the files of a running job are, and how many it has beside: see
// [jobs.Manager.Files].
func (a *API) Files(ctx context.Context, id string) (files []models.FileProgress, unlisted int, err error) {
	if err := a.need(ctx, "GET /jobs/{id}"); err != nil {
		return nil, 0, err
	}
	files, unlisted = a.jobs.Files(ctx, id)
	return files, unlisted, nil
}

// errNotAllowed ends a stream whose watcher would not be let in any more.
var errNotAllowed = errors.New("the watcher is no longer let in")

// stream is one connection that follows one job.
type stream struct {
	api    *API
	watch  *jobs.Watcher
	follow bool
	first  *models.Event // read already
	w      http.ResponseWriter
	rc     *http.ResponseController
}

func (s *stream) run(h huma.Context) {
	defer s.watch.Close()
	_, s.w = humago.Unwrap(h)
	s.rc = http.NewResponseController(s.w)
	h.SetHeader("Content-Type", "text/event-stream")
	h.SetHeader("X-Accel-Buffering", "no") // proxies must pass events on as they come
	h.SetStatus(http.StatusOK)

	ctx, cancel := context.WithCancel(h.Context())
	defer cancel()
	go func() {
		select {
		case <-s.api.stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	if err := s.copy(ctx); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// copy sends events until the job has ended, which is no error.
func (s *stream) copy(ctx context.Context) error {
	if err := s.send([]byte(": watching\n\n")); err != nil {
		return err
	}
	if s.first != nil {
		if err := s.event(*s.first); err != nil {
			return err
		}
	}
	if !s.follow {
		return s.copyKept()
	}
	checked := time.Now()
	for {
		if time.Since(checked) >= s.api.o.KeepAlive {
			if checked = time.Now(); !s.api.stillAllowed(ctx) {
				return errNotAllowed
			}
		}
		quiet, cancel := context.WithTimeout(ctx, s.api.o.KeepAlive)
		ev, err := s.watch.Next(quiet)
		cancel()
		switch {
		case err == nil:
			err = s.event(ev)
		case errors.Is(err, io.EOF):
			return nil
		case ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded):
			err = s.send([]byte(": still here\n\n"))
		}
		if err != nil {
			return err
		}
	}
}

// copyKept sends what can be read without waiting, up to the first passing
// event.
func (s *stream) copyKept() error {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	for {
		ev, err := s.watch.Next(now)
		if err != nil || ev.ID == 0 {
			return nil // it would have had to wait
		}
		if err := s.event(ev); err != nil {
			return err
		}
	}
}

func (s *stream) event(ev models.Event) error {
	data, err := json.Marshal(ev)
	if err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	var b []byte
	if ev.ID > 0 {
		b = fmt.Appendf(b, "id: %d\n", ev.ID)
	}
	return s.send(fmt.Appendf(b, "event: %s\ndata: %s\n\n", ev.Type, data))
}

func (s *stream) send(b []byte) error {
	if _, err := s.w.Write(b); err != nil {
		return err
	}
	return s.rc.Flush()
}
