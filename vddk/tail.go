package vddk

import (
	"bytes"
	"fmt"
	"strings"
	"sync"

	"github.com/hyper2kvm/hyper2kvm/internal/safetext"
)

// Bounds of what is kept and told of nbdkit's words.
const (
	maxLine  = 500 // bytes of a line
	keptEnd  = 6   // lines for the error
	maxLines = 200 // told; of the rest only that there are more
)

// program begins each line of it.
const program = "nbdkit: "

// tail takes what a program writes, line by line, and keeps the last lines. The zero
// value tells nobody.
type tail struct {
	tell   func(string)
	secret string // is not repeated

	mu    sync.Mutex
	line  []byte
	long  bool // the line has been cut
	last  []string
	lines int

	leaving bool // what is said of the end is not why it came to it
}

// Write takes p in.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for rest := p; len(rest) > 0; {
		part, more, ended := bytes.Cut(rest, []byte("\n"))
		if room := maxLine + len(t.secret) - len(t.line); len(part) > room {
			part, t.long = part[:room], true
		}
		t.line = append(t.line, part...)
		if ended {
			t.flush()
		}
		rest = more
	}
	return len(p), nil
}

// end takes what there is for the last line.
func (t *tail) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.flush()
}

// flush takes the line that is complete. t.mu is held.
func (t *tail) flush() {
	text := string(t.line)
	t.line = t.line[:0]
	if t.secret != "" {
		text = strings.ReplaceAll(text, t.secret, "[password]")
		if t.long {
			text = text[:max(len(text)-len(t.secret), 0)] // which may end in a part of it
		}
	}
	t.long = false
	text = safetext.Bounded(strings.TrimSpace(text), maxLine)
	if text == "" {
		return
	}
	text = program + strings.TrimPrefix(text, program)
	if !t.leaving {
		t.last = append(t.last, text)
		t.last = t.last[max(len(t.last)-keptEnd, 0):]
	}
	t.lines++
	switch {
	case t.tell == nil:
	case t.lines < maxLines:
		t.tell(text)
	case t.lines == maxLines:
		t.tell(fmt.Sprintf("nbdkit has said %d lines; what else it says is left out", maxLines))
	}
}

// leave keeps the last lines as they are.
func (t *tail) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.leaving = true
}

// quoted is what was said last, as the end of a sentence; "" for nothing.
func (t *tail) quoted() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.last) == 0 {
		return ""
	}
	return "; it has said: “" + strings.Join(t.last, "; ") + "”"
}
