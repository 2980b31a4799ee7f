package appliance

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/internal/volume"
	"github.com/hyper2kvm/hyper2kvm/units"
)

// Problem is something in the way of a run.
type Problem struct {
	Fatal bool // it cannot succeed
	Text  string
	Hint  string
}

// Program is one that has to be on this machine.
type Program struct {
	Name    string
	Package string // Debian's
	What    string // it does, as a relative clause
}

// Install is the advice to install a package of Debian.
func Install(pkg string) string {
	return "install it on this machine: on Debian and Ubuntu the package " + pkg
}

const packageKernel = "linux-image-cloud-amd64"

// alternatives are what other distributions call a program.
var alternatives = map[string][]string{"qemu-system-x86_64": {"qemu-kvm", "/usr/libexec/qemu-kvm"}, "supermin": {"supermin5"}}

// Find is where a program is, by its name or path; "" when it is nowhere.
func (m *Machine) Find(name string) string {
	for _, n := range append([]string{name}, alternatives[name]...) {
		if filepath.IsAbs(n) {
			if executable(n) {
				return n
			}
			continue
		}
		for _, dir := range filepath.SplitList(m.Getenv("PATH")) {
			if path := filepath.Join(dir, n); filepath.IsAbs(path) && executable(path) {
				return path
			}
		}
	}
	return ""
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// Missing lists the programs that are not installed.
func (m *Machine) Missing(programs ...Program) (out []Problem) {
	for _, p := range programs {
		if m.Find(p.Name) == "" {
			out = append(out, Problem{true, fmt.Sprintf("%s, %s, is not installed", p.Name, p.What), Install(p.Package)})
		}
	}
	return out
}

// minFree is what libguestfs and virt-v2v want for their temporary files, in bytes.
const minFree = 1 << 30

// Problems lists what is in the way of appliances on this machine.
func (m *Machine) Problems() (out []Problem) {
	if m.Getenv("LIBGUESTFS_PATH") == "" { // else it may name an appliance that is made already
		out = append(out, m.Missing(Program{"supermin", "supermin", "which makes the appliance of libguestfs"})...)
	}
	if m.Getenv("LIBGUESTFS_HV") == "" {
		out = append(out, m.Missing(Program{"qemu-system-x86_64", "qemu-system-x86", "which runs the appliance of libguestfs"})...)
	}
	for _, look := range []func() (Problem, bool){m.kernel, m.temporary} {
		if p, ok := look(); ok {
			out = append(out, p)
		}
	}
	if f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0); err != nil {
		out = append(out, Problem{false, "/dev/kvm cannot be used: the appliance of libguestfs is emulated and takes many times as long",
			"turn virtualization on, and let this user open /dev/kvm (on Debian the group kvm)"})
	} else {
		_ = f.Close()
	}
	return out
}

// kernel is what is wrong with the kernel that the appliance is made of.
func (m *Machine) kernel() (Problem, bool) {
	if m.Getenv("LIBGUESTFS_PATH") != "" {
		return Problem{}, false
	}
	kernels := []string{m.Getenv("SUPERMIN_KERNEL")}
	if kernels[0] == "" {
		kernels, _ = filepath.Glob("/boot/vmlinuz-*")
		modules, _ := filepath.Glob("/lib/modules/*/vmlinuz") // as Fedora has them
		kernels = append(kernels, modules...)
	}
	const what = "libguestfs makes its appliance of this machine's kernel"
	if len(kernels) == 0 {
		return Problem{true, what + ", and there is none in /boot", Install(packageKernel)}, true
	}
	var why error
	for _, k := range kernels {
		f, err := os.Open(k)
		if err == nil {
			_ = f.Close()
			return m.modules()
		}
		why = err
	}
	if errors.Is(why, os.ErrPermission) {
		return Problem{true, fmt.Sprintf("%s, which cannot be read: %v", what, why), "let everybody read it (Ubuntu does not): chmod 0644 /boot/vmlinuz-*"}, true
	}
	return Problem{true, fmt.Sprintf("%s, which cannot be read: %v", what, why), Install(packageKernel)}, true
}

// modules is what is wrong with the kernel's modules.
func (m *Machine) modules() (Problem, bool) {
	if m.Getenv("SUPERMIN_KERNEL") != "" {
		return Problem{}, false // then others are named, too, or none are needed
	}
	if _, err := os.ReadDir("/lib/modules"); err != nil {
		return Problem{true, fmt.Sprintf("libguestfs makes its appliance with this machine's kernel modules, which cannot be read: %v", err),
			"under systemd the service needs ProtectKernelModules=no: docs/conversion.md"}, true
	}
	return Problem{}, false
}

// temporary is what is wrong with the directory for the appliance.
func (m *Machine) temporary() (Problem, bool) {
	dir := m.cache()
	free, err := volume.Free(dir)
	if err != nil || free >= minFree {
		return Problem{}, false
	}
	return Problem{true, fmt.Sprintf("%s has %s free, and virt-v2v and libguestfs want %s there", dir, units.Bytes(free), units.Bytes(minFree)),
		"free some space, or name another directory in LIBGUESTFS_CACHEDIR and TMPDIR"}, true
}

var (
	superminFails  = regexp.MustCompile(`(?i)supermin`)
	applianceFails = regexp.MustCompile(`(?i)appliance (closed|failed)|guestfs_launch`)
)

// Explain gives err, that of a program which said words last, the advice that is known for
// failures of the appliance itself. Others are returned as they are.
func Explain(err error, words string) error {
	switch {
	case superminFails.MatchString(words):
		return fault.Permanent(fault.WithHint(err,
			"libguestfs cannot make its appliance of this machine's kernel: see that /boot/vmlinuz-* can be read and that its modules are in /lib/modules (Debian: "+packageKernel+")"))
	case applianceFails.MatchString(words):
		return fault.WithHint(err, "libguestfs cannot run its appliance: see what libguestfs-test-tool says")
	}
	return err
}

// settings is the variable with settings of libguestfs's backend, with colons in between,
// of which forceTCG has it leave /dev/kvm alone.
const (
	settings = "LIBGUESTFS_BACKEND_SETTINGS"
	forceTCG = "force_tcg"
)

// passed begins the names of the variables that programs get from our environment, in
// which there may be passwords.
var passed = []string{"PATH=", "HOME=", "LIBGUESTFS_", "SUPERMIN_", "VIRTIO_WIN=", "VIRT_TOOLS_DATA_DIR=", "XDG_CACHE_HOME=", "XDG_RUNTIME_DIR="}

// environ is the environment that there is.
func (m *Machine) environ() []string {
	if m.Env != nil {
		return m.Env
	}
	return os.Environ()
}

// Getenv is a variable of the environment that programs are looked for in; the last one
// counts.
func (m *Machine) Getenv(name string) (value string) {
	for _, v := range m.environ() {
		if text, ok := strings.CutPrefix(v, name+"="); ok {
			value = text
		}
	}
	return value
}

// cache is where libguestfs keeps its appliance.
func (m *Machine) cache() string {
	return cmp.Or(m.Getenv("LIBGUESTFS_CACHEDIR"), m.Getenv("TMPDIR"), "/var/tmp")
}

// emulates reports whether appliances are run without KVM.
func (m *Machine) emulates() bool {
	return m.broken.Load() || slices.Contains(strings.Split(m.Getenv(settings), ":"), forceTCG)
}

// environment is that of a program, whose temporary files are in a directory that goes
// when it has ended, also when it was killed.
func (m *Machine) environment(temporary string, emulated bool) []string {
	env := []string{
		"LC_ALL=C.UTF-8",            // its words are looked at
		"LIBGUESTFS_BACKEND=direct", // the other one asks libvirt, whose QEMU may not read the images
	}
	for _, v := range m.environ() {
		if slices.ContainsFunc(passed, func(name string) bool { return strings.HasPrefix(v, name) }) {
			env = append(env, v) // the last one counts
		}
	}
	env = append(env, "LIBGUESTFS_CACHEDIR="+m.cache(), "TMPDIR="+temporary, "LIBGUESTFS_TMPDIR="+temporary)
	if emulated {
		own := strings.Trim(strings.ReplaceAll(":"+m.Getenv(settings)+":", ":"+forceTCG+":", ":"), ":")
		env = append(env, settings+"="+strings.Trim(forceTCG+":"+own, ":"))
	}
	return env
}
