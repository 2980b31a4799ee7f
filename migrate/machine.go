package migrate

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/kit"
	"github.com/hyper2kvm/hyper2kvm/kvm"
	"github.com/hyper2kvm/hyper2kvm/migrate/workdir"
)

// describeMachine writes the libvirt domain of the VM, and the landing kits that the job
// asks for, and returns their renames.
func (r *run) describeMachine() (renames []workdir.Rename, err error) {
	files, notes, err := r.machineFiles(r.kvmOptions())
	if err != nil {
		return nil, err
	}
	for _, n := range notes {
		r.note("%s", n)
	}
	for _, f := range files {
		if err := r.work.WriteFile(f.name, f.text); err != nil {
			return nil, err
		}
		renames = append(renames, workdir.Rename{From: f.name, To: f.name})
	}
	return renames, nil
}

// kvmOptions are the choices of the job about the domain.
func (r *run) kvmOptions() kvm.Options {
	return kvm.Options{Virtio: r.def.Options.Virtio, NetworkMap: r.def.Options.NetworkMap, Name: r.domain}
}

// machineFile is a file that describes the VM.
type machineFile struct {
	name string
	text []byte
}

// machineFiles are the libvirt domain, and the landing kits that the job asks for. notes
// are what people should know of them: see aboutMachine.
func (r *run) machineFiles(o kvm.Options) (files []machineFile, notes []string, err error) {
	if r.here != nil && r.here.Bare {
		return nil, nil, nil
	}
	m := kit.Machine{Guest: r.guest(), Options: o}
	xml, about, err := kvm.Domain(m.Guest, m.Options)
	if err != nil {
		return nil, nil, fault.Permanent(fmt.Errorf("libvirt domain: %w", err))
	}
	for _, n := range about {
		notes = append(notes, fmt.Sprintf("libvirt domain, %s", n))
	}
	files = []machineFile{{r.domainName(), xml}}
	for i, d := range r.vm.Disks {
		m.Images = append(m.Images, kit.Image{File: r.diskName(i), Format: kvm.Format(r.def.Options.Format), Capacity: d.Capacity})
	}
	kits, err := kit.Files(r.kits(), r.work.Base(), m)
	if err != nil {
		return nil, nil, fault.Permanent(err)
	}
	for _, f := range kits {
		for _, n := range f.Notes {
			notes = append(notes, fmt.Sprintf("landing kit %s, %s", f.Name, n))
		}
		files = append(files, machineFile{f.Name, f.Text})
	}
	return files, notes, nil
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
	if r.here != nil {
		guest := r.here.Guest
		guest.Disks = slices.Clone(guest.Disks)
		for i := range guest.Disks {
			guest.Disks[i].Path, guest.Disks[i].Format = r.work.Final(r.diskName(i)), kvm.Format(r.def.Options.Format)
		}
		return guest
	}
	guest := kvm.Guest{
		Name:           r.vm.DisplayName(),
		UUID:           r.vm.BIOSUUID,
		Description:    r.vm.Annotation,
		MemoryMiB:      r.vm.MemoryMiB,
		CPUs:           r.vm.CPUs,
		CoresPerSocket: r.vm.CoresPerSocket,
		CPUHotAdd:      r.vm.CPUHotAdd,
		MemoryHotAdd:   r.vm.MemoryHotAdd,
		MaxMemoryMiB:   r.vm.MaxMemoryMiB,
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
	for i, d := range r.vm.Disks {
		guest.Disks = append(guest.Disks, kvm.Disk{
			Path:       r.work.Final(r.diskName(i)),
			Format:     kvm.Format(r.def.Options.Format),
			Bus:        kvm.Bus(d.Controller),
			Controller: d.Bus,
			Unit:       d.Unit,
		})
	}
	for _, n := range r.vm.NICs {
		guest.NICs = append(guest.NICs, kvm.NIC{MAC: n.MAC, Model: n.Type, Network: n.Network})
	}
	return guest
}
