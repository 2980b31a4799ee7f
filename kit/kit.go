// Package kit writes what lands a VM's finished images somewhere else than where they are:
// scripts for virsh, Proxmox VE, OpenStack and Incus, manifests for KubeVirt. They are text
// files beside the images, for a person to read and run.
//
// Each is made of the same description as the libvirt domain ([kvm.Describe]): the bus of
// every disk, the model and MAC address of every card, firmware and topology are decided
// there. Where a platform lacks something, the nearest it has is taken, and a comment in the
// file and a [kvm.Note] say so.
//
// Names of VMs come from people and may hold anything. What stands in a script is quoted
// for the shell; in names of the platform's own, only what it allows is left; in comments,
// control characters are escaped.
//
// Not promised: that the guest has the drivers of what the platform has instead.
package kit

import (
	"cmp"
	"fmt"
	"strings"

	"libvirt.org/go/libvirtxml"

	"github.com/hyper2kvm/hyper2kvm/internal/safetext"
	"github.com/hyper2kvm/hyper2kvm/kvm"
)

// Target is a platform.
type Target string

// The platforms.
const (
	Libvirt   Target = "libvirt"
	Proxmox   Target = "proxmox"
	OpenStack Target = "openstack"
	KubeVirt  Target = "kubevirt"
	Incus     Target = "incus"
)

// Machine is a VM whose images are finished.
type Machine struct {
	Guest   kvm.Guest   // as for [kvm.Domain]
	Options kvm.Options // as for [kvm.Domain]
	Images  []Image     // of the guest's disks, in their order
}

// Image is a finished image.
type Image struct {
	File     string // name in the directory of the kit: a plain one, without commas
	Format   kvm.Format
	Capacity int64 // bytes
}

// FileName is the name of the file for a target; stem is how the images' names begin.
func FileName(t Target, stem string) string {
	switch t {
	case Proxmox:
		return stem + ".pve.sh"
	case KubeVirt:
		return stem + ".kubevirt.yaml"
	}
	return stem + "." + string(t) + ".sh"
}

// Targets are the platforms with those names.
func Targets(names []string) []Target {
	var out []Target
	for _, name := range names {
		switch t := Target(name); t {
		case Libvirt, Proxmox, OpenStack, KubeVirt, Incus:
			out = append(out, t)
		}
	}
	return out
}

// File is one of the files.
type File struct {
	Name  string
	Text  []byte
	Notes []kvm.Note
}

// Files returns the files for some targets. The error is that of [kvm.Domain].
func Files(targets []Target, stem string, m Machine) ([]File, error) {
	var out []File
	for _, t := range targets {
		text, notes, err := Write(t, m)
		if err != nil {
			return nil, err
		}
		out = append(out, File{Name: FileName(t, stem), Text: text, Notes: notes})
	}
	return out, nil
}

// Write returns the text of the file for a target, and a note for everything that could
// not be kept. The error is that of [kvm.Domain].
func Write(t Target, m Machine) ([]byte, []kvm.Note, error) {
	d, _, err := kvm.Describe(m.Guest, m.Options)
	if err != nil {
		return nil, nil, err
	}
	w := &writer{target: t, m: m, domain: d}
	switch t {
	case Libvirt:
		w.libvirt()
	case Incus:
		w.incus()
	case Proxmox:
		w.proxmox()
	case OpenStack:
		w.openStack()
	case KubeVirt:
		w.kubeVirt()
	default:
		return nil, nil, fmt.Errorf("no landing kit for %q", t)
	}
	return []byte(w.text.String()), w.notes, nil
}

// writer puts a file together.
type writer struct {
	target Target
	m      Machine
	domain *libvirtxml.Domain
	text   strings.Builder
	notes  []kvm.Note
}

func (w *writer) line(format string, args ...any) { fmt.Fprintf(&w.text, format+"\n", args...) }

// comment writes text, which may hold anything, as a comment.
func (w *writer) comment(format string, args ...any) {
	w.line("# %s", safetext.Bounded(fmt.Sprintf(format, args...), 1000))
}

// note says what could not be kept, in the file and to who asked for it.
func (w *writer) note(device, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.notes = append(w.notes, kvm.Note{Device: device, Text: text})
	w.comment("Note: %s: %s", device, text)
}

func (w *writer) uefi() bool { return w.domain.OS.Firmware == "efi" }

func (w *writer) secureBoot() bool {
	return w.domain.OS.Loader != nil && w.domain.OS.Loader.Secure == "yes"
}

// wantsTPM reports whether the guest's system asks for a TPM.
func (w *writer) wantsTPM() bool { return strings.Contains(kvm.OSInfo(w.m.Guest.GuestID), "/win/11") }

func (w *writer) machine() string { return w.domain.OS.Type.Machine }

// cpus are those that the guest has, and how they are arranged.
func (w *writer) cpus() (all, sockets, cores, threads int) {
	t := w.domain.CPU.Topology
	all = w.m.Guest.CPUs
	return all, all / t.Cores / t.Threads, t.Cores, t.Threads
}

// maxSockets is how many sockets there are with those that CPUs can be added to while the
// guest runs; 0 when none can be.
func (w *writer) maxSockets() int {
	if w.domain.VCPU.Current == 0 {
		return 0
	}
	return w.domain.CPU.Topology.Sockets
}

// bus is where the domain has disk number i: ide, sata or scsi, and of scsi the model.
func (w *writer) bus(i int) (bus, model string) {
	d := w.domain.Devices.Disks[i]
	bus = d.Target.Bus
	for _, c := range w.domain.Devices.Controllers {
		if bus == "scsi" && c.Type == "scsi" && c.Index != nil && d.Address.Drive.Controller != nil && *c.Index == *d.Address.Drive.Controller {
			model = c.Model
		}
	}
	return bus, model
}

// card is a network card.
type card struct {
	model, mac    string
	bridge        string // "" when the domain has it on a libvirt network
	network       string // of libvirt, "" when it is on a bridge
	group         string // of vSphere
	mapped        bool   // the job names a network for the group
	modelOfDomain string
}

func (w *writer) cards() []card {
	var out []card
	for i, n := range w.domain.Devices.Interfaces {
		c := card{model: n.Model.Type, modelOfDomain: n.Model.Type, group: w.m.Guest.NICs[i].Network}
		_, c.mapped = w.m.Options.Mapped(c.group)
		if n.MAC != nil {
			c.mac = n.MAC.Address
		}
		switch {
		case n.Source.Bridge != nil:
			c.bridge = n.Source.Bridge.Bridge
		case n.Source.Network != nil:
			c.network = n.Source.Network.Network
		}
		out = append(out, c)
	}
	return out
}

func (w *writer) windows() bool { return strings.HasPrefix(w.m.Guest.GuestID, "win") }

// quote writes s as one word of a POSIX shell.
func quote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// label is a name as DNS labels are: lower-case letters, digits and hyphens, which do not
// stand at its ends, at most max bytes.
func label(s string, max int) string {
	var b strings.Builder
	for _, r := range strings.ToLower(s) {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			b.WriteRune(r)
		} else if text := b.String(); text != "" && !strings.HasSuffix(text, "-") {
			b.WriteByte('-')
		}
		if b.Len() == max {
			break
		}
	}
	return cmp.Or(strings.Trim(b.String(), "-"), "vm")
}

// gib is how many GiB hold so many bytes, at least one.
func gib(bytes int64) int64 { return max(1, (bytes+1<<30-1)>>30) }

// head begins a script.
func (w *writer) head(what string) {
	w.line("#!/bin/sh")
	w.comment("Lands the VM %s %s. Written by hyper2kvm; read it before it is run.", w.m.Guest.Name, what)
	w.line("set -eu")
	w.line(`CDPATH='' cd -- "$(dirname -- "$0")" # where the images are`)
	w.line("")
}

// traps has the script's undo run at its end, however that comes: a shell that a signal ends
// does not run it by itself, and a session at a distant machine ends by HUP when it is lost.
func (w *writer) traps() {
	w.line("trap undo EXIT")
	w.line("trap 'exit 129' HUP")
	w.line("trap 'exit 130' INT")
	w.line("trap 'exit 143' TERM")
}
