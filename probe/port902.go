package probe

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/hyper2kvm/hyper2kvm/probe/findings"
	"github.com/hyper2kvm/hyper2kvm/transfer"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
	"github.com/hyper2kvm/hyper2kvm/vsphere/nfc"
)

// announced are the words that hosts are known to announce in their greetings. Others stay out of a
// report.
var announced = []string{"VMXARGS supported", "NFCSSL supported", "SHA256 supported"}

// port902 goes the way to an open disk, and notes how far it leads. Of a VM that runs,
// and is not frozen, only the greeting of its host is read.
func (p *run) port902(ctx context.Context) error {
	out := &p.r.Port902
	if p.large.Capacity == 0 {
		out.Why = findings.Unsupported
		return nil
	}
	if !p.readable() {
		seen, alone, err := p.client.Greet902(ctx, p.vm, p.large)
		p.note902(seen, alone, err)
		if out.Why = reason(err); err == nil {
			out.Why, out.Opened = findings.PowerState, ""
		}
		return err
	}
	disk, err := p.client.OpenFrozen(ctx, p.target, p.large, vsphere.FrozenOptions{Stall: p.o.Limit, Connections: 2})
	if err != nil {
		out.Why = reason(err)
		return err
	}
	defer disk.Close()
	var began time.Time
	for try := 1; ; try++ {
		began = time.Now()
		if _, err = disk.Probe(ctx); err == nil || try == tries || !noRoom(err) || rest(ctx) != nil {
			break
		}
	}
	p.note902(disk.Seen(), disk.Alone(), err)
	if err != nil {
		out.Why = reason(err)
		return err
	}
	p.r.Timings.Port902MS = ms(time.Since(began))
	if err := p.blocks(ctx, disk); err != nil {
		p.o.Tell("allocated blocks: " + err.Error())
	}
	return p.secondConnection(ctx, disk)
}

// note902 notes what was seen on the way to a session.
func (p *run) note902(seen nfc.Seen, alone bool, err error) {
	out := &p.r.Port902
	switch {
	case seen.Ticket && alone:
		out.Ticket = findings.OneDisk
	case seen.Ticket:
		out.Ticket = findings.AllFiles
	case errors.Is(err, vsphere.ErrUnsupported):
		out.Ticket = findings.None
	case errors.Is(err, vsphere.ErrNoPermission):
		out.Ticket = findings.Refused
	}
	if !seen.Ticket {
		return
	}
	out.Pinned = pinned(seen.Thumbprint, seen.Certificate)
	if out.Port = reached(err); seen.Connected {
		out.Port = findings.Open
	}
	out.Daemon = findings.Text("number", seen.Daemon)
	for _, word := range seen.Announces {
		if slices.Contains(announced, word) {
			out.Announces = append(out.Announces, word)
		}
	}
	if out.Protocol = min(seen.Version, 1000); seen.Version > 0 {
		out.Status = findings.Early
		if seen.LateStatus {
			out.Status = findings.Late
		}
	}
	if seen.Connected {
		out.Opened = yes(seen.Opened)
	}
	if seen.Opened {
		out.BufferKiB = seen.Buffer >> 10
	}
}

// blocks asks which blocks are allocated (F-902-17).
func (p *run) blocks(ctx context.Context, disk *vsphere.FrozenDisk) error {
	list, err := disk.Allocated(ctx)
	if err != nil {
		p.r.Port902.Blocks = findings.Refused
		return err
	}
	p.r.Port902.Blocks = covers(list, p.large.Capacity)
	return nil
}

// secondConnection looks whether the host allows a second one for the disk (F-902-19).
func (p *run) secondConnection(ctx context.Context, disk *vsphere.FrozenDisk) error {
	n, err := p.connections(ctx, disk, 2)
	if err == nil {
		p.r.Port902.SecondConn = yes(n > 1)
	}
	return err
}

// connections begins n readings at once, each of which takes a connection of its own
// where the host allows it, and returns how many there are then. They stay.
func (p *run) connections(ctx context.Context, disk *vsphere.FrozenDisk, n int) (int, error) {
	var open []io.Closer
	defer func() {
		for _, body := range open {
			_ = body.Close() // nothing of it is needed
		}
	}()
	for range n {
		body, err := disk.Open(ctx, 0, p.large.Capacity)
		if err != nil {
			return 0, err
		}
		open = append(open, body)
	}
	return disk.Connections(), nil
}

// open902 opens the large disk, over at most so many connections. It tries again while
// there is no room. The caller closes it.
func (p *run) open902(ctx context.Context, connections, times int) (*vsphere.FrozenDisk, error) {
	for try := 1; ; try++ {
		disk, err := p.client.OpenFrozen(ctx, p.target, p.large, vsphere.FrozenOptions{Connections: connections, Stall: p.o.Limit})
		if err != nil {
			return nil, err
		}
		if _, err = disk.Probe(ctx); err == nil {
			return disk, nil
		}
		disk.Close()
		if try >= times || !noRoom(err) {
			return nil, err
		}
		if err := rest(ctx); err != nil {
			return nil, err
		}
	}
}

// opens902 says whether the disk opens now.
func (p *run) opens902(ctx context.Context, times int) findings.Answer {
	disk, err := p.open902(ctx, 1, times)
	switch {
	case err == nil:
		disk.Close()
		return findings.Served
	case errors.Is(err, nfc.ErrLocked), errors.Is(err, nfc.ErrRefused):
		return findings.Refused
	}
	return ""
}

// areas902 are the areas to measure with.
func (p *run) areas902(ctx context.Context, disk *vsphere.FrozenDisk) *areas {
	var list []transfer.Area
	if disk.Single && p.r.Port902.Blocks == findings.Trimmed {
		list, _ = disk.Allocated(ctx) // without, all of the disk is read
	}
	return areasOf(list, p.large.Capacity)
}
