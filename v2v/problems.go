package v2v

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/internal/process"
	"github.com/hyper2kvm/hyper2kvm/internal/safetext"
	"github.com/hyper2kvm/hyper2kvm/internal/volume"
	"github.com/hyper2kvm/hyper2kvm/units"
)

// Problem is something in the way of a conversion.
type Problem struct {
	Fatal bool // it cannot succeed
	Text  string
	Hint  string
}

// Debian's packages of what is needed.
const (
	packageV2V    = "virt-v2v"
	packageKernel = "linux-image-cloud-amd64"
)

// programs are what virt-v2v starts, which its package does not bring along everywhere.
var programs = []struct{ name, pkg, what string }{
	{Program, packageV2V, "which converts guests"},
	{"nbdkit", "nbdkit", "which virt-v2v starts"},
	{"qemu-img", "qemu-utils", "which makes the overlays"},
	{"qemu-nbd", "qemu-utils", "which virt-v2v starts"},
	{"supermin", "supermin", "which makes the appliance of libguestfs"},
	{"qemu-system-x86_64", "qemu-system-x86", "which runs the appliance of libguestfs"},
}

// alternatives are what other distributions call a program.
var alternatives = map[string][]string{"qemu-system-x86_64": {"qemu-kvm", "/usr/libexec/qemu-kvm"}, "supermin": {"supermin5"}}

func install(pkg string) string {
	return "install it on this machine: on Debian and Ubuntu the package " + pkg
}

// find is where a program is, "" when it is nowhere.
func (t *Tool) find(name string) string {
	for _, n := range append([]string{name}, alternatives[name]...) {
		if filepath.IsAbs(n) {
			if executable(n) {
				return n
			}
			continue
		}
		for _, dir := range filepath.SplitList(t.getenv("PATH")) {
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

// program is what is started under a name.
func (t *Tool) program(name string) string {
	if path := t.find(name); path != "" {
		return path
	}
	return name
}

// minFree is what virt-v2v wants for its temporary files, in bytes.
const minFree = 1 << 30

// Problems lists what is in the way of conversions on this machine.
func (t *Tool) Problems(ctx context.Context) (out []Problem) {
	for _, p := range programs {
		if t.find(p.name) == "" {
			out = append(out, Problem{true, fmt.Sprintf("%s, %s, is not installed", p.name, p.what), install(p.pkg)})
		}
	}
	if t.find(Program) != "" {
		if _, err := t.version(ctx); err != nil && ctx.Err() == nil {
			out = append(out, Problem{true, err.Error(), fault.Hint(err)})
		}
	}
	if p, ok := t.kernel(); ok {
		out = append(out, p)
	}
	if p, ok := t.temporary(); ok {
		out = append(out, p)
	}
	if f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0); err != nil {
		out = append(out, Problem{false, "/dev/kvm cannot be used: conversions emulate their appliance and take many times as long",
			"turn virtualization on, and let this user open /dev/kvm (on Debian the group kvm)"})
	} else {
		_ = f.Close()
	}
	return out
}

var errVersion = errors.New("it is too old, or not what it is called")

var versionNumber = regexp.MustCompile(`(?:^|\s)(\d+)\.\d+`)

// version is the program with its version. Before 2.0 it was another program.
func (t *Tool) version(ctx context.Context) (string, error) {
	path := t.find(Program)
	if path == "" {
		return "", fault.Permanent(fault.WithHint(fmt.Errorf("%s: %w", Program, exec.ErrNotFound), install(packageV2V)))
	}
	out, err := process.Output(ctx, path, "--version")
	line, _, _ := strings.Cut(strings.TrimSpace(out), "\n")
	line = safetext.Bounded(line, 100)
	hint := "hyper2kvm needs virt-v2v 2.0 or later (Debian 12 has 2.2)"
	if err != nil {
		return "", fault.Permanent(fault.WithHint(err, hint))
	}
	m := versionNumber.FindStringSubmatch(line)
	if m == nil {
		return "", fault.Permanent(fault.WithHint(fmt.Errorf("%s: %w: it says %q of its version", path, errVersion, line), hint))
	}
	if major, err := strconv.Atoi(m[1]); err != nil || major < 2 {
		return "", fault.Permanent(fault.WithHint(fmt.Errorf("%s: %w: %s", path, errVersion, line), hint))
	}
	return line, nil
}

// kernel is what is wrong with the kernel that the appliance is made of.
func (t *Tool) kernel() (Problem, bool) {
	if t.getenv("LIBGUESTFS_PATH") != "" {
		return Problem{}, false // may be an appliance that is made already
	}
	kernels := []string{t.getenv("SUPERMIN_KERNEL")}
	if kernels[0] == "" {
		kernels, _ = filepath.Glob("/boot/vmlinuz-*")
		modules, _ := filepath.Glob("/lib/modules/*/vmlinuz") // as Fedora has them
		kernels = append(kernels, modules...)
	}
	const what = "libguestfs makes its appliance of this machine's kernel"
	if len(kernels) == 0 {
		return Problem{true, what + ", and there is none in /boot", install(packageKernel)}, true
	}
	var why error
	for _, k := range kernels {
		f, err := os.Open(k)
		if err == nil {
			_ = f.Close()
			return t.modules()
		}
		why = err
	}
	if errors.Is(why, os.ErrPermission) {
		return Problem{true, fmt.Sprintf("%s, which cannot be read: %v", what, why), "let everybody read it (Ubuntu does not): chmod 0644 /boot/vmlinuz-*"}, true
	}
	return Problem{true, fmt.Sprintf("%s, which cannot be read: %v", what, why), install(packageKernel)}, true
}

// modules is what is wrong with the kernel's modules.
func (t *Tool) modules() (Problem, bool) {
	if t.getenv("SUPERMIN_KERNEL") != "" {
		return Problem{}, false // then others are named, too, or none are needed
	}
	if _, err := os.ReadDir("/lib/modules"); err != nil {
		return Problem{true, fmt.Sprintf("libguestfs makes its appliance with this machine's kernel modules, which cannot be read: %v", err),
			"under systemd the service needs ProtectKernelModules=no: docs/conversion.md"}, true
	}
	return Problem{}, false
}

// temporary is what is wrong with the directory for the appliance.
func (t *Tool) temporary() (Problem, bool) {
	dir := t.cache()
	free, err := volume.Free(dir)
	if err != nil || free >= minFree {
		return Problem{}, false
	}
	return Problem{true, fmt.Sprintf("%s has %s free, and virt-v2v wants %s there", dir, units.Bytes(free), units.Bytes(minFree)),
		"free some space, or name another directory in LIBGUESTFS_CACHEDIR and TMPDIR"}, true
}
