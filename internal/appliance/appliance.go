// Package appliance runs programs of libguestfs, such as virt-v2v and guestfish. They
// reach into the disks of guests by a small virtual machine of their own, the appliance,
// which supermin makes of this machine's kernel and QEMU runs.
//
// [Machine.Problems] says what is missing for that, with the packages of Debian.
// [Machine.Run] runs a program with the environment that it is to have, bounded in time,
// and kills it with everything that it has started when it says nothing any more or is not
// wanted. On machines whose /dev/kvm is broken, such as some virtual ones, the appliance
// hangs or dies before it is up: no disk was touched then, and the program is run once more
// without, which is slow and works. [Machine.Fish] does it with guestfish, which is told
// one command after the other.
package appliance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/process"
)

// Machine is this machine, as far as appliances go. All that starts them in a process is
// to share one: it runs a few at a time, because each takes a processor and a gigabyte of
// memory, and remembers whether KVM works. The zero value works. Do not copy it.
type Machine struct {
	// Env is the environment that programs are looked for in and get a part of, as in
	// os.Environ; nil is that of this process.
	Env []string

	broken atomic.Bool // KVM turned out to be of no use
	once   sync.Once
	turns  chan struct{}
}

// Limits bound a run in time. None is 0.
type Limits struct {
	Launch   time.Duration // without a word before the appliance is up
	Emulated time.Duration // the same, when it is emulated
	Quiet    time.Duration // without a word after that
	Whole    time.Duration // in all
}

// Teller hears of a run. Its functions must return soon.
type Teller struct {
	Phase func(text string) // what is being done now; printable
	Info  func(text string)
}

// Errors of a run, beside what the program says itself.
var (
	ErrHung    = errors.New("it says nothing any more")
	ErrTooLong = errors.New("it takes too long")
)

// Run has do run a program, and once more without KVM when its appliance did not come up
// with it. It first waits until few enough others run.
func (m *Machine) Run(ctx context.Context, l Limits, tell Teller, do func(*Attempt) error) error {
	done, err := m.turn(ctx, tell)
	if err != nil {
		return err
	}
	defer done()
	a, err := m.attempt(ctx, l, 1, do)
	if err == nil || ctx.Err() != nil || a.emulated || !a.neverUp(err) {
		return err
	}
	m.broken.Store(true)
	tell.Info("the appliance of libguestfs does not come up with /dev/kvm: trying again without KVM, which is slow")
	_, err = m.attempt(ctx, l, 2, do)
	return err
}

// turn waits until this run may begin.
func (m *Machine) turn(ctx context.Context, tell Teller) (done func(), err error) {
	m.once.Do(func() { m.turns = make(chan struct{}, max(1, runtime.NumCPU()/2)) })
	select {
	case m.turns <- struct{}{}:
	default:
		tell.Phase("waiting for another appliance of libguestfs to end")
		select {
		case m.turns <- struct{}{}:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return func() { <-m.turns }, nil
}

func (m *Machine) attempt(ctx context.Context, l Limits, number int, do func(*Attempt) error) (*Attempt, error) {
	a := &Attempt{Number: number, m: m, emulated: m.emulates(), limits: l, heard: make(chan struct{}, 1)}
	if a.emulated {
		a.limits.Launch = l.Emulated
	}
	var err error
	if a.Dir, err = os.MkdirTemp("", "hyper2kvm-fs-"); err != nil {
		return a, err
	}
	defer func() { _ = os.RemoveAll(a.Dir) }()
	if err = do(a); err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return a, err
}

// Attempt is one try to run a program.
type Attempt struct {
	Number int    // 2 is once more, without KVM
	Dir    string // for files; it goes with the attempt

	m        *Machine
	emulated bool
	limits   Limits
	heard    chan struct{} // gets a value after each word, unless it has one
	up, qemu atomic.Bool
}

// Command is a program, by its name or path, with the environment that it is to have.
func (a *Attempt) Command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	if !strings.ContainsRune(program, filepath.Separator) {
		if cmd.Path, cmd.Err = a.m.Find(program), nil; cmd.Path == "" {
			cmd.Err = &exec.Error{Name: program, Err: exec.ErrNotFound}
		}
	}
	cmd.Env = a.m.environment(a.Dir, a.emulated)
	return cmd
}

// Run is [process.Run] of a [Attempt.Command], once for an attempt. What the program
// writes to its standard output and error is looked at, unless that is a file.
func (a *Attempt) Run(ctx context.Context, cmd *exec.Cmd) error {
	run, end := context.WithCancelCause(ctx)
	defer end(nil)
	over := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() { a.watch(over, end) })
	defer watching.Wait()
	defer close(over)
	if _, file := cmd.Stdout.(*os.File); cmd.Stdout != nil && !file {
		cmd.Stdout = &listener{a: a, to: cmd.Stdout}
	}
	if cmd.Stderr != nil {
		words := NewLines(a.word)
		cmd.Stderr = &listener{a: a, to: cmd.Stderr, words: words}
		defer words.End()
	}
	return process.Run(run, cmd)
}

// Up says that the appliance is up, for programs that do not say it themselves.
func (a *Attempt) Up() {
	a.up.Store(true)
	a.hear()
}

func (a *Attempt) hear() {
	select {
	case a.heard <- struct{}{}:
	default:
	}
}

// neverUp reports whether an attempt that ended with err did so before its appliance was
// up, and by no fault of the program's.
func (a *Attempt) neverUp(err error) bool {
	return !a.up.Load() && (a.qemu.Load() || errors.Is(err, ErrHung))
}

// qemuFails is how programs say, with debugging, that QEMU is about to be started,
// and without, that it did not come to what it is for.
var qemuFails = regexp.MustCompile(`qemu\S* \\$|guestfs_launch failed|appliance closed the connection`)

// word takes a line of the program's standard error.
func (a *Attempt) word(line string) {
	switch {
	case strings.Contains(line, "appliance is up"):
		a.up.Store(true)
	case qemuFails.MatchString(line):
		a.qemu.Store(true)
	}
}

// watch ends a run that says nothing, or takes too long.
func (a *Attempt) watch(over <-chan struct{}, end context.CancelCauseFunc) {
	whole := time.NewTimer(a.limits.Whole)
	defer whole.Stop()
	patience := a.limits.Launch
	silence := time.NewTimer(patience)
	defer silence.Stop()
	for {
		select {
		case <-over:
			return
		case <-a.heard:
			if a.up.Load() {
				patience = a.limits.Quiet
			}
			silence.Reset(patience)
		case <-silence.C:
			end(fmt.Errorf("%w: not a word for %v", ErrHung, patience))
			return
		case <-whole.C:
			end(fmt.Errorf("%w: %v", ErrTooLong, a.limits.Whole))
			return
		}
	}
}
