package listen

import (
	"io"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// one is a listener with one connection.
type one struct {
	net.Listener
	c net.Conn
}

func (o one) Accept() (net.Conn, error) { return o.c, nil }

func TestAHandshakeThatTakesTooLongIsCutOff(t *testing.T) {
	t.Parallel()
	certs := newLooking(t).certificates
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		l := &Listener{
			Listener: one{c: server}, secure: true, gate: newGate(1, 1),
			set: &Set{certs: certs, log: slog.New(slog.DiscardHandler)},
		}
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		gone := make(chan struct{})
		go func() { // a greeting of 8 KiB, a byte a second, never gets there
			defer close(gone)
			_, err := client.Write([]byte{22, 3, 1, 32, 0})
			for err == nil {
				time.Sleep(time.Second)
				_, err = client.Write([]byte{1})
			}
		}()
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("read: %v", err)
		}
		if took := time.Since(began); took != handshakeTimeout {
			t.Errorf("it took %v", took)
		}
		_ = c.Close()
		<-gone
		if refusal := l.gate.enter(c.(*conn).origin); refusal != "" {
			t.Errorf("its place is not free: %s", refusal)
		}
	})
}
