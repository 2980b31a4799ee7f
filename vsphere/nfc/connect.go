package nfc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/sleep"
)

// dialTimeout is how long the host may take to accept a connection.
const dialTimeout = 10 * time.Second

// connect makes one connection with one ticket, and opens the file on it.
func (r *Reader) connect(ctx context.Context) (*session, error) {
	r.mu.Lock()
	other, plain, buffers := r.other, r.plain, bufferSteps[r.step]
	r.mu.Unlock()
	t, err := r.o.Ticket(ctx, other)
	if err != nil {
		return nil, err
	}
	host := t.Addr()
	r.seeTicket(t)
	if err := t.check(); err != nil {
		return nil, &Error{Host: host, Stage: "ticket", Kind: ErrUnsupported, Err: err}
	}
	tcp, err := r.dial(ctx, host)
	if err != nil {
		return nil, err
	}
	r.see(func(s *Seen) { s.Connected = true })
	s, err := r.enter(ctx, tcp, t, plain)
	if err != nil {
		_ = tcp.Close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, err
	}
	go s.Run(s.take)
	// Not given up half-way: a host keeps the lock of a file whose client has gone
	// (F-902-18), and only who has heard of it can close it.
	late, cancel := sleep.Outlasting(ctx, goodbye)
	defer cancel()
	if err := s.open(late, buffers.size, buffers.count, r.o.Path); err != nil {
		s.Close()
		return nil, err
	}
	r.see(func(s *Seen) { s.Buffer = int(buffers.size) })
	return s, nil
}

// Greet connects with a ticket, reads the greeting, and hangs up: what the host shows of
// itself without a disk being opened. The ticket is not presented. See [Reader.Seen].
func (r *Reader) Greet(ctx context.Context) error {
	t, err := r.o.Ticket(ctx, false)
	if err != nil {
		return err
	}
	r.seeTicket(t)
	if err := t.check(); err != nil {
		return &Error{Host: t.Addr(), Stage: "ticket", Kind: ErrUnsupported, Err: err}
	}
	tcp, err := r.dial(ctx, t.Addr())
	if err != nil {
		return err
	}
	defer tcp.Close()
	defer context.AfterFunc(ctx, func() { _ = tcp.Close() })()
	r.see(func(s *Seen) { s.Connected = true })
	if err := tcp.SetDeadline(time.Now().Add(r.o.Patience)); err != nil {
		return broken(t.Addr(), "greeting", err)
	}
	line, err := readLine(tcp)
	if err != nil {
		return broken(t.Addr(), "greeting", err)
	}
	r.seeGreeting(line)
	return checkGreeting(t.Addr(), line)
}

func (r *Reader) dial(ctx context.Context, host string) (net.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, dialTimeout, fmt.Errorf("no connection within %s", dialTimeout))
	defer cancel()
	tcp, err := r.o.Dial(ctx, "tcp", host)
	switch {
	case err == nil:
		return tcp, nil
	case ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled):
		return nil, ctx.Err()
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	}
	return nil, &Error{Host: host, Stage: "connect", Kind: ErrUnreachable, Err: err}
}

// enter passes through the layers up to the session. It leaves tcp open.
func (r *Reader) enter(ctx context.Context, tcp net.Conn, t Ticket, plain bool) (*session, error) {
	defer context.AfterFunc(ctx, func() { _ = tcp.Close() })() // wakes whatever waits
	host := t.Addr()
	wait := func() error { return tcp.SetDeadline(time.Now().Add(r.o.Patience)) }
	if err := wait(); err != nil {
		return nil, broken(host, "greeting", err)
	}
	line, err := readLine(tcp)
	if errors.Is(err, errLineTooLong) {
		return nil, &Error{Host: host, Stage: "greeting", Kind: ErrProtocol, Err: err}
	} else if err != nil {
		return nil, broken(host, "greeting", err)
	}
	r.seeGreeting(line)
	if err := checkGreeting(host, line); err != nil {
		return nil, err
	}
	if err := wait(); err != nil {
		return nil, broken(host, "TLS", err)
	}
	under := &records{Conn: tcp}
	first, err := secure(ctx, under, t.Host, r.o.trust(t))
	if err != nil {
		return nil, broken(host, "TLS", err)
	}
	tag, cert := newTag(), first.ConnectionState().PeerCertificates[0]
	d := &dialogue{conn: first, host: host, ticket: t, tag: tag, cert: cert, wait: wait}
	if err := d.run(serviceFor(t, plain)); err != nil {
		return nil, err
	}
	if err := quiet(tcp, first, under); err != nil {
		return nil, &Error{Host: host, Stage: "PROXY", Kind: ErrProtocol, Err: err}
	}
	// The first session is left where it is: to close it would say so on the wire,
	// where the second one begins now (F-902-12).
	if err := wait(); err != nil {
		return nil, broken(host, "second TLS", err)
	}
	second, err := secure(ctx, tcp, t.Host, sameAs(host, cert))
	if err != nil {
		return nil, broken(host, "second TLS", err)
	}
	s := newSession(second, host, r.o)
	in := bufio.NewReaderSize(second, classicSize)
	h := &handshake{
		conn: second, in: in, peek: func() error { _, err := in.Peek(1); return err },
		host: host, wait: wait, patience: r.o.StatusPatience,
	}
	err = h.run(tag)
	r.see(func(s *Seen) { s.Version, s.LateStatus = h.version, h.late })
	if err != nil {
		return nil, err
	}
	if in.Buffered() > 0 {
		return nil, &Error{Host: host, Stage: "handshake", Kind: ErrProtocol, Err: errors.New("something stands behind the last answer")}
	}
	return s, tcp.SetDeadline(time.Time{})
}

// quiet says that the first session has nothing more to hand out, without waiting for
// anything: with a deadline that is over, only what has been read already comes.
func quiet(tcp net.Conn, first io.Reader, under *records) error {
	if err := tcp.SetReadDeadline(time.Unix(1, 0)); err != nil {
		return err
	}
	var one [1]byte
	if n, _ := first.Read(one[:]); n > 0 || !under.between() {
		return errors.New("something stands behind the answer")
	}
	return nil
}
