package watch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/volume"
)

// patience is how long a file system may take to answer: one of a server that is
// away may never do.
const patience = 2 * time.Second

var errSilent = fmt.Errorf("its file system has not answered for %v", patience)

// Volume is the file system of a directory.
type Volume struct {
	Path string
	Free int64 // bytes that the daemon may still write
	Size int64 // bytes in all
	Err  error // why it cannot be told
}

// Space looks at the file systems of directories. Its methods may be called from
// any goroutine.
type Space struct {
	paths []string
	usage func(dir string) (free, size int64, err error)

	mu    sync.Mutex
	looks map[string]chan struct{} // by path: closed when the look that goes on is over
	last  map[string]Volume
}

// NewSpace returns a Space of these directories, each once. One that does not exist
// yet counts as the nearest directory above it that does.
func NewSpace(paths ...string) *Space {
	s := &Space{usage: volume.Usage, looks: make(map[string]chan struct{}), last: make(map[string]Volume)}
	seen := make(map[string]bool)
	for _, p := range paths {
		if p = filepath.Clean(p); !seen[p] {
			seen[p] = true
			s.paths = append(s.paths, p)
		}
	}
	return s
}

// Look asks all of them at once, and returns when they have answered or have had
// their time.
func (s *Space) Look(ctx context.Context) []Volume {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var done []chan struct{}
	for _, p := range s.paths {
		done = append(done, s.begin(p))
	}
	out := make([]Volume, len(s.paths))
	for i, p := range s.paths {
		select {
		case <-done[i]:
		case <-ctx.Done():
		}
		select {
		case <-done[i]: // also when the others have used up the time
			s.mu.Lock()
			out[i] = s.last[p]
			s.mu.Unlock()
		default:
			out[i] = Volume{Path: p, Err: errSilent}
		}
	}
	return out
}

// begin starts a look at a directory, or joins the one that goes on: one that hangs
// takes one goroutine, however often it is asked for.
func (s *Space) begin(path string) (done chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if done := s.looks[path]; done != nil {
		return done
	}
	done = make(chan struct{})
	s.looks[path] = done
	go func() {
		v := Volume{Path: path}
		v.Free, v.Size, v.Err = s.nearest(path)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.last[path] = v
		delete(s.looks, path)
		close(done)
	}()
	return done
}

// nearest is the usage at path or the nearest directory above it that is there.
func (s *Space) nearest(path string) (free, size int64, err error) {
	for {
		free, size, err = s.usage(path)
		if !errors.Is(err, os.ErrNotExist) || filepath.Dir(path) == path {
			return free, size, err
		}
		path = filepath.Dir(path)
	}
}
