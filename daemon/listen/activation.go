package listen

import (
	"errors"
	"fmt"
	"net"

	"github.com/coreos/go-systemd/v22/activation"
)

// passed takes the sockets that systemd passed to this process. Files of theirs
// are systemd's to remove.
func (s *Set) passed() ([]*Listener, error) {
	sockets, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("sockets passed by systemd: %w", err)
	}
	var found []*Listener
	for i, l := range sockets {
		if l == nil {
			err = errors.Join(err, fmt.Errorf("socket %d passed by systemd is none to listen at: want ListenStream=", i+1))
			continue
		}
		p, perr := s.adopt(l)
		err = errors.Join(err, perr)
		found = append(found, p)
	}
	return found, err
}

// adopt says how a passed socket is served.
func (s *Set) adopt(l net.Listener) (*Listener, error) {
	p := &Listener{Listener: l}
	switch l := l.(type) {
	case *net.UnixListener:
		l.SetUnlinkOnClose(false)
		p.unix = true
	case *net.TCPListener:
		p.secure = s.certs != nil
		if !p.secure && !IsLoopback(l.Addr()) {
			return p, exposed("the socket passed by systemd, " + l.Addr().String() + ", is not loopback")
		}
	default:
		return p, fmt.Errorf("the socket passed by systemd is a %s: want TCP or a unix socket", l.Addr().Network())
	}
	return p, nil
}
