package vspheretest

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
)

// Outage is how a plane is away.
type Outage string

// How a plane can be away. What is under way when it goes is cut, except by
// Hang, which keeps every connection open and silent for as long as the client
// does.
const (
	Refuse      Outage = "refuse" // nobody listens
	Reset       Outage = "reset"  // a connection is taken and reset
	Unavailable Outage = "503"    // as the proxy before vCenter answers while its services start
	HTML        Outage = "html"   // a 200 with a page for people, whatever was asked
	Hang        Outage = "hang"   // a connection is taken and never answered
)

var outages = []Outage{Refuse, Reset, Unavailable, HTML, Hang}

// Down takes a plane away: Control, Hosts or Everything. It is back when up is
// called; of several outages of a plane the last that goes on counts. Sessions
// and leases live on meanwhile, and run out as ever.
func (s *Server) Down(plane Plane, how Outage) (up func()) {
	if !slices.Contains(outages, how) {
		panic(fmt.Sprintf("vspheretest: outage %q: want one of %q", how, outages))
	}
	var ups []func()
	for _, g := range s.gates(plane) {
		ups = append(ups, g.down(how))
	}
	return sync.OnceFunc(func() {
		for _, up := range ups {
			up()
		}
	})
}

// gates are those of a plane that can be away.
func (s *Server) gates(plane Plane) []*gate {
	var all []*gate
	switch plane {
	case Control, Hosts, Everything:
	default:
		panic(fmt.Sprintf("vspheretest: plane %q: want control, hosts or all", plane))
	}
	if plane != Hosts {
		all = append(all, s.vcenter.gate)
	}
	if plane != Control {
		for _, h := range s.hosts {
			all = append(all, h.gate)
			if h.nfc != nil {
				all = append(all, h.nfc.gate)
			}
		}
	}
	return all
}

// checkDown says what is wrong with an outage, and fills in what was left out.
func (f *fault) checkDown() error {
	if f.plane == "" {
		f.plane = Control
	}
	if f.how == "" {
		f.how = Refuse
	}
	switch {
	case !slices.Contains([]Plane{Control, Hosts, Everything}, f.plane):
		return fmt.Errorf("plane=%s: want control, hosts or all", f.plane)
	case !slices.Contains(outages, f.how):
		return fmt.Errorf("how=%s: want one of %q", f.how, outages)
	case f.lasts <= 0:
		return errors.New("for=DURATION is missing")
	case f.at >= 0 && f.after > 0:
		return errors.New("want at=SIZE or after=DURATION, not both")
	case f.left != 1 && f.at < 0 && f.after <= 0:
		return errors.New("several outages need at=SIZE or after=DURATION between them")
	}
	return nil
}

// armOutage lets an outage that counts time begin, and the next one after it.
func (s *Server) armOutage(f *fault) {
	if f.after <= 0 {
		s.strikeOutage(f)
		return
	}
	s.timers.after(f.after, func() { s.strikeOutage(f) })
}

// strikeOutage begins an outage and sees to its end.
func (s *Server) strikeOutage(f *fault) {
	if s.faults.take(f) {
		s.outage(f)
	}
}

func (s *Server) outage(f *fault) {
	up := s.Down(f.plane, f.how)
	s.timers.after(f.lasts, func() {
		up()
		if f.at < 0 && f.after > 0 && s.faults.again(f) {
			s.armOutage(f)
		}
	})
}

// answer is what a plane that is away says to who still reaches it.
func (how Outage) answer(w http.ResponseWriter) {
	if how == HTML {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte("<!DOCTYPE html>\n<html><head><title>vSphere</title></head>" +
			"<body><h1>vSphere is starting</h1><p>Please wait.</p></body></html>\n"))
		return
	}
	http.Error(w, "503 Service Unavailable (Failed to connect to endpoint: /sdk)", http.StatusServiceUnavailable)
}
