package appliance

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/internal/safetext"
)

// Guestfish reaches into a guest's disks.
var Guestfish = Program{"guestfish", "libguestfs-tools", "which reaches into guests"}

// FishProblems lists what is in the way of [Machine.Fish] on this machine.
func (m *Machine) FishProblems(program string) []Problem {
	guestfish := Guestfish
	guestfish.Name = cmp.Or(program, guestfish.Name)
	return append(m.Missing(guestfish), m.Problems()...)
}

// Fish is a guestfish at work.
type Fish struct {
	Dir string    // for files that go in and out; it goes with the program
	Out io.Reader // what it writes to its standard output

	in      *os.File
	out     *os.File
	said    tail
	ended   chan struct{}
	err     error // once ended is closed
	discard sync.Once
	drained chan struct{}
}

// Fish runs guestfish, or the program that is named, with use telling it what to do, and
// waits until it has done that. The appliance counts as up with the first byte of Out.
// use may be called twice, the second time for what begins anew. An error of guestfish
// comes before one of use, which has it by what that did to Out, and says what guestfish
// said, with advice.
func (m *Machine) Fish(ctx context.Context, program string, args []string, l Limits, tell Teller, use func(*Fish) error) error {
	return m.Run(ctx, l, tell, func(a *Attempt) (err error) {
		f, err := a.fish(ctx, cmp.Or(program, Guestfish.Name), args)
		if err != nil {
			return err
		}
		defer func() {
			if ended := f.end(); ended != nil {
				err = ended
			}
		}()
		return use(f)
	})
}

// fish starts guestfish.
func (a *Attempt) fish(ctx context.Context, program string, args []string) (*Fish, error) {
	f := &Fish{Dir: a.Dir, ended: make(chan struct{}), drained: make(chan struct{})}
	theirIn, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, theirIn.Close(), in.Close())
	}
	f.in, f.out, f.Out = in, out, &noticed{out, a.Up}
	cmd := a.Command(program, append([]string{"--keys-from-stdin"}, args...)...) // a passphrase is not asked for: there is nobody
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirIn, theirOut, &f.said
	go func() {
		defer close(f.ended)
		f.err = a.Run(ctx, cmd)
		_, _ = theirIn.Close(), theirOut.Close()
	}()
	return f, nil
}

// Tell gives guestfish a command. That it could do it is told by its end.
func (f *Fish) Tell(format string, args ...any) { _, _ = fmt.Fprintf(f.in, format+"\n", args...) }

// Quote writes a word of a command as guestfish reads it.
func Quote(word string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(word) + `"`
}

// Discard throws away what is still to come of Out, which is not read after that.
func (f *Fish) Discard() {
	f.discard.Do(func() {
		go func() {
			defer close(f.drained)
			_, _ = io.Copy(io.Discard, f.Out)
		}()
	})
}

// end waits until guestfish has done all it was told, and says whether it could.
func (f *Fish) end() error {
	_ = f.in.Close()
	f.Discard()
	<-f.ended
	<-f.drained
	_ = f.out.Close()
	return f.judge()
}

// failures are those of which guestfish says why, and no repetition helps.
var failures = []struct {
	says *regexp.Regexp
	hint string
}{
	{regexp.MustCompile(`no operating system`), "no system that libguestfs knows is on the disks; encrypted ones cannot be looked into"},
	{regexp.MustCompile(`multi-boot`), "there is more than one system on the disks"},
	{regexp.MustCompile(`passphrase`), "the guest's disks are encrypted, and nobody can look into them from outside"},
}

// judge gives the error of guestfish its words, and advice.
func (f *Fish) judge() error {
	var exit *exec.ExitError
	switch {
	case f.err == nil:
		return nil
	case errors.Is(f.err, exec.ErrNotFound):
		return fault.Permanent(fault.WithHint(fmt.Errorf("%s is not installed", Guestfish.Name), Install(Guestfish.Package)))
	case !errors.As(f.err, &exit):
		return fmt.Errorf("%s: %w", Guestfish.Name, f.err)
	}
	words := strings.TrimSpace(f.said.String())
	err := fmt.Errorf("%s: %w: %s", Guestfish.Name, f.err, safetext.Bounded(words, 1000))
	for _, k := range failures {
		if k.says.MatchString(words) {
			return fault.Permanent(fault.WithHint(err, k.hint))
		}
	}
	if strings.Contains(words, "No space left") {
		return fault.WithHint(err, "free some space where the images are, and in TMPDIR")
	}
	return Explain(err, words)
}

// noticed is a reader that tells when it has had something.
type noticed struct {
	io.Reader
	begun func()
}

func (r *noticed) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if n > 0 && r.begun != nil {
		r.begun()
		r.begun = nil
	}
	return n, err
}

// maxSaid bounds what is kept of guestfish's words, in bytes.
const maxSaid = 16 << 10

// tail keeps the end of what is written to it.
type tail struct{ bytes.Buffer }

func (t *tail) Write(p []byte) (int, error) {
	n, err := t.Buffer.Write(p)
	if over := t.Len() - maxSaid; over > 0 {
		t.Next(over)
	}
	return n, err
}
