package jobs

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// ErrQueueFull is what a *[QueueFullError] is.
var ErrQueueFull = errors.New("the queue is full")

// QueueFullError refuses all jobs of a submission, because more would wait then than
// Options.MaxQueued.
type QueueFullError struct{ Limit, Pending, Asked int }

// Error says how many wait and how many may.
func (e *QueueFullError) Error() string {
	return fmt.Sprintf("%v: %d jobs wait, %d are to be added, and no more than %d may wait (limits.queued_jobs); none was added",
		ErrQueueFull, e.Pending, e.Asked, e.Limit)
}

// Unwrap returns [ErrQueueFull].
func (e *QueueFullError) Unwrap() error { return ErrQueueFull }

// Never reports whether the jobs are too many also for an empty queue.
func (e *QueueFullError) Never() bool { return e.Asked > e.Limit }

// NoRoom is a directory whose file system has less room than new work is begun with.
type NoRoom struct {
	Dir    string // jobs at and below it wait
	Reason string // for people
}

// Room knows which directories have no room for new work. It must answer at once.
type Room interface{ Lacking() []NoRoom }

// roomEverywhere is the Room of a Manager that has none.
type roomEverywhere struct{}

func (roomEverywhere) Lacking() []NoRoom { return nil }

// Below reports whether path is dir or below it.
func Below(path, dir string) bool {
	return strings.HasPrefix(filepath.Clean(path)+"/", strings.TrimSuffix(dir, "/")+"/")
}

// lacking are the directories to which no job is to be begun now.
func (m *Manager) lacking() []string {
	var dirs []string
	for _, l := range m.o.Room.Lacking() {
		dirs = append(dirs, l.Dir)
	}
	return dirs
}

// waitingForRoom says why a job that writes to path is not begun, or is empty.
func (m *Manager) waitingForRoom(path string) string {
	for _, l := range m.o.Room.Lacking() {
		if Below(path, l.Dir) {
			return "waiting for room: " + l.Reason
		}
	}
	return ""
}
