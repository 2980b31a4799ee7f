package inspect

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/internal/appliance"
	"github.com/hyper2kvm/hyper2kvm/internal/safetext"
)

// What a guest may put before us.
const (
	maxAnswer = 1 << 20 // bytes of one answer
	maxLine   = 300     // bytes of a line that people are shown
	maxList   = 1000    // lines of a list
)

// talk is a conversation with guestfish. Once it is broken, every answer is empty.
type talk struct {
	f    *appliance.Fish
	out  *bufio.Reader
	mark string // ends each answer; no guest can know it
	err  error
}

func newTalk(f *appliance.Fish) *talk {
	return &talk{f: f, out: bufio.NewReader(f.Out), mark: rand.Text()}
}

// word is an argument of a command, quoted.
type word string

// ask has guestfish do a command, and returns what it answers: "" when it has failed,
// which is an answer, too. Arguments of type word are quoted, others are ours.
func (t *talk) ask(command string, args ...any) string {
	if t.err != nil {
		return ""
	}
	for _, a := range args {
		if w, ok := a.(word); ok {
			a = appliance.Quote(string(w))
		}
		command += fmt.Sprintf(" %v", a)
	}
	return t.exchange(command, "-"+command) // with a dash an error is not the end
}

// must has guestfish do a command that is its end when it fails: then there would be no
// other answers, which would look as if nothing were on the disks.
func (t *talk) must(command string) {
	if t.err == nil {
		t.exchange(command, command)
	}
}

// exchange tells guestfish a line, and returns what it answers.
func (t *talk) exchange(command, line string) string {
	t.f.Tell("%s", line)
	t.f.Tell("!echo %s", t.mark) // by another process: what came before is not in a buffer any more
	answer, err := t.answer()
	if err != nil {
		t.err = fmt.Errorf("guestfish has ended, or says too much, when it was asked to %s: %w", safetext.Bounded(command, maxLine), err)
		return ""
	}
	return answer
}

// answer reads up to the mark.
func (t *talk) answer() (string, error) {
	var answer []byte
	end := []byte(t.mark + "\n")
	for len(answer) <= maxAnswer {
		part, err := t.out.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return "", err
		}
		if answer = append(answer, part...); bytes.HasSuffix(answer, end) {
			return string(answer[:len(answer)-len(end)]), nil
		}
	}
	return "", fmt.Errorf("an answer of more than %d bytes", maxAnswer)
}

// line is an answer of one line, printable.
func (t *talk) line(command string, args ...any) string {
	line, _, _ := strings.Cut(strings.TrimSpace(t.ask(command, args...)), "\n")
	return shown(line)
}

// lines is an answer that is a list.
func (t *talk) lines(command string, args ...any) (out []string) {
	for line := range strings.SplitSeq(t.ask(command, args...), "\n") {
		if line = strings.TrimRight(line, "\r"); line != "" && len(out) < maxList {
			out = append(out, line)
		}
	}
	return out
}

// yes is an answer of true or false.
func (t *talk) yes(command string, args ...any) bool {
	return strings.TrimSpace(t.ask(command, args...)) == "true"
}

// text is the beginning of a file, "" if there is none. A thing of another kind might
// never be read to its end.
func (t *talk) text(path string) string {
	if !t.yes("is-file", word(path), "followsymlinks:true") {
		return ""
	}
	return t.ask("pread", word(path), maxText, 0)
}

// maxText is how much of a file is read, in bytes.
const maxText = 256 << 10

// any reports whether one of the files is there.
func (t *talk) any(paths ...string) bool {
	for _, p := range paths {
		if t.yes("exists", word(p)) {
			return true
		}
	}
	return false
}

// shown is text of a guest, fit for people.
func shown(text string) string { return safetext.Bounded(text, maxLine) }
