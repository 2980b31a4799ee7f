package kvm

import (
	"fmt"
	"math/bits"
	"strings"

	"libvirt.org/go/libvirtxml"
)

// The room of guests to which CPUs or memory can be added while they run (F-INV-7). vSphere
// has no bound of a VM's own for CPUs, QEMU wants one: it is KubeVirt's and oVirt's.
const (
	hotAddRatio = 4         // times what the guest has
	memorySlots = 16        // memory modules that can be added
	hotAddLimit = 512 << 10 // MiB: half of what a CPU of QEMU addresses by default (40 bits), the rest is for PCI
)

// socketsWithRoom is how many sockets the board has: those of the guest, and empty ones where
// CPUs can be added. Those beyond the guest's cost it nothing.
func (b *builder) socketsWithRoom(sockets, cores, threads int) int {
	if !b.guest.CPUHotAdd {
		return sockets
	}
	const lost = "CPUs can no longer be added while it runs: "
	if b.guest.CPUs > manyCPUs {
		b.note("cpu", lost+"it has more than %d, beyond which no room is kept", manyCPUs)
		return sockets
	}
	// An APIC numbers a CPU by bits for its socket, its core and its thread.
	own := bits.Len(uint(cores-1)) + bits.Len(uint(threads-1)) //nolint:gosec // from 1 to MaxCPUs
	room := min(sockets*hotAddRatio, (manyCPUs+1)>>own, manyCPUs/(cores*threads))
	if room <= sockets {
		b.note("cpu", lost+"a further socket of %d would be beyond the %d CPUs that such a board takes", cores*threads, manyCPUs)
		return sockets
	}
	return room
}

// growMemory lets memory modules be added to d while it runs, for which libvirt wants a
// NUMA cell: one, which has all that there is.
func (b *builder) growMemory(d *libvirtxml.Domain) {
	g := b.guest
	if !g.MemoryHotAdd {
		return
	}
	const lost = "memory can no longer be added while it runs: "
	room := min(g.MemoryMiB*hotAddRatio, hotAddLimit)
	if g.MaxMemoryMiB > g.MemoryMiB {
		room = min(room, g.MaxMemoryMiB)
	}
	switch {
	case !strings.Contains(g.GuestID, "64"):
		b.note("memory", lost+"the guest is not known to be a 64-bit system")
		return
	case room <= g.MemoryMiB:
		b.note("memory", lost+"it has %d MiB already, and more than %d could be too much for the host's CPU", g.MemoryMiB, int64(hotAddLimit))
		return
	}
	d.MaximumMemory = &libvirtxml.DomainMaxMemory{Value: uint(room), Unit: "MiB", Slots: memorySlots}
	d.CPU.Numa = &libvirtxml.DomainNuma{Cell: []libvirtxml.DomainCell{{
		ID: ptr(0), CPUs: fmt.Sprintf("0-%d", d.VCPU.Value-1), Memory: uint(g.MemoryMiB), Unit: "MiB",
	}}}
}
