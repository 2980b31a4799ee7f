package listen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"
)

// address is where to listen, as it was written.
type address struct {
	text   string // without scheme
	host   string
	scheme string // "http", "https", or "" for what suits
}

// CheckAddress tells whether text is HOST:PORT, with http:// or https:// before it
// or without, or [None].
func CheckAddress(text string) error {
	if text == None {
		return nil
	}
	_, err := parseAddress(text)
	return err
}

func parseAddress(text string) (address, error) {
	var a address
	rest, ok := strings.CutPrefix(text, "https://")
	if ok {
		a.scheme = "https"
	} else if rest, ok = strings.CutPrefix(text, "http://"); ok {
		a.scheme = "http"
	}
	a.text = strings.TrimSuffix(rest, "/")
	host, port, err := net.SplitHostPort(a.text)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil || port == "" || strings.ContainsAny(host, "/@ ") {
		return a, settings("address %s: want HOST:PORT", text)
	}
	a.host = host
	return a, nil
}

// openAddress listens on a, over TLS where there is a certificate.
func (s *Set) openAddress(ctx context.Context, a address) ([]*Listener, error) {
	secure := s.certs != nil && a.scheme != "http"
	switch {
	case a.scheme == "https" && !secure:
		return nil, settings("address https://%s needs a certificate: set listen.cert_file and listen.key_file (hyper2kvmd tls init makes them)", a.text)
	case !secure:
		if err := wantLoopback(ctx, a); err != nil {
			return nil, err
		}
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", a.text)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("address %s is in use: is another hyper2kvmd running? Choose another with -addr", a.text)
	}
	if err != nil {
		return nil, fmt.Errorf("address %s: %w; choose another with -addr", a.text, err)
	}
	if !secure && !IsLoopback(l.Addr()) { // the name has changed its meaning just now
		_ = l.Close()
		return nil, exposed("address " + a.text + " is not loopback")
	}
	if ip := net.ParseIP(a.host); a.host != "" && (ip == nil || !ip.IsUnspecified()) {
		s.names = append(s.names, a.host)
	}
	found := []*Listener{{Listener: l, secure: secure}}
	if twin := s.openTwin(ctx, a, l.Addr()); twin != nil {
		found = append(found, &Listener{Listener: twin, secure: secure})
	}
	return found, nil
}

// openTwin listens on the other address of localhost, which many clients ask first:
// anybody on this machine could otherwise listen there and be taken for the daemon.
// It is nil when there is no other one, or when somebody does.
func (s *Set) openTwin(ctx context.Context, a address, first net.Addr) net.Listener {
	tcp, ok := first.(*net.TCPAddr)
	if !ok || !strings.EqualFold(a.host, "localhost") || strings.HasSuffix(a.text, ":0") {
		return nil
	}
	other := net.IPv6loopback.String()
	if tcp.IP.To4() == nil {
		other = "127.0.0.1"
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", net.JoinHostPort(other, strconv.Itoa(tcp.Port)))
	if errors.Is(err, syscall.EADDRINUSE) {
		s.log.Warn("another program listens on the other address of localhost, and gets what is asked of that", "addr", net.JoinHostPort(other, strconv.Itoa(tcp.Port)))
	}
	if err != nil { // without IPv6, or IPv4, nobody else can be there either
		return nil
	}
	return l
}

// wantLoopback looks up a and refuses it unless all it stands for is loopback.
func wantLoopback(ctx context.Context, a address) error {
	if a.host == "" {
		return exposed("address " + a.text + " is every address of this machine")
	}
	ips, err := net.DefaultResolver.LookupIPAddr(ctx, a.host)
	if err != nil {
		return fmt.Errorf("address %s: %w", a.text, err)
	}
	for _, ip := range ips {
		if !ip.IP.IsLoopback() {
			return exposed("address " + a.text + " is not loopback")
		}
	}
	return nil
}

// IsLoopback reports whether a is an address that only this machine can reach.
func IsLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}
