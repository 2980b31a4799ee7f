package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hyper2kvm/hyper2kvm/daemon/audit"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// Bounds of a page of the audit log, in entries.
const (
	defaultAudit = 100
	maxAudit     = 1000
)

// maxAudited is how much of a path stands in the audit log, in bytes: a path that
// a job may have is shorter.
const maxAudited = 4096

// begin writes into the audit log what is going to be done. When that fails
// nothing may be done, and the error is the answer.
func (a *API) begin(ctx context.Context, e audit.Entry) (*audit.Change, error) {
	change, err := a.o.Audit.Begin(ctx, e)
	if err == nil {
		return change, nil
	}
	answer := a.fail(ctx, "nothing was changed, because it could not be written to the audit log", err)
	if e := new(statusError); errors.As(answer, &e) && e.status == http.StatusInternalServerError {
		e.status = http.StatusServiceUnavailable // it may work later
	}
	return nil, answer
}

// end writes what became of it. answer is the error that is answered, nil for a 200.
func (a *API) end(ctx context.Context, change *audit.Change, e audit.Entry, answer error) {
	if e.Status == 0 {
		e.Status = http.StatusOK
	}
	if answer != nil {
		e.Status, e.Error = http.StatusInternalServerError, answer.Error()
		if s := new(statusError); errors.As(answer, &s) {
			e.Status = s.status
		}
	}
	// What was done is done, and not undone because its result is not on record:
	// the log of the daemon has that it is missing.
	_ = change.End(ctx, e)
}

// audited does something between begin and end.
func (a *API) audited(ctx context.Context, e audit.Entry, do func() error) error {
	change, err := a.begin(ctx, e)
	if err != nil {
		return err
	}
	err = do()
	a.end(ctx, change, audit.Entry{}, err)
	return err
}

// auditedJobs are jobs as the audit log has them.
func auditedJobs(defs []job.Definition) []audit.Job {
	out := make([]audit.Job, len(defs))
	for i, d := range defs {
		out[i] = audit.Job{ID: head(d.ID), VM: head(d.VMPath), Output: head(d.OutputPath)}
	}
	return out
}

// auditedIDs are jobs of which only the ids are known.
func auditedIDs(ids []string) []audit.Job {
	out := make([]audit.Job, len(ids))
	for i, id := range ids {
		out[i] = audit.Job{ID: head(id)}
	}
	return out
}

func head(s string) string { return s[:min(len(s), maxAudited)] }

// AuditEntry is an entry of the audit log, as it is given out.
type AuditEntry struct {
	Number int64      `json:"number" doc:"From 1, without gaps"`
	Hash   audit.Hash `json:"hash" doc:"SHA-256 that binds the entry to all before it"`
	audit.Entry
}

// AuditPage is the body of GET /audit.
type AuditPage struct {
	Entries    []AuditEntry `json:"entries" nullable:"false" doc:"The newest first"`
	NextCursor string       `json:"next_cursor,omitempty" doc:"For the page of older ones; absent on the last"`
	Timestamp  time.Time    `json:"timestamp"`
}

type auditInput struct {
	Limit  int    `query:"limit" minimum:"0" maximum:"1000" doc:"Entries on a page; 0 means 100"`
	Cursor string `query:"cursor" doc:"next_cursor of the page before"`
}

// registerAudit adds the route that shows the audit log.
func (b builder) registerAudit(a *API) {
	op := b.op("list-audit", "GET", "/audit", "Who changed what")
	op.Description = "Every change has an entry that was written before it, and one with its result whose `of` is the number of the first. " +
		"`hyper2kvmd audit verify` checks that none was changed or removed."
	huma.Register(b.h, op, a.auditLog)
}

func (a *API) auditLog(ctx context.Context, in *auditInput) (*reply[AuditPage], error) {
	return answered(a.AuditLog(ctx, in.Cursor, in.Limit))
}

// AuditLog is the answer to GET /audit: the page at cursor, of limit entries.
func (a *API) AuditLog(ctx context.Context, cursor string, limit int) (AuditPage, error) {
	if err := a.need(ctx, "GET /audit"); err != nil {
		return AuditPage{}, err
	}
	if a.o.Audit == nil {
		return AuditPage{}, failure(http.StatusNotImplemented, "audit: this daemon keeps no audit log")
	}
	var before int64
	if cursor != "" {
		var err error
		if before, err = strconv.ParseInt(cursor, 10, 64); err != nil || before < 1 {
			return AuditPage{}, failure(http.StatusBadRequest, "audit: invalid cursor")
		}
	}
	if limit == 0 {
		limit = defaultAudit
	}
	records, err := a.o.Audit.Page(ctx, before, limit)
	if err != nil {
		return AuditPage{}, a.fail(ctx, "audit", err)
	}
	out := AuditPage{Entries: []AuditEntry{}, Timestamp: a.now()}
	for _, r := range records {
		e, err := r.Entry()
		if err != nil {
			e = audit.Entry{Error: "this entry cannot be read: see hyper2kvmd audit verify"}
		}
		out.Entries = append(out.Entries, AuditEntry{r.Number, r.Hash, e})
	}
	if len(records) == limit && records[limit-1].Number > 1 {
		out.NextCursor = strconv.FormatInt(records[limit-1].Number, 10)
	}
	return out, nil
}
