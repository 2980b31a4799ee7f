//go:build unix

// Package v2vtest is a machine for tests of conversions, whose programs do what scripts say.
package v2vtest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/internal/appliance"
	"github.com/hyper2kvm/hyper2kvm/internal/process/processtest"
	"github.com/hyper2kvm/hyper2kvm/v2v"
)

// Parts of scripts of a virt-v2v.
const (
	// Changes writes 9 at 64 KiB of each disk of the domain that virt-v2v is given.
	Changes = `for disk in $(sed -n 's/.*<source file="\([^"]*\)".*/\1/p' "$7"); do
	qemu-io -f qcow2 -c 'write -P 9 64k 64k' "$disk" || exit 1
done
`
	// Virtio says that the guest has virtio drivers now.
	Virtio = "echo 'gcaps_block_bus = virtio-blk' >&2; echo 'gcaps_net_bus = virtio-net' >&2\n"
)

// Host has what a conversion takes in Bin.
type Host struct {
	Bin string

	t testing.TB
}

// New returns a host whose virt-v2v does what a script says.
func New(t testing.TB, script string) *Host {
	t.Helper()
	h := &Host{Bin: t.TempDir(), t: t}
	for _, name := range []string{"nbdkit", "qemu-nbd", "supermin", "qemu-system-x86_64", "vmlinuz"} {
		h.Program(name, "exit 0")
	}
	h.V2V(script)
	return h
}

// Program makes a program, in place of one that is there.
func (h *Host) Program(name, script string) {
	h.t.Helper()
	processtest.Script(h.t, filepath.Join(h.Bin, name), script)
}

// V2V makes another virt-v2v, of a version that is good enough.
func (h *Host) V2V(script string) {
	h.t.Helper()
	h.Program(v2v.Program, `[ "$1" != --version ] || exec echo "virt-v2v-in-place 2.2.0"`+"\n"+script)
}

// Machine is the host, of which nothing is known yet.
func (h *Host) Machine() *appliance.Machine {
	return &appliance.Machine{Env: []string{"PATH=" + h.Bin + ":/usr/bin:/bin", "SUPERMIN_KERNEL=" + filepath.Join(h.Bin, "vmlinuz"), "TMPDIR=" + os.TempDir()}}
}

// Without takes a program away from m, also from the rest of its PATH.
func (h *Host) Without(m *appliance.Machine, name string) {
	h.t.Helper()
	for _, other := range []string{"qemu-img", "qemu-io", "sed", "sh", "tar", "cp"} {
		h.Program(other, "exec /usr/bin/"+other+` "$@"`)
	}
	if err := os.Remove(filepath.Join(h.Bin, name)); err != nil {
		h.t.Fatal(err)
	}
	m.Env[0] = "PATH=" + h.Bin
}
