// Package v2v makes a guest ready for KVM by virt-v2v: drivers, boot loader, what
// VMware left behind. It runs virt-v2v-in-place on the disks that a libvirt domain names,
// which are overlays as a rule, because a conversion that fails leaves a disk "possibly
// corrupted", as its manual says.
//
// [Tool.Problems] says beforehand what is missing on this machine. [Tool.Convert] runs the
// program, bounded in time, and kills it with everything that it has started when it takes
// longer or is not wanted any more. Its appliance, a small virtual machine, hangs on
// machines whose /dev/kvm is broken, such as some virtual ones; then it is run once more
// without that, which is slow and works.
//
// Not promised: that the guest boots. virt-v2v knows the systems that its manual lists.
package v2v

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/process"
)

// Program is what converts.
const Program = "virt-v2v-in-place"

// Defaults of a [Tool]'s times.
const (
	DefaultLaunch = 5 * time.Minute
	DefaultQuiet  = 40 * time.Minute // an initramfs is made without a word, emulated on a busy machine in 13 minutes
	DefaultWhole  = 4 * time.Hour
)

// Tool runs conversions, a few at a time: each has an appliance that takes a processor
// and a gigabyte of memory. The zero value works. Do not copy it.
type Tool struct {
	// VirtioWin is the path of the ISO with virtio drivers for Windows; "" is what
	// virt-v2v finds itself.
	VirtioWin string

	Launch time.Duration // without a word before the appliance is up; 0 is DefaultLaunch
	Quiet  time.Duration // without a word after that; 0 is DefaultQuiet
	Whole  time.Duration // in all; 0 is DefaultWhole

	// Env is the environment that the programs are looked for in, as in os.Environ; nil is
	// that of this process.
	Env []string

	slow  atomic.Bool // /dev/kvm turned out to be of no use
	once  sync.Once
	turns chan struct{}
}

// Outcome is what a conversion came to.
type Outcome struct {
	Program string // and its version
	// VirtioDisks and VirtioCards: the guest has the drivers now, and is to have its
	// disks on virtio-blk (vda, vdb, …), its cards on virtio-net.
	VirtioDisks, VirtioCards bool
	SCSI                     bool     // the disks are to be on virtio-scsi (sda, sdb, …)
	Warnings                 []string // printable
}

// Teller hears of a conversion while it runs. Its functions must return soon.
type Teller struct {
	Phase func(text string) // what is being done now; printable
	Info  func(text string)
}

// Errors of a conversion, beside what the program says itself.
var (
	ErrHung    = errors.New("it says nothing any more")
	ErrTooLong = errors.New("it takes too long")
)

// Convert converts the guest whose disks domain, a libvirt domain, names. Everything that
// virt-v2v says goes to log. macs are values of its option --mac, for Windows. Errors have advice where the reason is a known one.
func (t *Tool) Convert(ctx context.Context, domain []byte, log io.Writer, tell Teller, macs ...string) (Outcome, error) {
	done, err := t.turn(ctx, tell)
	if err != nil {
		return Outcome{}, err
	}
	defer done()
	version, err := t.version(ctx)
	if err != nil {
		return Outcome{}, err
	}
	dir, err := os.MkdirTemp("", "hyper2kvm-v2v-")
	if err != nil {
		return Outcome{}, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	xml := filepath.Join(dir, "domain.xml")
	if err := os.WriteFile(xml, domain, 0o600); err != nil {
		return Outcome{}, err
	}
	r, err := t.attempt(ctx, xml, log, tell, macs)
	if err != nil && ctx.Err() == nil && !t.slow.Load() && (r.applianceFailed() || errors.Is(err, ErrHung) && !r.up()) {
		t.slow.Store(true)
		tell.Info("the appliance of libguestfs does not come up with /dev/kvm: trying again without it, which is slow")
		_, _ = fmt.Fprintln(log, "\nhyper2kvm: once more with "+forceTCG)
		r, err = t.attempt(ctx, xml, log, tell, macs)
	}
	if err != nil {
		return Outcome{}, err
	}
	return r.outcome(version), nil
}

// turn waits until this conversion may run.
func (t *Tool) turn(ctx context.Context, tell Teller) (done func(), err error) {
	t.once.Do(func() { t.turns = make(chan struct{}, max(1, runtime.NumCPU()/2)) })
	select {
	case t.turns <- struct{}{}:
	default:
		tell.Phase("waiting for another conversion to end")
		select {
		case t.turns <- struct{}{}:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return func() { <-t.turns }, nil
}

// attempt runs the program once.
func (t *Tool) attempt(ctx context.Context, xml string, log io.Writer, tell Teller, macs []string) (*reader, error) {
	run, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := &reader{tell: tell, log: log, heard: make(chan struct{}, 1), traces: map[trace]bool{}}
	over := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() { t.watch(r, over, cancel) })

	// Of a guest with several systems the right one is not known: that is an error.
	args := []string{"--machine-readable", "-v", "--root", "single"}
	for _, mac := range macs {
		args = append(args, "--mac", mac)
	}
	cmd := exec.Command(t.program(Program), append(args, "-i", "libvirtxml", xml)...)
	cmd.Env = t.environment(filepath.Dir(xml))
	cmd.Stdout, cmd.Stderr = r.messages(), r.words()
	err := process.Run(run, cmd)
	close(over)
	watching.Wait()
	r.end()
	switch {
	case ctx.Err() != nil:
		return r, context.Cause(ctx)
	case err != nil:
		return r, r.explain(err)
	case r.broken != nil:
		return r, fmt.Errorf("log of the conversion: %w", r.broken)
	}
	return r, nil
}

// watch ends a run that says nothing, or takes too long.
func (t *Tool) watch(r *reader, over <-chan struct{}, end context.CancelCauseFunc) {
	whole := time.NewTimer(or(t.Whole, DefaultWhole))
	defer whole.Stop()
	launch, quiet := or(t.Launch, DefaultLaunch), or(t.Quiet, DefaultQuiet)
	silence := time.NewTimer(launch)
	defer silence.Stop()
	patience := launch
	for {
		select {
		case <-over:
			return
		case <-r.heard:
			if r.up() {
				patience = quiet
			}
			silence.Reset(patience)
		case <-silence.C:
			end(fmt.Errorf("%w: not a word for %v", ErrHung, patience))
			return
		case <-whole.C:
			end(fmt.Errorf("%w: %v", ErrTooLong, or(t.Whole, DefaultWhole)))
			return
		}
	}
}

func or(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}

// forceTCG has libguestfs leave /dev/kvm alone.
const forceTCG = "LIBGUESTFS_BACKEND_SETTINGS=force_tcg"

// passed begins the names of the variables that virt-v2v gets from our environment, in
// which there may be passwords.
var passed = []string{"PATH=", "HOME=", "TMPDIR=", "LIBGUESTFS_", "SUPERMIN_", "VIRTIO_WIN=", "VIRT_TOOLS_DATA_DIR=", "XDG_CACHE_HOME=", "XDG_RUNTIME_DIR="}

// all is the environment that there is.
func (t *Tool) all() []string {
	if t.Env != nil {
		return t.Env
	}
	return os.Environ()
}

// getenv is a variable of it; the last one counts.
func (t *Tool) getenv(name string) (value string) {
	for _, v := range t.all() {
		if text, ok := strings.CutPrefix(v, name+"="); ok {
			value = text
		}
	}
	return value
}

// cache is where libguestfs keeps its appliance.
func (t *Tool) cache() string {
	return cmp.Or(t.getenv("LIBGUESTFS_CACHEDIR"), t.getenv("TMPDIR"), "/var/tmp")
}

// environment is that of the program, whose temporary files are in a directory that goes
// when it has ended, also when it was killed.
func (t *Tool) environment(temporary string) []string {
	env := []string{
		"LC_ALL=C.UTF-8",            // its words are looked at
		"LIBGUESTFS_BACKEND=direct", // the other one asks libvirt, whose QEMU may not read the images
	}
	for _, v := range t.all() {
		if slices.ContainsFunc(passed, func(name string) bool { return strings.HasPrefix(v, name) }) {
			env = append(env, v) // the last one counts
		}
	}
	env = append(env, "LIBGUESTFS_CACHEDIR="+t.cache(), "TMPDIR="+temporary, "LIBGUESTFS_TMPDIR="+temporary)
	if t.VirtioWin != "" {
		env = append(env, "VIRTIO_WIN="+t.VirtioWin)
	}
	if t.slow.Load() {
		env = append(env, forceTCG)
	}
	return env
}
