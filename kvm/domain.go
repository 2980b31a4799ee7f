package kvm

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"libvirt.org/go/libvirtxml"
)

// MetadataNamespace is the XML namespace of the <source> element that [Domain]
// writes into a domain's metadata.
const MetadataNamespace = "https://github.com/hyper2kvm/hyper2kvm/xmlns/domain/1.0"

// Limits of what [Domain] accepts.
const (
	MaxMemoryMiB = 24 << 20 // 24 TiB, in MiB: the most vSphere 8 gives a VM
	MaxCPUs      = 768      // the same for virtual CPUs
)

// DefaultNetwork is the NAT network that libvirt comes with.
const DefaultNetwork = "default"

// BridgePrefix begins the name of a network that is a bridge of the host.
const BridgePrefix = "bridge:"

// ErrInvalidGuest is what every error of [Domain] is: the guest cannot be
// described to libvirt as it stands.
var ErrInvalidGuest = errors.New("guest cannot be described to libvirt")

// Domain returns the libvirt domain XML of g
// (https://libvirt.org/formatdomain.html), and a note for everything that could not
// be kept as it was. An error satisfies errors.Is(err, [ErrInvalidGuest]) and lists
// every problem of g and o at once.
func Domain(g Guest, o Options) (xml []byte, notes []Note, err error) {
	d, notes, err := Describe(g, o)
	if err != nil {
		return nil, nil, err
	}
	text, err := d.Marshal()
	if err != nil {
		return nil, nil, fmt.Errorf("marshal domain %q: %w", d.Name, err)
	}
	return []byte(text + "\n"), notes, nil
}

// Describe is [Domain] before it is XML, for those who tell other programs than
// libvirt of the same machine. Its disks and cards are in the order of g's.
func Describe(g Guest, o Options) (*libvirtxml.Domain, []Note, error) {
	g.Firmware = cmp.Or(g.Firmware, BIOS)
	if err := check(g, o); err != nil {
		return nil, nil, err
	}
	b := builder{guest: g, options: o}
	d, err := b.domain()
	if err != nil {
		return nil, nil, err
	}
	return d, b.notes, nil
}

// check returns everything about g and o that [Domain] cannot mend.
func check(g Guest, o Options) error {
	var problems []string
	bad := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }

	if g.MemoryMiB < 1 || g.MemoryMiB > MaxMemoryMiB {
		bad("memory is %d MiB: give 1 to %d", g.MemoryMiB, int64(MaxMemoryMiB))
	}
	if g.CPUs < 1 || g.CPUs > MaxCPUs {
		bad("%d CPUs: give 1 to %d", g.CPUs, MaxCPUs)
	}
	if g.Firmware != BIOS && g.Firmware != UEFI {
		bad("firmware %q: give %q or %q", g.Firmware, BIOS, UEFI)
	}
	if g.SecureBoot && g.Firmware == BIOS {
		bad("secure boot needs firmware %q", UEFI)
	}
	if g.NVRAMPath != "" && !goodPath(g.NVRAMPath) {
		bad("NVRAM path %q: give an absolute path without control characters", g.NVRAMPath)
	}
	for i, d := range g.Disks {
		if !goodPath(d.Path) {
			bad("disk %d, path %q: give an absolute path without control characters", i, d.Path)
		}
		if d.Format != "" && d.Format != Raw && d.Format != QCOW2 {
			bad("disk %d, format %q: give %q or %q", i, d.Format, Raw, QCOW2)
		}
	}
	for i, n := range g.NICs {
		if name := strings.TrimPrefix(o.network(n.Network), BridgePrefix); !plain(name) || strings.Contains(name, "/") {
			bad("nic %d, libvirt network %q: its name may not have slashes or control characters", i, name)
		}
	}
	if len(problems) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %q: %s", ErrInvalidGuest, g.Name, strings.Join(problems, "; "))
}

// goodPath says whether libvirt takes a path of an image.
func goodPath(p string) bool { return len(p) > 1 && p[0] == '/' && plain(p) }

// builder puts a domain together and gathers the notes.
type builder struct {
	guest   Guest
	options Options
	notes   []Note
}

func (b *builder) note(device, format string, args ...any) {
	b.notes = append(b.notes, Note{Device: device, Text: fmt.Sprintf(format, args...)})
}

func (b *builder) domain() (*libvirtxml.Domain, error) {
	g := b.guest
	meta, err := metadata(g)
	if err != nil {
		return nil, err
	}
	name, title := b.name()
	d := &libvirtxml.Domain{
		Type:        "kvm",
		Name:        name,
		Title:       title,
		UUID:        b.uuid(),
		Description: b.description(),
		Metadata:    meta,
		Memory:      &libvirtxml.DomainMemory{Value: uint(g.MemoryMiB), Unit: "MiB"},
		OS:          b.os(),
		Features:    b.features(),
		CPU:         b.cpu(),
		Clock:       b.clock(),
		OnPoweroff:  "destroy",
		OnReboot:    "restart",
		OnCrash:     "destroy",
		Devices:     b.devices(),
	}
	d.VCPU = b.vcpu(d.CPU.Topology)
	b.growMemory(d)
	if b.options.Emulate {
		d.Type = "qemu"
	}
	return d, nil
}

// name returns the domain's name, and the VM's own as title where they differ.
func (b *builder) name() (name, title string) {
	name = DomainName(b.guest.Name)
	if b.options.Name != "" && b.options.Name != name {
		name = DomainName(b.options.Name)
		b.note("name", "the domain is called %q: another VM is called %q, too", name, cleanLine(b.guest.Name, maxNameBytes))
		return name, cleanLine(b.guest.Name, maxNameBytes)
	}
	if name == b.guest.Name {
		return name, ""
	}
	b.note("name", "the domain is called %q: libvirt does not take every name", name)
	return name, cleanLine(b.guest.Name, maxNameBytes)
}

// uuid returns the guest's UUID in libvirt's spelling, or nothing where libvirt would
// refuse it.
func (b *builder) uuid() string {
	if b.guest.UUID == "" {
		return ""
	}
	id, err := uuid.Parse(b.guest.UUID)
	if err != nil || id == uuid.Nil || id == uuid.Max {
		b.note("uuid", "%q is not a UUID; libvirt gives the domain a new one", cleanLine(b.guest.UUID, 80))
		return ""
	}
	return id.String()
}

func (b *builder) description() string {
	text := cleanText(b.guest.Description, maxDescriptionBytes)
	if len(b.guest.Description) > maxDescriptionBytes && len(text) <= maxDescriptionBytes {
		b.note("description", "cut to its first %d bytes", len(text))
	}
	return text
}
