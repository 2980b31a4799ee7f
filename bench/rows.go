package main

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/find"
)

// Virtual disks of the memory rows.
const (
	tebibyte     = 1 << 40
	memoryDisks  = 8
	inventoryVMs = 10_000
)

// rows returns the table of goals. It makes the disks that it needs.
func (b *bench) rows(ctx context.Context) ([]row, error) {
	var err error
	disk := func(s spec) image {
		if err != nil {
			return image{}
		}
		var i image
		i, err = b.disk(ctx, s)
		return i
	}
	// Rows that have no goal come last.
	last := func(goal int) int {
		if goal == 0 {
			return math.MaxInt
		}
		return goal
	}
	need := func(goals ...int) bool {
		return len(b.o.rows) == 0 || slices.ContainsFunc(goals, func(g int) bool { return slices.Contains(b.o.rows, g) })
	}
	var rows []row
	if need(1, 3, 4, 5, 7) {
		large := disk(dense(b.o.size))
		rows = append(rows, b.oneDisk(large), b.ranged(large), b.convert(large), b.convert(large, "-compress"))
		rows = append(rows, b.decodeAlone(large, "qcow2"), b.decodeAlone(large, "raw"), b.wire(large))
	}
	if need(2) {
		rows = append(rows, b.fourDisks(disk(dense(b.o.size/8))))
	}
	if need(6) {
		middle := disk(dense(b.o.size / 2))
		rows = append(rows, b.transplant(middle, "zlib", 20), b.transplant(middle, "zstd", 4))
	}
	if need(8) {
		for _, s := range []spec{{16 << 30, b.o.size / 64}, {tebibyte, b.o.size / 64}, {tebibyte, b.o.size / 16}} {
			rows = append(rows, b.memory(disk(s)))
		}
	}
	if need(10) {
		rows = append(rows, b.inventory())
	}
	if need(11) {
		rows = append(rows, b.connections(disk(dense(b.o.size/2))))
	}
	if need(12) {
		rows = append(rows, b.allocated(disk(sparse(b.o.size))))
	}
	if need(13) {
		rows = append(rows, b.distant(disk(dense(b.o.size/4))))
	}
	if need(0) {
		holey := disk(sparse(b.o.size))
		rows = append(rows, b.datastoreBesideLease(holey), b.datastoreBesideCurl(holey))
		limited := disk(dense(limitData))
		rows = append(rows, b.limited(limited, 50), b.limited(limited, 200), b.limitChanged(limited, 25, 100))
	}
	if err != nil {
		return nil, err
	}
	rows = slices.DeleteFunc(rows, func(r row) bool { return !need(r.goal) })
	slices.SortStableFunc(rows, func(x, y row) int { return cmp.Compare(last(x.goal), last(y.goal)) })
	return rows, nil
}

// vm is the lab's flag for a VM with n disks of the same content.
func vm(name string, i image, n int) []string {
	return []string{"-vm", name + "=" + strings.Repeat(i.stream+",", n-1) + i.stream}
}

// export is our export of the VM guest with that many disks.
func (b *bench) export(disks int, flags ...string) contender {
	return contender{
		name: "hyper2kvm export " + strings.Join(flags, " "),
		steps: func(dir string) [][]string {
			return [][]string{append([]string{b.program("hyper2kvm"), "-json", "export", "-vm", "guest", "-output", dir}, flags...)}
		},
		check: verified(disks),
	}
}

// govc is govc's export of the VM guest.
func (b *bench) govc(flags ...string) contender {
	return contender{
		name: strings.Join(append([]string{"govc export.ovf"}, flags...), " "),
		steps: func(dir string) [][]string {
			argv := append([]string{b.program("govc"), "export.ovf"}, flags...)
			return [][]string{append(argv, "-vm", "guest", dir)}
		},
	}
}

// same checks, with qemu-img, that every file in dir that matches is the disk.
func (b *bench) same(i image, pattern, format string) func(context.Context, string) error {
	return func(ctx context.Context, dir string) error {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err == nil && len(files) == 0 {
			err = fmt.Errorf("there is no %s", pattern)
		}
		if err != nil {
			return err
		}
		_, err = b.exec(ctx, nil, "qemu-img", "compare", "-f", "raw", "-F", format, i.raw, files[0])
		return err
	}
}

// oneDisk is goal 1.
func (b *bench) oneDisk(i image) row {
	return row{
		goal: 1, work: "one disk, ovf, verified", lab: vm("guest", i, 1), bytes: i.size,
		ours: b.export(1, "-format", "ovf"), peer: b.govc("-sha", "256"),
		wants: []want{{timeRatio, 0.6}}, compare: b.same(i, "*.vmdk", "vmdk"),
	}
}

// fourDisks is goal 2.
func (b *bench) fourDisks(i image) row {
	return row{
		goal: 2, work: "four disks, 25 MB/s a stream", lab: append(vm("guest", i, 4), "-rate", "25MB/s"), bytes: 4 * i.size,
		ours: b.export(4, "-format", "ovf"), peer: b.govc(), runs: 3,
		wants: []want{{timeRatio, 0.27}}, compare: b.same(i, "*.vmdk", "vmdk"),
	}
}

// ranged is goal 3.
func (b *bench) ranged(i image) row {
	peer := b.export(1, "-parallel", "1")
	peer.name = "ours with 1 worker"
	return row{
		goal: 3, work: "one disk, ranged, 50 MB/s a connection, 8 workers", bytes: i.size,
		lab:  append(vm("guest", i, 1), "-rate", "50MB/s", "-profile", "ranged"),
		ours: b.export(1, "-parallel", "8"), peer: peer, runs: 3, noCPU: true,
		wants: []want{{speedup, 7.5}}, compare: b.same(i, "*.vmdk", "vmdk"),
	}
}

// convert is goal 4, with our further flags.
func (b *bench) convert(i image, flags ...string) row {
	peer := b.govc()
	peer.name += ", qemu-img convert"
	steps := peer.steps
	peer.steps = func(dir string) [][]string {
		return append(steps(dir), []string{"qemu-img", "convert", "-O", "qcow2",
			filepath.Join(dir, "guest", "guest-disk-0.vmdk"), filepath.Join(dir, "guest.qcow2")})
	}
	return row{
		goal: 4, work: strings.Join(append([]string{"one disk, qcow2"}, flags...), " "), lab: vm("guest", i, 1), bytes: i.size,
		ours: b.export(1, append([]string{"-format", "qcow2"}, flags...)...), peer: peer,
		wants: []want{{timeRatio, 0.35}, {writtenRatio, 0.6}}, compare: b.same(i, "*.qcow2", "qcow2"),
	}
}

// decode is our decoder without a network.
func (b *bench) decode(i image, flags ...string) contender {
	return contender{
		name: "decoder",
		steps: func(dir string) [][]string {
			return [][]string{append(append([]string{b.self, "decode"}, flags...), i.stream, filepath.Join(dir, "image"))}
		},
	}
}

// qemu is qemu-img convert of the same file.
func qemu(i image, name string, flags ...string) contender {
	return contender{
		name: name,
		steps: func(dir string) [][]string {
			argv := append([]string{"qemu-img", "convert"}, flags...)
			return [][]string{append(argv, i.stream, filepath.Join(dir, "image"))}
		},
	}
}

// decodeAlone is goal 5.
func (b *bench) decodeAlone(i image, format string) row {
	return row{
		goal: 5, work: "decode a local stream to " + format, bytes: i.size,
		ours: b.decode(i, "-to", format), peer: qemu(i, "qemu-img convert", "-O", format),
		wants: []want{{speedup, 2.2}}, runs: 4, compare: b.same(i, "image", format),
	}
}

// transplant is goal 6.
func (b *bench) transplant(i image, method string, bound float64) row {
	return row{
		goal: 6, work: "compressed qcow2 of a local stream (peer: " + method + ")", bytes: i.size,
		ours:  b.decode(i, "-to", "qcow2", "-compress"),
		peer:  qemu(i, "qemu-img convert -c", "-c", "-O", "qcow2", "-o", "compression_type="+method),
		wants: []want{{speedup, bound}}, runs: 3, compare: b.same(i, "image", "qcow2"),
	}
}

// wire is goal 7: 0.8 of curl's rate is 1.25 times its time.
func (b *bench) wire(i image) row {
	curl := contender{
		name: "curl to nothing",
		steps: func(string) [][]string {
			return [][]string{{"curl", "-sSfk", "-o", os.DevNull, "$DEVICE_URL"}}
		},
	}
	return row{
		goal: 7, work: "compressed qcow2 over the wire", bytes: i.size,
		lab:  append(vm("guest", i, 1), vm("curl", i, 1)...),
		ours: b.export(1, "-format", "qcow2", "-compress"), peer: curl, before: deviceURL, noCPU: true,
		wants: []want{{timeRatio, 1 / 0.8}}, compare: b.same(i, "*.qcow2", "qcow2"),
	}
}

// deviceURL opens a lease on the VM curl and gives the URL of its disk.
func deviceURL(ctx context.Context, l *lab) (env []string, after func(), err error) {
	u, err := url.Parse(l.getenv("GOVC_URL"))
	if err != nil {
		return nil, nil, err
	}
	u.User = url.UserPassword(l.getenv("GOVC_USERNAME"), l.getenv("GOVC_PASSWORD"))
	c, err := govmomi.NewClient(ctx, u, true)
	if err != nil {
		return nil, nil, err
	}
	machine, err := find.NewFinder(c.Client).VirtualMachine(ctx, "/DC0/vm/curl")
	if err != nil {
		return nil, nil, err
	}
	lease, err := machine.Export(ctx)
	if err != nil {
		return nil, nil, err
	}
	info, err := lease.Wait(ctx, nil)
	if err != nil {
		return nil, nil, err
	}
	after = func() {
		_ = lease.Abort(ctx, nil) // the lab ends now, and the lease with it
		_ = c.Logout(ctx)
	}
	return []string{"DEVICE_URL=" + info.Items[0].URL.String()}, after, nil
}

// memory is a part of goal 8.
func (b *bench) memory(i image) row {
	return row{
		goal: 8, bytes: memoryDisks * i.size,
		work: fmt.Sprintf("peak memory, %d disks of %d GiB with %d MiB each, qcow2", memoryDisks, i.Capacity>>30, i.Data>>20),
		lab:  vm("guest", i, memoryDisks),
		ours: b.export(memoryDisks, "-format", "qcow2", "-parallel", fmt.Sprint(memoryDisks)),
		runs: 3, wants: []want{{peakMiB, 128}},
	}
}

// inventory is goal 10.
func (b *bench) inventory() row {
	return row{
		goal: 10, work: fmt.Sprintf("list %d VMs", inventoryVMs), lab: []string{"-vms", fmt.Sprint(inventoryVMs)},
		ours: contender{name: "hyper2kvm list", steps: func(string) [][]string {
			return [][]string{{b.program("hyper2kvm"), "list"}}
		}},
		peer: contender{name: "govc find", steps: func(string) [][]string {
			return [][]string{{b.program("govc"), "find", "/", "-type", "m"}}
		}},
		runs: 3, wants: []want{{timeRatio, 0.15}},
	}
}
