package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/internal/sleep"
)

const (
	// channel is that of NOTIFY.
	channel = "hyper2kvm"
	// maxPayload is what the server takes, in bytes.
	maxPayload = 7999
	// quiet is after how long without a notice the connection is looked at.
	quiet = 30 * time.Second
	// Between tries to listen again.
	minAgain, maxAgain = 200 * time.Millisecond, 10 * time.Second
)

// letter is a notice on its way.
type letter struct {
	From string `json:"from"` // [database.id] of the sender
	jobs.Notice
}

// payload is a notice as it is sent. What is too long for the server is left out.
func (d *database) payload(n jobs.Notice) string {
	for {
		data, err := json.Marshal(letter{d.id, n})
		shorter, ok := n.Shorter()
		if err == nil && len(data) <= maxPayload || !ok {
			return string(data)
		}
		n = shorter
	}
}

// payloads are notices as they are sent, each once.
func (d *database) payloads(notices []jobs.Notice) []string {
	var all []string
	for _, n := range notices {
		if p := d.payload(n); !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	return all
}

// Tell implements [jobs.Notices].
func (s *Store) Tell(ctx context.Context, n jobs.Notice) error {
	_, err := s.pool.ExecContext(ctx, `SELECT pg_notify($1, $2)`, channel, s.payload(n))
	return s.explain(ctx, err)
}

// Listen implements [jobs.Notices].
func (s *Store) Listen(ctx context.Context, heard func(jobs.Notice)) {
	told := false
	for again := minAgain; ctx.Err() == nil; again = min(2*again, maxAgain) {
		err := s.listen(ctx, heard, func() {
			if told {
				s.log.Info("the database tells again what other daemons do", "database", s.name)
			}
			again, told = minAgain, false
		})
		if ctx.Err() != nil {
			return
		}
		if !told {
			s.log.Warn("the database does not tell any more what other daemons do; it is looked at every second meanwhile", "error", s.explain(ctx, err))
			told = true
		}
		if sleep.For(ctx, again) != nil {
			return
		}
	}
}

// listen hears until the connection breaks. It calls ready when it is made.
func (s *Store) listen(ctx context.Context, heard func(jobs.Notice), ready func()) error {
	config := s.config.Copy()
	if err := s.login(ctx, config); err != nil {
		return err
	}
	c, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = c.Close(ctx) // it is not used any more
	}()
	if _, err := c.Exec(ctx, `LISTEN `+channel); err != nil {
		return err
	}
	ready()
	heard(jobs.Notice{Type: jobs.NoticeQueue}) // what was missed
	heard(jobs.Notice{Type: jobs.NoticeJob})
	for {
		text, err := next(ctx, c)
		if err != nil {
			return err
		}
		var l letter
		if text == "" || json.Unmarshal([]byte(text), &l) != nil || l.From == s.id {
			continue // nothing, nothing of ours, or our own
		}
		heard(l.Notice)
	}
}

// next waits for a notice. When none comes for long, it looks whether the server is
// still there, and returns "".
func next(ctx context.Context, c *pgx.Conn) (string, error) {
	wait, cancel := context.WithTimeout(ctx, quiet)
	defer cancel()
	n, err := c.WaitForNotification(wait)
	if err == nil {
		return n.Payload, nil
	}
	if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) || c.IsClosed() {
		return "", err
	}
	look, end := context.WithTimeout(ctx, connectTimeout)
	defer end()
	return "", c.Ping(look)
}
