package landing

import (
	"fmt"
	"slices"

	"github.com/google/uuid"
	"libvirt.org/go/libvirtxml"
)

// Namespace is that of the element which names a landing in its domain's metadata.
const Namespace = "https://github.com/hyper2kvm/hyper2kvm/xmlns/landing/1.0"

// describe makes of the exported domain the one that is landed.
func (l *lander) describe(xml []byte) (*libvirtxml.Domain, string, error) {
	d := new(libvirtxml.Domain)
	if err := d.Unmarshal(string(xml)); err != nil {
		return nil, "", fmt.Errorf("the exported domain: %w", err)
	}
	if d.Devices == nil || len(d.Devices.Disks) != len(l.notes.Paths) {
		return nil, "", fmt.Errorf("the exported domain does not have the %d disks that were landed", len(l.notes.Paths))
	}
	for i, path := range l.notes.Paths {
		d.Devices.Disks[i].Source = &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: path}}
	}
	l.name(d)
	if d.Metadata == nil {
		d.Metadata = &libvirtxml.DomainMetadata{}
	}
	d.Metadata.XML += fmt.Sprintf("<landing:landing xmlns:landing=%q id=%q/>", Namespace, l.notes.ID)
	switch {
	case l.driverIsTest():
		d.Type = "test"
	case l.emulate:
		emulated(d)
	}
	if l.tpm {
		d.Devices.TPMs = []libvirtxml.DomainTPM{{Model: "tpm-crb", Backend: &libvirtxml.DomainTPMBackend{
			Emulator: &libvirtxml.DomainTPMBackendEmulator{Version: "2.0"},
		}}}
	}
	text, err := d.Marshal()
	return d, text, err
}

func (s *site) driverIsTest() bool {
	at, err := parseURI(s.plan.URI)
	return err == nil && at.driver == "test:///default"
}

// name gives the domain a name and a UUID that are free.
func (l *lander) name(d *libvirtxml.Domain) {
	if l.suffix > 1 {
		d.Name, d.UUID = suffixed(d.Name, l.suffix, false), ""
		l.tell.Warn(fmt.Sprintf("the domain is called %s, with a new UUID: the names that it was to have are taken", d.Name))
	}
	if d.UUID == "" { // to know it by, whatever it is called
		d.UUID = uuid.NewString()
	}
}

// emulated makes the domain one for QEMU's own emulation: without what is KVM's work.
func emulated(d *libvirtxml.Domain) {
	d.Type = "qemu"
	if d.Features != nil {
		d.Features.HyperV = nil
	}
	if d.Clock != nil {
		d.Clock.Timer = slices.DeleteFunc(d.Clock.Timer, func(t libvirtxml.DomainTimer) bool { return t.Name == "hypervclock" })
	}
}
