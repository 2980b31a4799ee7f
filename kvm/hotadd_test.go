package kvm_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/kvm"
)

// hotAdd makes CPUs and memory such as can be added while the guest runs.
func hotAdd(g *kvm.Guest) {
	g.CPUHotAdd, g.MemoryHotAdd = true, true
	g.CPUs, g.CoresPerSocket = 4, 2
}

func TestAGuestKeepsRoomForWhatCanBeAddedWhileItRuns(t *testing.T) {
	t.Parallel()
	base := kvm.Guest{Name: "h", MemoryMiB: 2048, CPUs: 4, CoresPerSocket: 2, GuestID: "debian12_64Guest"}
	for _, test := range []struct {
		name   string
		change func(*kvm.Guest)
		cpus   string // those there are, those there may be, and their topology
		memory string // that there may be, "" when none can be added
		note   string // "" for none
	}{
		{name: "nothing can be added", change: func(*kvm.Guest) {}, cpus: "4/4 2x2x1"},
		{name: "CPUs", change: func(g *kvm.Guest) { g.CPUHotAdd = true }, cpus: "4/16 8x2x1"},
		{name: "memory", change: func(g *kvm.Guest) { g.MemoryHotAdd = true }, cpus: "4/4 2x2x1", memory: "8192 in 16, cell of 0-3"},
		{name: "both", change: hotAdd, cpus: "4/16 8x2x1", memory: "8192 in 16, cell of 0-15"},
		{name: "threads", change: func(g *kvm.Guest) { hotAdd(g); g.CPUs, g.ThreadsPerCore = 4, 2 }, cpus: "4/16 4x2x2", memory: "8192 in 16, cell of 0-15"},
		{name: "a topology that does not hold", change: func(g *kvm.Guest) { g.CPUHotAdd, g.CPUs, g.CoresPerSocket = true, 6, 4 }, cpus: "6/24 24x1x1", note: "each CPU is a socket now"},
		{name: "one CPU", change: func(g *kvm.Guest) { g.CPUHotAdd, g.CPUs, g.CoresPerSocket = true, 1, 0 }, cpus: "1/4 4x1x1"},
		{name: "as many as the board takes", change: func(g *kvm.Guest) { g.CPUHotAdd, g.CPUs, g.CoresPerSocket = true, 128, 16 }, cpus: "128/240 15x16x1"},
		{name: "sockets whose CPUs are no power of two", change: func(g *kvm.Guest) { g.CPUHotAdd, g.CPUs, g.CoresPerSocket = true, 80, 5 }, cpus: "80/160 32x5x1"},
		{name: "no further socket", change: func(g *kvm.Guest) { g.CPUHotAdd, g.CPUs, g.CoresPerSocket = true, 128, 128 }, cpus: "128/128 1x128x1", note: "CPUs can no longer be added"},
		{name: "more CPUs than the board takes", change: func(g *kvm.Guest) { g.CPUHotAdd, g.CPUs, g.CoresPerSocket = true, 256, 1 }, cpus: "256/256 256x1x1", note: "CPUs can no longer be added while it runs: it has more than 255"},
		{name: "the source's bound", change: func(g *kvm.Guest) { g.MemoryHotAdd, g.MaxMemoryMiB = true, 3072 }, cpus: "4/4 2x2x1", memory: "3072 in 16, cell of 0-3"},
		{name: "a wide bound", change: func(g *kvm.Guest) { g.MemoryHotAdd, g.MaxMemoryMiB = true, 32768 }, cpus: "4/4 2x2x1", memory: "8192 in 16, cell of 0-3"},
		{name: "a bound that leaves nothing, as of a VM that has grown to it", change: func(g *kvm.Guest) { g.MemoryHotAdd, g.MaxMemoryMiB = true, 2048 }, cpus: "4/4 2x2x1", memory: "8192 in 16, cell of 0-3"},
		{name: "a bound of nonsense", change: func(g *kvm.Guest) { g.MemoryHotAdd, g.MaxMemoryMiB = true, -1 }, cpus: "4/4 2x2x1", memory: "8192 in 16, cell of 0-3"},
		{name: "much memory", change: func(g *kvm.Guest) { g.MemoryHotAdd, g.MemoryMiB = true, 256<<10 }, cpus: "4/4 2x2x1", memory: "524288 in 16, cell of 0-3"},
		{name: "too much memory", change: func(g *kvm.Guest) { g.MemoryHotAdd, g.MemoryMiB = true, 512<<10 }, cpus: "4/4 2x2x1", note: "memory can no longer be added"},
		{name: "a 32-bit system", change: func(g *kvm.Guest) { g.MemoryHotAdd, g.GuestID = true, "debian10Guest" }, cpus: "4/4 2x2x1", note: "not known to be a 64-bit system"},
		{name: "a system that nobody knows", change: func(g *kvm.Guest) { g.MemoryHotAdd, g.GuestID = true, "" }, cpus: "4/4 2x2x1", note: "not known to be a 64-bit system"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			g := base
			test.change(&g)
			text, notes := domain(t, g, kvm.Options{})
			d := parse(t, text)
			there := d.VCPU.Value
			if d.VCPU.Current != 0 {
				there = d.VCPU.Current
			}
			top := d.CPU.Topology
			if got := fmt.Sprintf("%d/%d %dx%dx%d", there, d.VCPU.Value, top.Sockets, top.Cores, top.Threads); got != test.cpus {
				t.Errorf("CPUs are %s, want %s", got, test.cpus)
			}
			memory := ""
			if m := d.MaximumMemory; m != nil {
				memory = fmt.Sprintf("%d in %d, cell of %s", m.Value, m.Slots, d.CPU.Numa.Cell[0].CPUs)
				if c := d.CPU.Numa.Cell; len(c) != 1 || int64(c[0].Memory) != g.MemoryMiB || c[0].Unit != "MiB" {
					t.Errorf("the cells are %+v", c)
				}
			} else if d.CPU.Numa != nil {
				t.Error("a cell without need")
			}
			if memory != test.memory || int64(d.Memory.Value) != g.MemoryMiB {
				t.Errorf("memory is %d, to be had %q, want %q", d.Memory.Value, memory, test.memory)
			}
			told := ""
			for _, n := range notes {
				if n.Device != "cpu" || !strings.Contains(n.Text, "need a QEMU") {
					told += n.Text
				}
			}
			if (told == "") != (test.note == "") || !strings.Contains(told, test.note) {
				t.Errorf("notes are %v, want %q", notes, test.note)
			}
		})
	}
}
