package web

import (
	"context"
	"fmt"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/units"
)

// sharesEvery is how often the store is asked, at most, who has what of limits.
const sharesEvery = 2 * time.Second

// shareRow is what one daemon has of a limit.
type shareRow struct {
	Limit, Of    string // its name, and how much there is
	Daemon, Host string // id, and host where that is known
	Held         string
	Waiting      int64
}

// sharesSource returns what makes the table of what each daemon has.
func (s *Site) sharesSource() source {
	look := func(ctx context.Context) ([]part, error) {
		l, err := s.api.Limits(ctx)
		if err != nil {
			return nil, err
		}
		daemons, err := s.api.Daemons(ctx)
		if err != nil {
			return nil, err
		}
		return s.views.parts("limits.html", shareRows(l.Shares, daemons.Daemons), "shares")
	}
	var made aged[[]part]
	return func(ctx context.Context) ([]part, error) {
		return made.get(sharesEvery, 0, func() ([]part, error) { return look(ctx) })
	}
}

// shareRows puts shares, which come by limit, into words.
func shareRows(shares []models.Share, daemons []models.Daemon) []shareRow {
	hosts := make(map[string]string, len(daemons))
	for _, d := range daemons {
		hosts[d.ID] = d.Host
	}
	rows := make([]shareRow, len(shares))
	for i, s := range shares {
		r := shareRow{Limit: s.Name, Daemon: s.Daemon, Host: hosts[s.Daemon], Waiting: s.Waiting}
		r.Of, r.Held = fmt.Sprint(s.Limit), fmt.Sprint(s.Held)
		if s.Bandwidth() {
			r.Of, r.Held = units.FormatRate(s.Limit), units.Bytes(s.Held)+"/s"
		}
		if s.Limit == 0 {
			r.Of = "no limit"
			if s.Bandwidth() {
				r.Held = "any"
			}
		}
		rows[i] = r
	}
	return rows
}
