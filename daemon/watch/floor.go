package watch

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/jobs"
	"github.com/hyper2kvm/hyper2kvm/units"
)

// floorEvery is how often a [Floor] looks.
const floorEvery = 5 * time.Second

// Floor keeps new work from file systems that have little room left: it is a
// [jobs.Room]. A file system that does not answer keeps nothing from it.
type Floor struct {
	space    *Space
	stateDir string
	least    int64
	log      *slog.Logger

	mu      sync.Mutex
	lacking []jobs.NoRoom
}

// NewFloor returns a Floor of least bytes for the directories of space. Of stateDir,
// the daemon's own, all work needs some room.
func NewFloor(space *Space, stateDir string, least int64, log *slog.Logger) *Floor {
	return &Floor{space: space, stateDir: stateDir, least: least, log: log}
}

// Lacking implements [jobs.Room].
func (f *Floor) Lacking() []jobs.NoRoom {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.lacking)
}

// Run looks every few seconds until ctx ends.
func (f *Floor) Run(ctx context.Context) error {
	tick := time.NewTicker(floorEvery)
	defer tick.Stop()
	for {
		f.look(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// look asks all file systems, and logs what has changed.
func (f *Floor) look(ctx context.Context) {
	var now []jobs.NoRoom
	for _, v := range f.space.Look(ctx) {
		dir, least := v.Path, f.least
		if v.Path == f.stateDir {
			dir, least = "/", min(least, minState)
		}
		if v.Err == nil && v.Free < least {
			now = append(now, jobs.NoRoom{Dir: dir, Reason: fmt.Sprintf(
				"the file system of %s has %s free, less than %s; running jobs go on", v.Path, units.Bytes(v.Free), units.Bytes(least))})
		}
	}
	f.mu.Lock()
	before := f.lacking
	f.lacking = now
	f.mu.Unlock()
	has := func(all []jobs.NoRoom, dir string) bool {
		return slices.ContainsFunc(all, func(l jobs.NoRoom) bool { return l.Dir == dir })
	}
	for _, l := range now {
		if !has(before, l.Dir) {
			f.log.Warn("no new job is begun below a directory: "+l.Reason, "dir", l.Dir)
		}
	}
	for _, l := range before {
		if !has(now, l.Dir) {
			f.log.Info("there is room again: jobs go on", "dir", l.Dir)
		}
	}
}
