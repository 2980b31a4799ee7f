package guestnet

import (
	"archive/tar"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/appliance"
	"github.com/hyper2kvm/hyper2kvm/job"
)

// What a guest may put before us.
const (
	maxFile    = 256 << 10 // bytes of one file
	maxFiles   = 1000
	maxArchive = 1 << 30 // bytes of /etc
)

const (
	// startsIn is how long guestfish may take until it reads the guest.
	startsIn        = 2 * time.Minute
	startsInWithout = 15 * time.Minute // without KVM
	// wholeTime bounds the rest, once it reads.
	wholeTime = 15 * time.Minute
)

// Fish is guestfish. The zero value is the one on the PATH. Do not copy it.
type Fish struct {
	Program  string
	Machine  *appliance.Machine // nil is one of its own
	StartsIn time.Duration      // in place of two minutes

	own appliance.Machine
}

func (f *Fish) machine() *appliance.Machine { return cmp.Or(f.Machine, &f.own) }

// Problems lists what is in its way on this machine.
func (f *Fish) Problems() []appliance.Problem { return f.machine().FishProblems(f.Program) }

// Apply makes the changes that [Plan] comes to, in qcow2 images that are all the disks of
// a guest, in their order. After an error the images are of no use. It takes bounded time,
// and returns soon after ctx ends. tell hears what takes long.
func (f *Fish) Apply(ctx context.Context, images []string, n job.GuestNetwork, tell func(text string)) (changes Changes, err error) {
	args := []string{"--format=qcow2"}
	for _, image := range images {
		args = append(args, "-a", image)
	}
	limits := appliance.Limits{Launch: cmp.Or(f.StartsIn, startsIn), Emulated: startsInWithout, Quiet: wholeTime, Whole: startsInWithout + wholeTime}
	err = f.machine().Fish(ctx, f.Program, append(args, "-i"), limits, appliance.Teller{Phase: tell, Info: tell}, func(s *appliance.Fish) error {
		guest, err := readGuest(s)
		if err != nil {
			return err
		}
		if changes, err = Plan(n, guest); err != nil {
			return err
		}
		return writeGuest(s, changes)
	})
	return changes, err
}

// systemdAt is where systemd's library lies, which has its version in its name.
var systemdAt = []string{"/usr/lib/systemd", "/lib/systemd", "/usr/lib/x86_64-linux-gnu/systemd", "/lib/x86_64-linux-gnu/systemd"}

// readGuest has guestfish read the guest.
func readGuest(s *appliance.Fish) (Guest, error) {
	list := func(i int) string { return filepath.Join(s.Dir, fmt.Sprint("list", i)) }
	for i, dir := range systemdAt {
		s.Tell("-ls0 %s %s", appliance.Quote(dir), appliance.Quote(list(i)))
	}
	s.Tell("tar-out /etc -")
	g, err := readEtc(s.Out)
	s.Discard()
	if err != nil {
		return g, err
	}
	for i := range systemdAt {
		text, err := os.ReadFile(list(i))
		if err != nil {
			continue // there is none
		}
		g.Systemd = max(g.Systemd, systemdOf(string(text)))
	}
	return g, nil
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

// writeGuest has guestfish write files.
func writeGuest(s *appliance.Fish, c Changes) error {
	for i, f := range c.Files {
		local := filepath.Join(s.Dir, fmt.Sprint("file", i))
		if err := os.WriteFile(local, []byte(f.Data), 0o600); err != nil {
			return err
		}
		at := appliance.Quote(f.Path)
		s.Tell("mkdir-p %s", appliance.Quote(path.Dir(f.Path)))
		s.Tell("rm-f %s", at)
		s.Tell("upload %s %s", appliance.Quote(local), at)
		s.Tell("chown 0 0 %s", at)
		s.Tell("chmod 0%o %s", f.Mode, at)
	}
	if c.Relabel {
		s.Tell("touch /.autorelabel")
	}
	return nil
}
