package nfc

import (
	"slices"
	"strings"
)

// Seen is what the hosts of a [Reader] have shown of themselves, up to where its last
// connection got. Nothing in it depends on who the host is.
type Seen struct {
	Ticket      bool     // there was one
	Thumbprint  bool     // the ticket tells the certificate's thumbprint
	Certificate bool     // and the certificate itself
	Connected   bool     // TCP
	Daemon      string   // version in the greeting, as 1.10
	Announces   []string // in the greeting, as "SHA256 supported"
	Version     int      // of NFC that the host has; 0 before it tells
	LateStatus  bool     // message 36 came after 51 only (F-902-14)
	Buffer      int      // bytes of one buffer of the session, 0 for the host's own choice
	Opened      bool     // a file
}

// Seen tells what was seen so far.
func (r *Reader) Seen() Seen {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := r.seen
	seen.Announces = slices.Clone(seen.Announces)
	return seen
}

// Connections is how many connections there are.
func (r *Reader) Connections() int { return r.pool.Open() }

// see notes something.
func (r *Reader) see(f func(*Seen)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.seen)
}

// seeTicket begins what is seen of a connection.
func (r *Reader) seeTicket(t Ticket) {
	r.see(func(s *Seen) {
		*s = Seen{Ticket: true, Thumbprint: t.Thumbprint != "", Certificate: t.Certificate != ""}
	})
}

// seeGreeting notes what a greeting tells.
func (r *Reader) seeGreeting(line string) {
	g, err := parseReply(line)
	if err != nil {
		return
	}
	_, version, _ := strings.Cut(g.text, "Daemon Version ")
	version, _, _ = strings.Cut(version, ":")
	r.see(func(s *Seen) { s.Daemon, s.Announces = version, capabilities(g.text) })
}
