package guestnet

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/internal/process"
	"github.com/hyper2kvm/hyper2kvm/internal/safetext"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// Tool is the program that reaches into a guest's disks, and its Debian package.
const (
	Tool        = "guestfish"
	ToolPackage = "libguestfs-tools"
)

// What a guest may put before us.
const (
	maxFile    = 256 << 10 // bytes of one file
	maxFiles   = 1000
	maxArchive = 1 << 30 // bytes of /etc
	maxSaid    = 16 << 10
)

const (
	// startsIn is how long guestfish may take until it reads the guest. With a broken
	// KVM it never does; then it is tried once more without, for which there is more time.
	startsIn        = 2 * time.Minute
	startsInWithout = 15 * time.Minute
	// wholeTime bounds all of it, once it reads.
	wholeTime = 15 * time.Minute
)

// Fish is guestfish. The zero value is the one on the PATH. Do not copy it.
type Fish struct {
	Program  string
	StartsIn time.Duration // in place of two minutes

	slow atomic.Bool // KVM turned out to be of no use
}

// Name is the program's name or path.
func (f *Fish) Name() string {
	if f.Program != "" {
		return f.Program
	}
	return Tool
}

// errSilent: guestfish does not come up.
var errSilent = errors.New("guestfish's own small system has not come up in that time")

// Apply makes the changes that [Plan] comes to, in qcow2 images that are all the disks of
// a guest, in their order. After an error the images are of no use. It takes bounded time,
// and returns soon after ctx ends. tell hears what takes long.
func (f *Fish) Apply(ctx context.Context, images []string, n job.GuestNetwork, tell func(text string)) (Changes, error) {
	if os.Getenv("LIBGUESTFS_BACKEND_SETTINGS") != "" {
		return f.try(ctx, images, n, startsInWithout, nil)
	}
	if !f.slow.Load() {
		limit := f.StartsIn
		if limit == 0 {
			limit = startsIn
		}
		done, err := f.try(ctx, images, n, limit, nil)
		if !errors.Is(err, errSilent) {
			return done, err
		}
		tell(fmt.Sprintf("guestfish did not start within %v, as where KVM is broken; it is tried without KVM", limit))
		f.slow.Store(true)
	}
	return f.try(ctx, images, n, startsInWithout, []string{"LIBGUESTFS_BACKEND_SETTINGS=force_tcg"})
}

// try is one life of guestfish.
func (f *Fish) try(ctx context.Context, images []string, n job.GuestNetwork, limit time.Duration, env []string) (Changes, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit+wholeTime, fmt.Errorf("guestfish has taken more than %v", limit+wholeTime))
	defer cancel()
	ctx, silent := context.WithCancelCause(ctx)
	defer silent(nil)
	s, err := f.open(ctx, images, env)
	if err != nil {
		return Changes{}, err
	}
	defer s.close()
	start := time.AfterFunc(limit, func() { silent(errSilent) })
	guest, err := s.read(func() { start.Stop() })
	start.Stop()
	if err != nil {
		// What ended guestfish says more than what that did to its output.
		return Changes{}, firstError(s.end(), err)
	}
	changes, err := Plan(n, guest)
	if err == nil {
		err = s.write(changes)
	}
	return changes, firstError(s.end(), err)
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// session is a guestfish that has a guest's file systems mounted.
type session struct {
	dir     string // for files that go in and out
	in      *os.File
	out     *os.File
	said    tail
	ended   chan struct{}
	err     error // once ended is closed
	drained chan struct{}
}

// open starts guestfish. It gets no more of the environment than it needs.
func (f *Fish) open(ctx context.Context, images, env []string) (*session, error) {
	s := &session{ended: make(chan struct{}), drained: make(chan struct{})}
	var err error
	if s.dir, err = os.MkdirTemp("", "hyper2kvm-guestnet-"); err != nil {
		return nil, err
	}
	var theirIn, theirOut *os.File
	theirIn, s.in, err = os.Pipe()
	if err == nil {
		s.out, theirOut, err = os.Pipe()
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.dir))
	}
	args := []string{"--keys-from-stdin", "--format=qcow2"} // a passphrase is not asked for: there is nobody
	for _, image := range images {
		args = append(args, "-a", image)
	}
	cmd := exec.Command(f.Name(), append(args, "-i")...)
	cmd.Env = environment(env)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirIn, theirOut, &s.said
	go func() {
		defer close(s.ended)
		s.err = process.Run(ctx, cmd)
		_, _ = theirIn.Close(), theirOut.Close()
	}()
	return s, nil
}

// environment is what guestfish gets of ours, and more.
func environment(more []string) []string {
	env := []string{"LC_ALL=C", "LIBGUESTFS_BACKEND=direct"}
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "LIBGUESTFS_BACKEND", "LIBGUESTFS_BACKEND_SETTINGS", "LIBGUESTFS_CACHEDIR", "LIBGUESTFS_PATH", "LIBGUESTFS_HV", "LIBGUESTFS_MEMSIZE", "SUPERMIN_KERNEL", "SUPERMIN_MODULES"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return append(env, more...)
}

// end waits until guestfish has done all it was told, and says whether it could.
func (s *session) end() error {
	_ = s.in.Close()
	<-s.ended
	return s.judge()
}

func (s *session) close() {
	_ = s.end()
	<-s.drained
	_ = s.out.Close()
	_ = os.RemoveAll(s.dir)
}

// judge gives the error of guestfish its words, and advice.
func (s *session) judge() error {
	var exit *exec.ExitError
	switch {
	case s.err == nil:
		return nil
	case errors.Is(s.err, exec.ErrNotFound):
		return fault.Permanent(fault.WithHint(fmt.Errorf("%s is not installed", Tool), "install it: in Debian the package "+ToolPackage))
	case !errors.As(s.err, &exit):
		return fmt.Errorf("%s: %w", Tool, s.err)
	}
	text := strings.TrimSpace(s.said.String())
	err := fmt.Errorf("%s: %w: %s", Tool, s.err, safetext.Bounded(text, 1000))
	for _, known := range []struct{ said, hint string }{
		{"no operating system", "no system that libguestfs knows is on the disks; encrypted ones cannot be looked into"},
		{"multi-boot", "there is more than one system on the disks"},
		{"passphrase", "the guest's disks are encrypted, and nobody can look into them from outside"},
		{"supermin", "libguestfs cannot make its own small system: see that the kernel in /boot can be read by this user, or what libguestfs-test-tool says"},
		{"appliance", "libguestfs cannot run its own small system: see what libguestfs-test-tool says"},
		{"No space left", "free some space where the images are, and in TMPDIR"},
	} {
		if strings.Contains(text, known.said) {
			return fault.WithHint(err, known.hint)
		}
	}
	return err
}

// systemdAt is where systemd's library lies, which has its version in its name.
var systemdAt = []string{"/usr/lib/systemd", "/lib/systemd", "/usr/lib/x86_64-linux-gnu/systemd", "/lib/x86_64-linux-gnu/systemd"}

// read has guestfish read the guest. begun is called once it does.
func (s *session) read(begun func()) (Guest, error) {
	for i, dir := range systemdAt {
		s.tell("-ls0 %s %s", quote(dir), quote(filepath.Join(s.dir, fmt.Sprint("list", i))))
	}
	s.tell("tar-out /etc -")
	g, err := readEtc(&noticed{s.out, begun})
	go func() {
		defer close(s.drained)
		_, _ = io.Copy(io.Discard, s.out)
	}()
	if err != nil {
		return g, err
	}
	for i := range systemdAt {
		text, err := os.ReadFile(filepath.Join(s.dir, fmt.Sprint("list", i)))
		if err != nil {
			continue // there is none
		}
		g.Systemd = max(g.Systemd, systemdOf(string(text)))
	}
	return g, nil
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

var systemdLibrary = regexp.MustCompile(`libsystemd-(?:shared|core)-(\d{3})\b`)

// systemdOf is the version of systemd that a list of files tells, or 0.
func systemdOf(list string) (version int) {
	if m := systemdLibrary.FindStringSubmatch(list); m != nil {
		version, _ = strconv.Atoi(m[1])
	}
	return version
}

// readEtc reads a tar of /etc.
func readEtc(r io.Reader) (Guest, error) {
	g := Guest{Files: map[string]string{}}
	limited := &io.LimitedReader{R: r, N: maxArchive}
	some := false
	for t := tar.NewReader(limited); ; some = true {
		h, err := t.Next()
		if err == io.EOF && some {
			return g, nil
		}
		if err != nil {
			return g, fmt.Errorf("read the guest's /etc: %w", err)
		}
		file := path.Join("/etc", h.Name)
		switch dir := path.Dir(file); {
		case h.Typeflag == tar.TypeSymlink && path.Dir(dir) == "/etc/systemd/system" && strings.HasSuffix(dir, ".wants"):
			if unit := path.Base(file); len(g.Enabled) < maxFiles && !slices.Contains(g.Enabled, unit) {
				g.Enabled = append(g.Enabled, unit)
			}
		case h.Typeflag == tar.TypeReg && Wanted(file) && h.Size <= maxFile && len(g.Files) < maxFiles:
			text, err := io.ReadAll(t)
			if err != nil {
				return g, fmt.Errorf("read the guest's %s: %w", file, err)
			}
			g.Files[file] = string(text)
		}
	}
}

// write has guestfish write files.
func (s *session) write(c Changes) error {
	for i, f := range c.Files {
		local := filepath.Join(s.dir, fmt.Sprint("file", i))
		if err := os.WriteFile(local, []byte(f.Data), 0o600); err != nil {
			return err
		}
		at := quote(f.Path)
		s.tell("mkdir-p %s", quote(path.Dir(f.Path)))
		s.tell("rm-f %s", at)
		s.tell("upload %s %s", quote(local), at)
		s.tell("chown 0 0 %s", at)
		s.tell("chmod 0%o %s", f.Mode, at)
	}
	if c.Relabel {
		s.tell("touch /.autorelabel")
	}
	return nil
}

// tell gives guestfish a command. That it has ended is told by its end.
func (s *session) tell(format string, args ...any) { _, _ = fmt.Fprintf(s.in, format+"\n", args...) }

// quote writes a word as guestfish reads it.
func quote(word string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(word) + `"`
}

// tail keeps the end of what is written to it.
type tail struct{ bytes.Buffer }

func (t *tail) Write(p []byte) (int, error) {
	n, err := t.Buffer.Write(p)
	if over := t.Len() - maxSaid; over > 0 {
		t.Next(over)
	}
	return n, err
}
