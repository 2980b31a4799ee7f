package inspect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/appliance"
	"github.com/hyper2kvm/hyper2kvm/nbd"
)

// Disk is a disk of the guest.
type Disk struct {
	Size int64 // bytes
	// Read fills p with the bytes from off on. It is called from several goroutines, and
	// returns soon after ctx ends. An error is final: the look ends by it.
	Read func(ctx context.Context, p []byte, off int64) error
}

// Tool looks into guests, by guestfish. The zero value is the one on the PATH. Do not
// copy it.
type Tool struct {
	Program string
	Machine *appliance.Machine // nil is one of its own
	Launch  time.Duration      // until the appliance is up with KVM; 0 is three minutes

	own appliance.Machine
}

// How long a look may take.
const (
	launch   = 3 * time.Minute
	emulated = 15 * time.Minute // until the appliance is up without KVM
	whole    = 45 * time.Minute
)

func (t *Tool) machine() *appliance.Machine { return cmp.Or(t.Machine, &t.own) }

// Problems lists what is in its way on this machine.
func (t *Tool) Problems() []appliance.Problem { return t.machine().FishProblems(t.Program) }

// Look looks into disks, which are all that a guest has, in their order. It takes bounded
// time, returns soon after ctx ends, and leaves nothing. tell hears what takes long.
func (t *Tool) Look(ctx context.Context, disks []Disk, tell func(text string)) (g Guest, err error) {
	ctx, broken := context.WithCancelCause(ctx)
	defer broken(nil)
	socket, end, err := serve(ctx, disks, broken)
	if err != nil {
		return g, err
	}
	defer func() { err = errors.Join(err, end()) }()
	args := []string{"--ro", "--format=raw"}
	for i := range disks {
		args = append(args, "-a", (&url.URL{Scheme: "nbd", Path: "/" + name(i), RawQuery: "socket=" + url.QueryEscape(socket)}).String())
	}
	l := appliance.Limits{Launch: cmp.Or(t.Launch, launch), Emulated: emulated, Quiet: whole, Whole: whole}
	err = t.machine().Fish(ctx, t.Program, args, l, appliance.Teller{Phase: tell, Info: tell}, func(f *appliance.Fish) error {
		q := newTalk(f)
		found := scan(q)
		switch {
		case q.err == nil:
			g = found
		case !errors.Is(q.err, io.ErrUnexpectedEOF): // it goes on, and nobody listens any more
			broken(q.err)
		}
		return q.err
	})
	return g, err
}

// name is what disk i is called as an export.
func name(i int) string { return fmt.Sprint("disk", i) }

// serve offers disks on a socket that nobody else can reach. A disk that cannot be read is
// told to broken. end ends it, and returns when nothing is left.
func serve(ctx context.Context, disks []Disk, broken func(error)) (socket string, end func() error, err error) {
	dir, err := privateDir()
	if err != nil {
		return "", nil, err
	}
	socket = filepath.Join(dir, "nbd")
	l, err := net.Listen("unix", socket)
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	exports := make([]nbd.Served, len(disks))
	for i, d := range disks {
		exports[i] = nbd.Served{Name: name(i), Size: d.Size, Read: func(ctx context.Context, p []byte, off int64) error {
			err := d.Read(ctx, p, off)
			if err != nil && ctx.Err() == nil {
				broken(err)
			}
			return err
		}}
	}
	ctx, cancel := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() {
		err := nbd.Serve(ctx, l, exports...)
		if err != nil {
			broken(err)
		}
		served <- err
	}()
	return socket, func() error {
		cancel()
		return errors.Join(<-served, os.RemoveAll(dir))
	}, nil
}

// maxSocket is how long the path of a directory for a socket may be: that of a socket has
// 107 bytes at most.
const maxSocket = 90

// privateDir makes a directory for a socket.
func privateDir() (string, error) {
	const pattern = "hyper2kvm-nbd-"
	dir, err := os.MkdirTemp("", pattern)
	if err == nil && len(dir) > maxSocket {
		if err = os.Remove(dir); err == nil {
			dir, err = os.MkdirTemp("/tmp", pattern)
		}
	}
	return dir, err
}
