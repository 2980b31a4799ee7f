package appliance

import (
	"bytes"
	"io"
	"strings"
	"sync"
)

// maxLine bounds what is looked at of a line, in bytes.
const maxLine = 64 << 10

// Lines cuts what is written to it into lines.
type Lines struct {
	take func(line string)

	mu   sync.Mutex
	line []byte
}

// NewLines has take get each line that is not empty, without the space around it. What is
// too long is cut.
func NewLines(take func(line string)) *Lines { return &Lines{take: take} }

// Write takes p in. It does not fail.
func (l *Lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for rest := p; len(rest) > 0; {
		part, more, ended := bytes.Cut(rest, []byte("\n"))
		l.line = append(l.line, part[:min(len(part), maxLine-len(l.line))]...)
		if ended {
			l.flush()
		}
		rest = more
	}
	return len(p), nil
}

// End takes what there is for the last line.
func (l *Lines) End() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flush()
}

// flush takes the line that is complete. l.mu is held.
func (l *Lines) flush() {
	if text := strings.TrimSpace(string(l.line)); text != "" {
		l.take(text)
	}
	l.line = l.line[:0]
}

// listener hears what a program says, and hands it on.
type listener struct {
	a     *Attempt
	to    io.Writer
	words *Lines // nil is only heard
}

func (l *listener) Write(p []byte) (int, error) {
	if l.words != nil {
		_, _ = l.words.Write(p)
	}
	l.a.hear()
	return l.to.Write(p)
}
