package landing

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"syscall"
	"time"

	"github.com/digitalocean/go-libvirt"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
)

const (
	// callTime bounds one call that moves no images. Defining and starting may take
	// QEMU and swtpm a while on a busy machine.
	callTime = 2 * time.Minute
	// letGo is how long a call may go on after its end was asked for.
	letGo = 5 * time.Second
)

// ErrAway: libvirt does not answer, or went away in the middle of something.
var ErrAway = errors.New("libvirt cannot be reached")

// conn is a connection to libvirt whose calls end with a context. The library's own
// do not: a call that is given up takes the connection with it.
type conn struct {
	l   *libvirt.Libvirt
	uri string
	net net.Conn
}

// dialed is a connection as the library wants it.
type dialed struct{ net.Conn }

func (d dialed) Dial() (net.Conn, error) { return d.Conn, nil }

// dial connects to the libvirt at a URI.
func dial(ctx context.Context, uri string) (*conn, error) {
	at, err := parseURI(uri)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	socket, err := d.DialContext(ctx, "unix", at.socket)
	if err != nil {
		return nil, away(uri, err)
	}
	c := &conn{l: libvirt.NewWithDialer(dialed{socket}), uri: uri, net: socket}
	if err := c.call(ctx, func() error { return c.l.ConnectToURI(libvirt.ConnectURI(at.driver)) }); err != nil {
		_ = socket.Close()
		return nil, fmt.Errorf("connect to %s: %w", uri, err)
	}
	return c, nil
}

// away says why there is no connection, and what to do.
func away(uri string, err error) error {
	hint := "see that libvirtd or virtqemud runs"
	switch {
	case errors.Is(err, syscall.EACCES):
		hint = "the user that runs this must be in the group libvirt"
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		hint = "install and start libvirt: in Debian the package libvirt-daemon-system"
	}
	return fault.WithHint(fmt.Errorf("%w at %s: %w", ErrAway, uri, err), hint)
}

// close ends the connection.
func (c *conn) close() { _ = c.net.Close() }

// call does f, which speaks to libvirt, for as long as ctx lives and callTime lasts.
func (c *conn) call(ctx context.Context, f func() error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, callTime, fmt.Errorf("%w: no answer within %v", ErrAway, callTime))
	defer cancel()
	return c.long(ctx, f)
}

// long is call for what may take any time.
func (c *conn) long(ctx context.Context, f func() error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return c.judge(err)
	case <-ctx.Done():
	}
	c.close()
	timer := time.NewTimer(letGo)
	defer timer.Stop()
	select {
	case err := <-done:
		_ = err // of a connection that was closed
	case <-timer.C: // it holds nothing but its memory
	}
	return context.Cause(ctx)
}

// judge makes ErrAway of a connection that broke.
func (c *conn) judge(err error) error {
	var op *net.OpError
	if errors.Is(err, libvirt.ErrInterrupted) || errors.Is(err, syscall.EINVAL) || errors.As(err, &op) {
		return fault.WithHint(fmt.Errorf("%w: it went away in the middle of a call: %w", ErrAway, err), "see that libvirtd or virtqemud runs")
	}
	return err
}

// is reports whether err is an answer of libvirt with that number.
func is(err error, number libvirt.ErrorNumber) bool {
	var e libvirt.Error
	return errors.As(err, &e) && e.Code == uint32(number)
}
