package vddk

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/sleep"
)

// Times of a server.
const (
	pollPause = 20 * time.Millisecond // between looks for its socket
	lastWait  = 5 * time.Second       // for nbdkit to end when it is asked to
)

// Server is an nbdkit that serves one disk, started when it is dialed and, when it has
// died, once more. Its methods may be called from any goroutine. Close it.
type Server struct {
	tool Tool
	disk Disk
	tell func(string)
	late time.Duration // that nbdkit has to end when it is asked to

	mu      sync.Mutex
	process *process // nil before the first
	said    *tail    // of the last one
	closed  bool
}

// Serve returns a Server that runs nothing yet. tell gets each line that nbdkit writes,
// made printable, and must return soon.
func (t Tool) Serve(d Disk, tell func(string)) *Server {
	return &Server{tool: t, disk: d, tell: tell, late: lastWait}
}

var errClosed = errors.New("nbdkit has been ended")

// Dial connects to nbdkit, and starts it before, unless it runs.
func (s *Server) Dial(ctx context.Context) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	if s.process != nil && s.process.over() {
		s.process.end(s.late)
		s.process = nil
	}
	if s.process == nil {
		p, err := s.start()
		if err != nil {
			return nil, fmt.Errorf("start nbdkit: %w", err)
		}
		s.process, s.said = p, p.said
	}
	return s.process.dial(ctx)
}

// Explain adds to err, which came of the connection, what nbdkit has said last, unless it
// has that already.
func (s *Server) Explain(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil || s.said == nil || errors.As(err, new(*explained)) {
		return err
	}
	if said := s.said.quoted(); said != "" {
		return &explained{err, said}
	}
	return err
}

// explained is an error with what nbdkit has said.
type explained struct {
	error
	said string
}

func (e *explained) Error() string { return e.error.Error() + e.said }
func (e *explained) Unwrap() error { return e.error }

// Leave says that the connections end now on our side: what nbdkit says from here on is no
// reason for anything.
func (s *Server) Leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.said != nil {
		s.said.leave()
	}
}

// Close ends nbdkit, and returns when nothing of it is left.
func (s *Server) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.process != nil {
		s.process.end(s.late)
		s.process = nil
	}
}

// process is one nbdkit.
type process struct {
	cmd      *exec.Cmd
	dir      string // its own
	socket   string
	password string // file; "" once nbdkit has read it
	said     *tail
	dead     chan struct{} // closed after err is set
	err      error         // how it ended
}

func (s *Server) start() (_ *process, err error) {
	dir, err := os.MkdirTemp("", "hyper2kvm-vddk-") // of mode 0700
	if err != nil {
		return nil, err
	}
	p := &process{
		dir: dir, socket: filepath.Join(dir, "nbd"), password: filepath.Join(dir, "password"), dead: make(chan struct{}),
		said: &tail{tell: s.tell, secret: s.disk.Password},
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	if err := writePassword(p.password, s.disk.Password); err != nil {
		return nil, err
	}
	p.cmd = exec.Command(s.tool.program(), s.tool.arguments(s.disk, p.socket, p.password)...)
	p.cmd.Dir, p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr, p.cmd.WaitDelay = dir, environment(dir), p.said, p.said, lastWait
	apart(p.cmd)
	return p, p.launch()
}

// launch starts the process, and waits for its end on the thread that started it:
// --exit-with-parent takes the end of that thread for the parent's.
func (p *process) launch() error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = p.cmd.Wait()
		p.said.end()
		close(p.dead)
	}()
	return <-started
}

// over says whether the process has ended.
func (p *process) over() bool {
	select {
	case <-p.dead:
		return true
	default:
		return false
	}
}

// dial connects, as soon as the process listens. From then on it needs the password's
// file no more.
func (p *process) dial(ctx context.Context) (net.Conn, error) {
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", p.socket)
		if err == nil {
			if p.password != "" {
				if err := os.Remove(p.password); err != nil {
					return nil, errors.Join(err, conn.Close())
				}
				p.password = ""
			}
			return conn, nil
		}
		if p.over() {
			return nil, &explained{fmt.Errorf("nbdkit has ended: %w", p.ending()), p.said.quoted()}
		}
		if err := sleep.For(ctx, pollPause); err != nil {
			return nil, err
		}
	}
}

var errEnded = errors.New("exit status 0")

// ending is how the process ended.
func (p *process) ending() error {
	if p.err == nil {
		return errEnded
	}
	return p.err
}

// end ends the process, which has so much time for it, and removes what there is of it.
func (p *process) end(late time.Duration) {
	terminate(p.cmd)
	over := time.NewTimer(late)
	defer over.Stop()
	select {
	case <-p.dead:
	case <-over.C:
		kill(p.cmd)
		<-p.dead
	}
	_ = os.RemoveAll(p.dir) // only the socket is left there, of no use to anybody
}
