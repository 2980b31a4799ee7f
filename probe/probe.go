package probe

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/panics"
	"github.com/hyper2kvm/hyper2kvm/probe/findings"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// Options say what is looked at, and for how long. The zero value works.
type Options struct {
	VM       string // as [vsphere.Client.Find] takes it; "" chooses one that is powered off
	Snapshot bool   // a VM that runs gets a temporary snapshot; needs VM

	Limit    time.Duration // of a step, 0 means 30 seconds
	Measure  time.Duration // of each rate, 0 means 3 seconds
	Bytes    int64         // of each rate at most, 0 means 1 GiB
	Whole    int64         // of a stream that is fetched to its end for its manifest, 0 means 512 MiB
	Manifest time.Duration // that a manifest is waited for, 0 means 20 seconds

	Program string    // version for the report
	Now     time.Time // the day for the report; the zero time leaves it out

	// Tell is told what is being done and what has failed, in words for the terminal of
	// whoever runs the probe: they may have names in them. Nil is nobody.
	Tell func(string)
	// Step is called before each step with its name. Nil is nobody.
	Step func(string)
}

func (o Options) withDefaults() Options {
	o.Limit = cmp.Or(o.Limit, 30*time.Second)
	o.Measure = cmp.Or(o.Measure, 3*time.Second)
	o.Bytes = cmp.Or(o.Bytes, 1<<30)
	o.Whole = cmp.Or(o.Whole, 512<<20)
	o.Manifest = cmp.Or(o.Manifest, 20*time.Second)
	if o.Tell == nil {
		o.Tell = func(string) {}
	}
	if o.Step == nil {
		o.Step = func(string) {}
	}
	return o
}

// ErrLeft is that something may be left at vSphere. What, the error says.
var ErrLeft = errors.New("something may be left at vSphere")

// run is one probe.
type run struct {
	o      Options
	client *vsphere.Client
	r      *findings.Report
	vm     vsphere.VM // the zero value when there is none to look at
	hosts  []vsphere.ESXi
	target vsphere.Target
	small  vsphere.Disk // the smallest of the VM's disks that can be read
	large  vsphere.Disk // the largest
	folder *areas       // of the large disk, under /folder; nil when it is not served
	left   error        // what may be left
}

// Run looks at everything that can be looked at, and reports it. What fails is a finding,
// and the rest goes on. The report is good also beside an error, and has what was seen
// until then.
//
// Errors: a VM that is not found, or ambiguous; the end of ctx; [ErrLeft].
func Run(ctx context.Context, c *vsphere.Client, o Options) (findings.Report, error) {
	r := findings.Report{Format: findings.Format, Program: findings.Text("version", o.Program)}
	if !o.Now.IsZero() {
		r.Taken = o.Now.UTC().Format(time.DateOnly)
	}
	p := &run{o: o.withDefaults(), client: c, r: &r}
	err := p.do(ctx)
	r.Complete = err == nil && ctx.Err() == nil
	if r.Complete {
		p.advise()
	}
	if p.left != nil {
		err = errors.Join(fmt.Errorf("%w: %w", ErrLeft, p.left), err)
	}
	return r, err
}

// do takes the steps in turn.
func (p *run) do(ctx context.Context) error {
	p.step(ctx, "service", p.service)
	p.step(ctx, "hosts", p.allHosts)
	if err := p.find(ctx); err != nil {
		return err
	}
	if p.vm.Ref == "" {
		p.r.Lease.Why, p.r.Folder.Why, p.r.Port902.Why = findings.NoVM, findings.NoVM, findings.NoVM
		return ctx.Err()
	}
	p.step(ctx, "privileges", p.privileges)
	p.step(ctx, "ports", p.ports)
	defer p.freeze(ctx)()
	p.step(ctx, "datastore", p.files)
	p.step(ctx, "port 902", p.port902)
	p.step(ctx, "locks", p.locks)
	p.step(ctx, "manifest", p.manifest)
	p.step(ctx, "lease", p.leaseHTTP)
	p.rates(ctx)
	return ctx.Err()
}

// step runs one step in its time. Its error is told, and what the step has found so far
// stays.
func (p *run) step(ctx context.Context, name string, f func(context.Context) error) {
	p.within(ctx, name, p.o.Limit, f)
}

func (p *run) within(ctx context.Context, name string, limit time.Duration, f func(context.Context) error) {
	if ctx.Err() != nil {
		return
	}
	p.o.Step(name)
	p.o.Tell("looking at: " + name)
	if ctx.Err() != nil {
		return
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := panics.Catch(func() error { return f(limited) }); err != nil && ctx.Err() == nil {
		p.o.Tell(name + ": " + err.Error())
	}
}

// leave notes that something may be left at vSphere.
func (p *run) leave(err error) {
	if err != nil {
		p.left = errors.Join(p.left, err)
	}
}

// freeze takes the temporary snapshot of a VM that runs, when that is asked for, and
// returns what removes it.
func (p *run) freeze(ctx context.Context) (thaw func()) {
	p.target = vsphere.Target{VM: p.vm}
	if p.vm.Power == vsphere.PoweredOff || !p.o.Snapshot || ctx.Err() != nil {
		return func() {}
	}
	var id [6]byte
	_, _ = rand.Read(id[:]) // never fails
	p.o.Step("snapshot")
	p.o.Tell("taking a temporary snapshot of " + p.vm.Path)
	limited, cancel := context.WithTimeout(ctx, 10*p.o.Limit)
	defer cancel()
	began := time.Now()
	snap, err := p.client.CreateSnapshot(limited, p.vm, vsphere.SnapshotPrefix+"probe-"+hex.EncodeToString(id[:]))
	if err != nil {
		p.r.VM.Frozen = findings.No
		p.o.Tell("the snapshot: " + err.Error())
		if errors.Is(err, vsphere.ErrPending) {
			p.leave(err)
		}
		return func() {}
	}
	p.r.Timings.SnapshotMS = ms(time.Since(began))
	p.r.VM.Frozen = findings.Yes
	p.target.Snapshot = snap
	return func() {
		p.o.Tell("removing the temporary snapshot")
		p.leave(p.client.RemoveSnapshot(ctx, snap))
	}
}

// readable says whether the VM's disks can be read at all: it is off, or frozen.
func (p *run) readable() bool {
	return p.vm.Power == vsphere.PoweredOff || p.target.Snapshot.Ref != ""
}

func ms(d time.Duration) int { return int(min(max(d.Milliseconds(), 1), 3600000)) }

func yes(b bool) findings.Answer {
	if b {
		return findings.Yes
	}
	return findings.No
}
