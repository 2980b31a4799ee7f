package landing

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/digitalocean/go-libvirt"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
)

const (
	// stallTime is how long libvirt may take none of an image's bytes.
	stallTime = 3 * time.Minute
	// Each area of data costs an upload of its own: small holes are sent as zeros.
	smallHole = 1 << 20 // bytes
	maxAreas  = 1000
)

// area is a part of a file that holds data.
type area struct{ off, len int64 }

// upload sends the areas of f that hold data into a volume of zeros.
func (l *lander) upload(ctx context.Context, volume libvirt.StorageVol, f *os.File, size int64, name string) error {
	areas, err := dataAreas(f, size)
	if err != nil {
		return err
	}
	areas = merge(areas)
	var total, sent int64
	for _, a := range areas {
		total += a.len
	}
	l.tell.At(name, 0, total)
	for _, a := range areas {
		r := &sending{from: io.NewSectionReader(f, a.off, a.len), sent: func(n int64) {
			sent += n
			l.tell.At(name, sent, total)
		}}
		if err := l.send(ctx, volume, r, a); err != nil {
			return err
		}
		if n := r.count.Load(); n != a.len {
			return fmt.Errorf("%w: %d of %d bytes at %d were sent: the image changes", io.ErrUnexpectedEOF, n, a.len, a.off)
		}
	}
	return nil
}

// send uploads one area. A libvirt that takes nothing for long is given up.
func (l *lander) send(ctx context.Context, volume libvirt.StorageVol, r *sending, a area) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(stallTime, func() {
		cancel(fault.WithHint(fmt.Errorf("%w: it has taken nothing of the image for %v", ErrAway, stallTime), "look at libvirt's log and at the storage of the pool"))
	})
	defer watchdog.Stop()
	r.alive = func() { watchdog.Reset(stallTime) }
	defer r.stop() // the library may have a reader behind after an error
	return l.long(ctx, func() error {
		return l.l.StorageVolUpload(volume, r, uint64(a.off), uint64(a.len), 0)
	})
}

// sending is an area on its way.
type sending struct {
	from  io.Reader
	sent  func(int64)
	alive func()
	count atomic.Int64

	mu      sync.Mutex // held while somebody is told
	stopped bool       // nobody is to be told any more
}

var errStopped = errors.New("the upload was given up")

// Read implements io.Reader for the library's sender.
func (s *sending) Read(p []byte) (int, error) {
	n, err := s.from.Read(p[:min(len(p), smallHole)])
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return 0, errStopped
	}
	s.count.Add(int64(n))
	s.alive()
	s.sent(int64(n))
	return n, err
}

func (s *sending) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
}

// merge joins areas between which there is little, until there are few enough.
func merge(areas []area) []area {
	for hole := int64(smallHole); ; hole *= 2 {
		var out []area
		for _, a := range areas {
			if n := len(out); n > 0 && a.off-(out[n-1].off+out[n-1].len) < hole {
				out[n-1].len = a.off + a.len - out[n-1].off
				continue
			}
			out = append(out, a)
		}
		if len(out) <= maxAreas {
			return out
		}
		areas = out
	}
}
