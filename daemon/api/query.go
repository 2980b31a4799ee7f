package api

import (
	"bufio"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
)

// Bounds of queries. An answer goes out as the store is read, so that it takes
// the memory of a page, however many jobs it lists and however slowly they
// are read.
const (
	queryPage  = 200 // jobs read at once
	maxQueries = 64  // answers of more than a page that are on their way at once
)

// query lists jobs. When an answer cannot be written to its end, the connection
// is cut, so that nobody takes a part for the whole.
func (a *API) query(ctx context.Context, in *rawInput) (*huma.StreamResponse, error) {
	q, err := decodeQuery(in.RawBody)
	if err != nil {
		return nil, err
	}
	answer := jobList{pages: pager{jobs: a.jobs, q: q}, whole: q.Cursor == ""}
	if answer.first, err = answer.pages.next(ctx); err != nil {
		return nil, a.fail(ctx, "query", err)
	}
	release := func() {}
	if answer.pages.more {
		select {
		case a.queries <- struct{}{}:
			release = func() { <-a.queries }
		default:
			return nil, busy("query: too many long answers are on their way; ask again later, or for fewer jobs with limit")
		}
	}
	return &huma.StreamResponse{Body: func(h huma.Context) {
		defer release()
		h.SetHeader("Content-Type", "application/json")
		_, w := humago.Unwrap(h)
		if err := answer.write(ctx, w, a); err != nil {
			a.log.LogAttrs(ctx, slog.LevelWarn, "the answer to a query was cut off", slog.Any("error", err))
			panic(http.ErrAbortHandler)
		}
	}}, nil
}

// Jobs are those that POST /jobs/query would list, of one page.
func (a *API) Jobs(ctx context.Context, q jobs.Query) (jobs.Page, error) {
	if err := a.need(ctx, "POST /jobs/query"); err != nil {
		return jobs.Page{}, err
	}
	page, err := a.jobs.Query(ctx, q)
	if err != nil {
		return jobs.Page{}, a.fail(ctx, "query", err)
	}
	for i, j := range page.Jobs {
		page.Jobs[i] = shown(j)
	}
	return page, nil
}

// decodeQuery reads the body of a query.
func decodeQuery(body []byte) (jobs.Query, error) {
	var q models.Query
	if err := decodeJSON(body, &q); err != nil {
		return jobs.Query{}, err
	}
	invalid := func(location, message string) (jobs.Query, error) {
		return jobs.Query{}, failure(http.StatusUnprocessableEntity, "query", models.ProblemDetail{Location: location, Message: message})
	}
	if q.Limit < 0 {
		return invalid("body.limit", "must not be negative")
	}
	jq := jobs.Query{Limit: q.Limit, Cursor: q.Cursor}
	switch {
	case len(q.JobIDs) > 0:
		jq.IDs = distinct(q.JobIDs)
	case q.All:
	default:
		for _, s := range q.Status {
			if !s.Known() {
				return invalid("body.status", "must be of pending, running, completed, failed, cancelled")
			}
		}
		jq.Statuses = q.Status
	}
	return jq, nil
}

// pager reads what a query asks for in parts.
type pager struct {
	jobs *jobs.Manager
	q    jobs.Query // what is left to ask for
	more bool       // there is another part
}

// next reads a part.
func (p *pager) next(ctx context.Context) (jobs.Page, error) {
	q := p.q
	if q.IDs != nil {
		n := min(len(q.IDs), queryPage)
		q.IDs, p.q.IDs = q.IDs[:n], q.IDs[n:]
		p.more = len(p.q.IDs) > 0
		return p.jobs.Query(ctx, q)
	}
	if q.Limit == 0 || q.Limit > queryPage {
		q.Limit = queryPage
	}
	page, err := p.jobs.Query(ctx, q)
	p.more = err == nil && page.Next != "" && p.q.Limit != len(page.Jobs)
	p.q.Cursor = page.Next
	if p.q.Limit > 0 {
		p.q.Limit -= len(page.Jobs)
	}
	return page, err
}

// jobList is the answer to a query, of which the first part is read.
type jobList struct {
	pages pager
	first jobs.Page
	whole bool // it begins with the first job that matches
}

// write writes the answer in the shape of [models.QueryResult], with the jobs
// before what is known for certain only after them.
func (l *jobList) write(ctx context.Context, w http.ResponseWriter, a *API) error {
	out := bufio.NewWriterSize(w, writeChunk)
	enc := json.NewEncoder(out)
	_, _ = out.WriteString(`{"jobs":[`) // out keeps an error for Flush
	n := 0
	page := l.first
	for {
		for _, j := range page.Jobs {
			if n++; n > 1 {
				_ = out.WriteByte(',')
			}
			if err := enc.Encode(shown(j)); err != nil {
				return err
			}
		}
		if !l.pages.more {
			break
		}
		var err error
		if page, err = l.pages.next(ctx); err != nil {
			return err
		}
	}
	tail := models.QueryTail{Total: l.first.Total, NextCursor: page.Next, Timestamp: a.now()}
	if l.whole && page.Next == "" {
		tail.Total = n // jobs may have come and gone since the first part was read
	}
	b, err := json.Marshal(tail)
	if err != nil {
		return err
	}
	_, _ = out.WriteString("],")
	_, _ = out.Write(b[1:]) // without its brace
	return out.Flush()
}

// distinct returns ids in their order without repeats.
func distinct(ids []string) []string {
	seen := make(map[string]bool, len(ids))
	out := make([]string, 0, len(ids))
	for _, id := range ids {
		if !seen[id] {
			seen[id] = true
			out = append(out, id)
		}
	}
	return out
}
