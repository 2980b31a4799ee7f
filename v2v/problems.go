package v2v

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/internal/appliance"
	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/internal/process"
	"github.com/hyper2kvm/hyper2kvm/internal/safetext"
)

// Problem is something in the way of a conversion.
type Problem = appliance.Problem

// packageV2V is Debian's package of the program.
const packageV2V = "virt-v2v"

// programs are virt-v2v and what it starts, which its package does not bring along
// everywhere.
var programs = []appliance.Program{
	{Name: Program, Package: packageV2V, What: "which converts guests"},
	{Name: "nbdkit", Package: "nbdkit", What: "which virt-v2v starts"},
	{Name: "qemu-img", Package: "qemu-utils", What: "which makes the overlays"},
	{Name: "qemu-nbd", Package: "qemu-utils", What: "which virt-v2v starts"},
}

// Problems lists what is in the way of conversions on this machine.
func (t *Tool) Problems(ctx context.Context) []Problem {
	out := t.machine().Missing(programs...)
	if t.machine().Find(Program) != "" {
		if _, err := t.version(ctx); err != nil && ctx.Err() == nil {
			out = append(out, Problem{Fatal: true, Text: err.Error(), Hint: fault.Hint(err)})
		}
	}
	return append(out, t.machine().Problems()...)
}

var errVersion = errors.New("it is too old, or not what it is called")

var versionNumber = regexp.MustCompile(`(?:^|\s)(\d+)\.\d+`)

// version is the program with its version. Before 2.0 it was another program.
func (t *Tool) version(ctx context.Context) (string, error) {
	path := t.machine().Find(Program)
	if path == "" {
		return "", fault.Permanent(fault.WithHint(fmt.Errorf("%s: %w", Program, exec.ErrNotFound), appliance.Install(packageV2V)))
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
