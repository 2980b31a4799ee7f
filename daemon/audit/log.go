package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
)

// resultTimeout bounds how long the result of a change may take to be written.
const resultTimeout = 10 * time.Second

// Log writes entries. Make it with [New]; a nil one keeps none.
type Log struct {
	store Store
	head  head
	log   *slog.Logger

	mu  sync.Mutex // of writing the head of a shared store
	top int64      // number of the entry that it names
}

// New returns the log in a store. headPath is the file that has the hash of the
// last entry; "" keeps none, so that missing entries at the end are not noticed.
func New(store Store, headPath string, logger *slog.Logger) *Log {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &Log{store: store, head: head{path: headPath}, log: logger}
}

// NewShared is [New] for a store in which other daemons write, too.
func NewShared(store Store, headPath string, logger *slog.Logger) *Log {
	l := New(store, headPath, logger)
	l.head.shared = true
	return l
}

// Change is a change whose first entry is written.
type Change struct {
	log    *Log
	number int64
}

// Begin writes the first entry of a change, which must not be made when that
// fails. Time, who asks and the request are taken from ctx; From from its peer when
// e has none.
func (l *Log) Begin(ctx context.Context, e Entry) (*Change, error) {
	if l == nil {
		return nil, nil
	}
	who := access.FromContext(ctx)
	e.Who, e.Role, e.Via, e.Request = who.Name, who.Role, who.Via, access.RequestID(ctx)
	if peer, ok := access.PeerFrom(ctx); ok && e.From == "" {
		e.From = peer.String()
	}
	n, err := l.append(ctx, e)
	if err != nil {
		return nil, err
	}
	return &Change{l, n}, nil
}

// End writes the result of a change: Jobs, Status, Done, Failed and Error of e. The
// change has been made by then, so an error is logged and returned for those who
// have another way to tell. The end of ctx does not hinder it.
func (c *Change) End(ctx context.Context, e Entry) error {
	if c == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), resultTimeout)
	defer cancel()
	_, err := c.log.append(ctx, Entry{Of: c.number, Jobs: e.Jobs, Status: e.Status, Done: e.Done, Failed: e.Failed, Error: e.Error})
	if err != nil {
		c.log.log.ErrorContext(ctx, "the result of a change could not be written to the audit log", "of", c.number, "error", err)
	}
	return err
}

// append adds an entry and returns its number.
func (l *Log) append(ctx context.Context, e Entry) (int64, error) {
	var r, before Record
	err := l.store.Append(ctx, func(last Record) (Record, error) {
		fault, err := l.head.compare(last)
		if err != nil {
			return Record{}, err
		}
		e.HeadFault = fault
		e.Time = time.Now().UTC().Truncate(time.Millisecond)
		data, err := json.Marshal(e)
		if err != nil {
			return Record{}, err
		}
		r, before = Record{Number: last.Number + 1, Hash: last.next(data), Data: data}, last
		if l.head.shared {
			return r, nil
		}
		return r, l.head.set(last, r)
	})
	if err == nil && l.head.shared {
		err = l.headTo(before, r, e.HeadFault != "")
	}
	if err != nil {
		return 0, fmt.Errorf("audit log: %w", err)
	}
	if e.HeadFault != "" {
		l.log.ErrorContext(ctx, "the audit log does not end as it did: somebody may have changed it, or it was put back from a backup", "fault", e.HeadFault, "noted_in", r.Number)
	}
	what := []any{"number", r.Number, "hash", r.Hash.String()}
	if e.Of == 0 {
		what = append(what, "action", e.Action, "who", e.Who)
	} else {
		what = append(what, "of", e.Of, "status", e.Status)
	}
	l.log.InfoContext(ctx, "audit", what...)
	return r.Number, nil
}

// headTo has the head file name an entry that was added to a shared store, unless it
// names a later one, which is right.
func (l *Log) headTo(before, r Record, fault bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.Number < l.top && !fault {
		return nil
	}
	l.top = r.Number
	return l.head.set(before, r)
}

// Page returns at most limit records before the number n, the last first; n 0 is
// from the end.
func (l *Log) Page(ctx context.Context, n int64, limit int) ([]Record, error) {
	return l.store.Before(ctx, n, limit)
}
