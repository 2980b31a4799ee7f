package migrate

import (
	"fmt"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/kit"
	"github.com/hyper2kvm/hyper2kvm/kvm"
	"github.com/hyper2kvm/hyper2kvm/migrate/workdir"
)

// describeMachine writes the libvirt domain of the VM, and the landing kits that the job
// asks for, and returns their renames.
func (r *run) describeMachine() ([]workdir.Rename, error) {
	m := kit.Machine{Guest: r.guest(), Options: kvm.Options{
		Virtio: r.def.Options.Virtio, NetworkMap: r.def.Options.NetworkMap, Name: r.domain,
	}}
	xml, notes, err := kvm.Domain(m.Guest, m.Options)
	if err != nil {
		return nil, fault.Permanent(fmt.Errorf("libvirt domain: %w", err))
	}
	for _, n := range notes {
		r.note("libvirt domain, %s", n)
	}
	if err := r.work.WriteFile(r.domainName(), xml); err != nil {
		return nil, err
	}
	for _, d := range r.disks {
		m.Images = append(m.Images, kit.Image{File: d.name, Format: kvm.Format(r.def.Options.Format), Capacity: d.disk.Capacity})
	}
	renames := []workdir.Rename{{From: r.domainName(), To: r.domainName()}}
	files, err := kit.Files(r.kits(), r.work.Base(), m)
	if err != nil {
		return nil, fault.Permanent(err)
	}
	for _, f := range files {
		for _, n := range f.Notes {
			r.note("landing kit %s, %s", f.Name, n)
		}
		if err := r.work.WriteFile(f.Name, f.Text); err != nil {
			return nil, err
		}
		renames = append(renames, workdir.Rename{From: f.Name, To: f.Name})
	}
	return renames, nil
}

// kits are the platforms that the job asks for a landing kit for.
func (r *run) kits() []kit.Target {
	names, _ := job.ParseTargets(r.def.Options.For) // validated when the job was taken
	return kit.Targets(names)
}

// kitNames are the final names of their files.
func (r *run) kitNames() []string {
	var out []string
	for _, t := range r.kits() {
		out = append(out, kit.FileName(t, r.work.Base()))
	}
	return out
}

// kitsAsked is how the job asks for them, always spelled alike.
func kitsAsked(o job.Options) string {
	names, _ := job.ParseTargets(o.For)
	return strings.Join(names, ",")
}

// guest is the VM as package kvm describes it, with its finished images.
func (r *run) guest() kvm.Guest {
	guest := kvm.Guest{
		Name:           r.vm.DisplayName(),
		UUID:           r.vm.BIOSUUID,
		Description:    r.vm.Annotation,
		MemoryMiB:      r.vm.MemoryMiB,
		CPUs:           r.vm.CPUs,
		CoresPerSocket: r.vm.CoresPerSocket,
		Firmware:       kvm.Firmware(r.vm.Firmware),
		SecureBoot:     r.vm.SecureBoot,
		GuestID:        r.vm.GuestID,
		GuestFullName:  r.vm.GuestFullName,
		Source: kvm.Source{
			VCenter:      r.client.About().Host,
			Path:         r.vm.Path,
			Moref:        r.vm.Ref,
			InstanceUUID: r.vm.InstanceUUID,
		},
	}
	for _, d := range r.disks {
		guest.Disks = append(guest.Disks, kvm.Disk{
			Path:       r.work.Final(d.name),
			Format:     kvm.Format(r.def.Options.Format),
			Bus:        kvm.Bus(d.disk.Controller),
			Controller: d.disk.Bus,
			Unit:       d.disk.Unit,
		})
	}
	for _, n := range r.vm.NICs {
		guest.NICs = append(guest.NICs, kvm.NIC{MAC: n.MAC, Model: n.Type, Network: n.Network})
	}
	return guest
}
