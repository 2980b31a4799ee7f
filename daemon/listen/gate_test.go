package listen_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/daemon/listen"
)

func TestConnectionsAreBoundedAndTheSocketStaysOpen(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]listen.Options{
		"in all":           {MaxConns: 2},
		"from one address": {MaxConnsPer: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o.Socket, o.Addrs, o.Answer = socketPath(t), []string{"127.0.0.1:0"}, answer
			d := start(t, o)
			one, two := d.visit("http", nil), d.visit("http", nil)
			d.asks(one)
			d.asks(two)
			if got := d.rejected(); !strings.Contains(got, "try again later") {
				t.Errorf("the third connection: %q", got)
			}
			if !strings.Contains(d.log.String(), "a connection was refused") {
				t.Errorf("not in the log: %s", d.log)
			}
			d.asks(d.visit("unix", nil))
			d.asks(one)
			// A connection that ends makes room for another.
			two.CloseIdleConnections()
			<-d.closed // as the daemon sees it; over the socket none has ended
			if got := d.rejected(); got != "" {
				t.Errorf("after a connection has ended: %q", got)
			}
		})
	}
}

// rejected makes a connection and a request, and returns the 503's body, or "" for
// another answer.
func (d *daemon) rejected() string {
	d.t.Helper()
	c, err := net.Dial("tcp", hostport(d.url("http")))
	if err != nil {
		d.t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") // it may be closed already
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusServiceUnavailable {
		return ""
	}
	return string(b)
}

func TestOverTLSAFloodIsBoundedToo(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	d := start(t, listen.Options{Addrs: []string{"127.0.0.1:0"}, TLS: a.files(), MaxConnsPer: 1, Answer: answer})
	v := d.visit("https", a.trusts())
	d.asks(v)
	if _, err := d.visit("https", a.trusts()).ask(); err == nil {
		t.Error("a second connection is let in")
	}
	d.asks(v)
}
