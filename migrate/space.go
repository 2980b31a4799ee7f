package migrate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/volume"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/units"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// Space is what exports take of a file system, in bytes, as far as vSphere tells
// before they begin. The zero value is nothing.
type Space struct {
	AtMost  int64 // were all of it data, and not compressible
	AtLeast int64 // 0 where a thick disk may hold little, or compression make less of it
}

// Fit says whether something has room.
type Fit int

// The answers of [Space.Fit].
const (
	Fits   Fit = iota
	MayFit     // it may turn out to take less than it takes at most
	CannotFit
)

// SpaceOf returns what an export of vm with options o takes: what the VM has on
// its datastores, without the swap file of one that runs, and no more than its
// disks can hold. Thin disks have there what was written to them; thick ones all
// of their size, and nobody knows how much of it is data. So does what lies below
// a snapshot count twice, and of a VM of an inventory's list the disks are not known.
func SpaceOf(vm vsphere.VM, o job.Options) Space {
	used, capacity, thin := vm.CommittedBytes, int64(0), len(vm.Disks) > 0
	for _, d := range vm.Disks {
		capacity += d.Capacity
		thin = thin && d.Thin
	}
	if len(vm.Disks) > 0 && (used > capacity || used == 0) {
		used = capacity
	}
	s := Space{AtMost: used}
	compressed := o.Format.Streams() || o.Compress
	if thin && !compressed && vm.Snapshots == 0 && vm.CommittedBytes > 0 {
		s.AtLeast = used
		if vm.Power != vsphere.PoweredOff {
			s.AtLeast = max(0, min(vm.CommittedBytes-vm.MemoryMiB<<20, used))
		}
	}
	if o.Format == job.FormatOVA {
		s.AtMost *= 2 // the disks, and the tar that they are copied into
	}
	return s
}

// dataOf returns for each disk of vm how much data it holds, and the zero Space where
// nothing tells: of a thick disk vSphere knows the size only. What the VM has on its
// datastores, which may include the swap file of one that runs, is shared out by size;
// how it is in truth the streams will tell.
func dataOf(vm vsphere.VM) []Space {
	out := make([]Space, len(vm.Disks))
	used, thin := vm.CommittedBytes, int64(0)
	for _, d := range vm.Disks {
		switch {
		case d.RDM != "": // is on no datastore
		case d.Thin:
			thin += d.Capacity
		default:
			used -= d.Capacity
		}
	}
	if used <= 0 || thin <= 0 {
		return out
	}
	least := used
	if vm.Power != vsphere.PoweredOff {
		least = max(0, used-vm.MemoryMiB<<20)
	}
	part := func(n, capacity int64) int64 { return int64(min(float64(n)/float64(thin), 1) * float64(capacity)) }
	for i, d := range vm.Disks {
		if d.Thin && d.RDM == "" {
			out[i] = Space{AtMost: max(part(used, d.Capacity), 1), AtLeast: part(least, d.Capacity)}
		}
	}
	return out
}

// Plus returns what both take.
func (s Space) Plus(t Space) Space { return Space{s.AtMost + t.AtMost, s.AtLeast + t.AtLeast} }

// Less returns what is still to be written when some bytes of it are.
func (s Space) Less(written int64) Space {
	return Space{max(0, s.AtMost-written), max(0, s.AtLeast-written)}
}

// Fit compares what is needed with the bytes that are free.
func (s Space) Fit(free int64) Fit {
	switch {
	case s.AtMost <= free:
		return Fits
	case s.AtLeast <= free:
		return MayFit
	}
	return CannotFit
}

// FreeSpace returns the bytes that an unprivileged user may still write at dir
// or, when it does not exist yet, at the nearest directory above it that does.
func FreeSpace(dir string) (int64, error) {
	return volume.Free(nearest(dir))
}

// nearest returns dir or the nearest directory above it that is there.
func nearest(dir string) string {
	for {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) || filepath.Dir(dir) == dir {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

// freeSpace is [FreeSpace] of the output directory.
func (r *run) freeSpace() (int64, error) {
	dir, err := r.m.Outputs.Nearest(r.def.OutputPath)
	if err != nil {
		return 0, err
	}
	return volume.Free(dir)
}

// spaceObstacle is what is in the way when the export may not fit into the
// output directory, or cannot. What the work directory has is either resumed from
// or removed: either way, the run need not find room for it again.
func (r *run) spaceObstacle() (vsphere.Obstacle, Fit) {
	free, err := r.freeSpace()
	if err != nil {
		return vsphere.Obstacle{}, Fits // the first write will tell
	}
	here := r.work.Allocated()
	need := SpaceOf(r.vm, r.def.Options)
	fit := need.Less(here).Fit(free)
	o := vsphere.Obstacle{Code: CodeSpace, Severity: vsphere.SeverityWarning,
		Text: fmt.Sprintf("%s has %s free; the VM takes %s on its datastores", r.def.OutputPath, units.Bytes(free), units.Bytes(need.AtMost)),
		Hint: "free some space, or choose another output directory"}
	if here > 0 {
		o.Text += fmt.Sprintf(", of which an earlier run has brought %s here", units.Bytes(here))
	}
	if fit == CannotFit {
		o.Severity = vsphere.SeverityError
	}
	return o, fit
}

// Reservations keeps the exports of one process from running each other out of
// space: each reserves on its file system what it takes at most. An export that
// may not fit beside the others waits for them and then runs alone, so that the
// error of a full file system is its own, if it comes to that, and none of
// theirs. The zero value works. What other processes write is not known, nor are
// quotas and volumes that share a pool.
type Reservations struct {
	mu       sync.Mutex
	held     map[*reservation]bool
	released chan struct{} // closed when one is given back
}

// reservation is one export's claim.
type reservation struct {
	volume string       // the file system's name
	work   func() int64 // bytes that the export's files have by now
	total  int64        // bytes that they will have at most
}

// due is what of the reservation is not written yet. What is, is not free any
// more either.
func (v *reservation) due() int64 { return max(0, v.total-v.work()) }

// take reserves need, which counts what is in work already, at the file system
// of output. Where others have reserved too much for it to fit, it returns how
// much, and a channel that is closed when one of them has ended.
func (s *Reservations) take(output string, work func() int64, need int64) (release func(), others int64, ended <-chan struct{}) {
	fileSystem, err := volume.Of(nearest(output))
	if err != nil {
		return func() {}, 0, nil // the first write will tell
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held == nil {
		s.held, s.released = make(map[*reservation]bool), make(chan struct{})
	}
	v := &reservation{volume: fileSystem, work: work, total: need}
	for other := range s.held {
		if other.volume == v.volume {
			others += other.due()
		}
	}
	// After the others, so that what they write meanwhile counts twice, not never.
	if free, err := FreeSpace(output); err == nil && others > 0 && v.due() > free-others {
		return nil, others, s.released
	}
	s.held[v] = true
	return sync.OnceFunc(func() { s.release(v) }), 0, nil
}

func (s *Reservations) release(v *reservation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.held, v)
	close(s.released)
	s.released = make(chan struct{})
}

// spacePause is how often a run that waits for space looks whether somebody has
// made some.
const spacePause = 10 * time.Second

// reserve reserves what the run takes at most, and waits for other runs where it
// must. When what they have left is certain not to do, the error is a
// [*PreflightError]. release is never nil.
func (r *run) reserve(ctx context.Context) (release func(), err error) {
	if r.m.Reservations == nil {
		return func() {}, nil
	}
	need := SpaceOf(r.vm, r.def.Options).AtMost
	release, others, ended := r.m.Reservations.take(r.def.OutputPath, r.work.Allocated, need)
	if release != nil {
		return release, nil
	}
	waiting := r.slow("", "waiting for space: the VM takes %s at most, and %s of what is free at %s is reserved for other exports",
		units.Bytes(need), units.Bytes(others), r.def.OutputPath)
	defer waiting.end()
	for release == nil {
		timer := time.NewTimer(spacePause)
		select {
		case <-ended:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return func() {}, ctx.Err()
		}
		release, _, ended = r.m.Reservations.take(r.def.OutputPath, r.work.Allocated, need)
	}
	if o, fit := r.spaceObstacle(); fit == CannotFit {
		return release, &PreflightError{VM: r.vm.Path, Obstacles: []vsphere.Obstacle{o}}
	}
	return release, nil
}
