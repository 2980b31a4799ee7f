package api_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/api"
	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/daemon/store/memory"
)

// pipes is a listener whose connections are in memory.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv6loopback} }

func TestAClientThatIsSlowWithItsHeaderIsCutOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := api.New(jobs.New(memory.New(), nil, jobs.Options{}), api.Options{}).Server()
		l := &pipes{conns: make(chan net.Conn, 1), done: make(chan struct{})}
		served := make(chan error)
		go func() { served <- server.Serve(api.Listener(l)) }()
		client, theirs := net.Pipe()
		l.conns <- theirs
		began := time.Now()
		gone := make(chan struct{})
		go func() { // a header that never ends
			defer close(gone)
			_, err := io.WriteString(client, "GET /health HTTP/1.1\r\nHost: localhost\r\n")
			for err == nil {
				time.Sleep(time.Second)
				_, err = io.WriteString(client, "X-A: a\r\n")
			}
		}()
		if _, err := io.Copy(io.Discard, client); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("it took %v", took)
		}
		_ = client.Close()
		<-gone
		_ = server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
}
