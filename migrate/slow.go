package migrate

import (
	"fmt"
	"sync"
	"time"

	"github.com/hyper2kvm/hyper2kvm/progress"
)

// slowAfter is how long something may take that no counter shows before it is
// worth a word: anything longer looks like a hang.
const slowAfter = time.Second

// slow is something that may take long: waiting for somebody else, or reading a
// file again. Once it has taken longer than slowAfter, an event and the
// tracker's activity say what it is.
type slow struct {
	r          *run
	file, text string
	timer      *time.Timer

	mu      sync.Mutex
	ended   bool
	shown   *progress.Activity // nil before slowAfter
	percent int64
}

// slow begins something of the run or, with file not empty, of a file; call
// end when it is over.
func (r *run) slow(file, format string, args ...any) *slow {
	s := &slow{r: r, file: file, text: fmt.Sprintf(format, args...)}
	s.timer = time.AfterFunc(slowAfter, s.show)
	return s
}

func (s *slow) show() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	s.shown = s.r.t.Begin(s.label())
	s.r.info(s.file, "%s", s.text)
}

func (s *slow) label() string {
	if s.file == "" {
		return s.text
	}
	return s.file + ": " + s.text
}

// at tells how far it is. It may be called often.
func (s *slow) at(done, total int64) {
	if total <= 0 {
		return
	}
	percent := int64(float64(done) / float64(total) * 100)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shown != nil && percent != s.percent {
		s.percent = percent
		s.shown.Set(fmt.Sprintf("%s, %d %%", s.label(), percent))
	}
}

// end says that it is over.
func (s *slow) end() {
	s.timer.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	if s.shown != nil {
		s.shown.End()
	}
}
