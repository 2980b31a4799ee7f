package migrate

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/panics"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/transfer"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// memorySource is a disk in memory, which fails at certain bytes, each once.
type memorySource struct {
	data  []byte
	fails map[int64]error
	read  int64 // bytes that were asked for
}

func (s *memorySource) Probe(context.Context) (transfer.Info, error) {
	return transfer.Info{Size: int64(len(s.data)), Ranges: true, ETag: `"v1"`}, nil
}

func (s *memorySource) Open(_ context.Context, off, n int64) (io.ReadCloser, error) {
	for at, err := range s.fails {
		if off <= at && at < off+n {
			delete(s.fails, at)
			return nil, err
		}
	}
	s.read += n
	return io.NopCloser(bytes.NewReader(s.data[off : off+n])), nil
}

// memoryRoute is all that a route of another kind needs.
type memoryRoute struct {
	d       *diskRun
	source  *memorySource
	areas   []transfer.Area
	refuses error
	closed  int
}

func (*memoryRoute) way() string { return "from memory" }

func (m *memoryRoute) able() error                  { return m.refuses }
func (m *memoryRoute) verify(context.Context) error { return errors.New("it is verified on the way") }
func (m *memoryRoute) judge(err error) error        { return err }

func (m *memoryRoute) open(ctx context.Context, o pace) (reading, error) {
	info, err := m.source.Probe(ctx)
	o.Workers, o.ChunkSize = 1, 1<<20
	return m.d.copyAreas(areaSource{
		kind: "memory", name: "memory", source: m.source, info: info, areas: transfer.NewAreas(m.areas), release: func() { m.closed++ },
	}, o), err
}

// inMemory is a disk of 8 MiB of which the first and the last two hold data, on
// its way by a memoryRoute.
func inMemory(t *testing.T, verify string) (*diskRun, *memoryRoute) {
	t.Helper()
	const capacity = 8 << 20
	data := make([]byte, capacity)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(data[:2<<20])
	_, _ = r.Read(data[6<<20:])
	work := newWork(t)
	m := &Migrator{Budget: transfer.BudgetOptions{Min: time.Millisecond, Max: time.Millisecond, Retries: 3}}
	tracker := progress.New()
	run := m.newRun(job.Definition{Options: job.Options{Format: job.FormatRaw, Verify: job.Verify(verify)}}, tracker)
	run.work = work
	d := &diskRun{r: run, disk: vsphere.Disk{Key: 2000, Label: "Hard disk 1", Capacity: capacity}, name: "vm-disk-0.raw"}
	d.file = tracker.AddFile(d.name, capacity)
	d.lease = &leaseRoute{d: d}
	route := &memoryRoute{d: d, source: &memorySource{data: data, fails: map[int64]error{}}, areas: []transfer.Area{{Length: 2 << 20}, {Offset: 6 << 20, Length: 2 << 20}}}
	d.route = route
	return d, route
}

// holds fails the test unless d is verified and its part file is the route's disk.
func (m *memoryRoute) holds(t *testing.T) {
	t.Helper()
	got, err := os.ReadFile(m.d.r.work.File(m.d.part()))
	if err != nil || !bytes.Equal(got, m.source.data) {
		t.Errorf("the part file is not the disk: %d bytes, %v", len(got), err)
	}
	if e, ok := stored(t, m.d.r.work, m.d.key()); !ok || !e.Done || m.d.state != verified {
		t.Errorf("the ledger has %+v, the state is %d", e, m.d.state)
	}
	if m.closed == 0 {
		t.Error("no source was closed")
	}
}

func TestARouteNeedsNothingButASourceToBringADisk(t *testing.T) {
	t.Parallel()
	d, m := inMemory(t, "")
	if err := d.move(t.Context(), pace{}); err != nil {
		t.Fatal(err)
	}
	m.holds(t)
	if r := d.result; r.Resumed || r.Verified != job.BySize || r.Transport != "memory" || r.StreamSize != 4<<20 || m.source.read != 4<<20 {
		t.Errorf("the result is %+v, %d bytes were read", r, m.source.read)
	}
}

func TestADiskIsResumedFromTheCheckpointOfItsOwnRouteOnly(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"memory", "another"} {
		d, m := inMemory(t, "")
		if err := d.saveCheckpoint(kind, areasPlace{ETag: `"v1"`, Offset: 7 << 20, Packed: 4 << 20}); err != nil {
			t.Fatal(err)
		}
		part := append([]byte(nil), m.source.data[:7<<20]...)
		if err := os.WriteFile(d.r.work.File(d.part()), append(part, make([]byte, 1<<20)...), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := d.move(t.Context(), pace{}); err != nil {
			t.Fatal(err)
		}
		m.holds(t)
		if own := kind == "memory"; d.result.Resumed != own || (m.source.read == 1<<20) != own {
			t.Errorf("a checkpoint of the kind %q: resumed %t, %d bytes were read", kind, d.result.Resumed, m.source.read)
		}
	}
}

func TestADiskThatChangesUnderWayBeginsAgain(t *testing.T) {
	t.Parallel()
	d, m := inMemory(t, "")
	m.source.fails[7<<20] = transfer.ErrChanged
	if err := d.move(t.Context(), pace{}); err != nil {
		t.Fatal(err)
	}
	m.holds(t)
	if m.closed != 2 || d.result.Resumed {
		t.Errorf("%d attempts, resumed %t", m.closed, d.result.Resumed)
	}
}

func TestADiskThatARouteRefusesComesThroughTheLeaseUnlessTheJobWantsItSo(t *testing.T) {
	t.Parallel()
	d, m := inMemory(t, "")
	d.r.def.Options.Transport = job.TransportDatastore
	m.refuses = &refusedError{errors.New("it is on vSAN")}
	if err := d.move(t.Context(), pace{}); !errors.Is(err, ErrDatastore) || !Permanent(err) || Hint(err) == "" {
		t.Errorf("error %v", err)
	}
}

func TestADiskThatIsReadTwiceAndDiffersIsFetchedAgainOnce(t *testing.T) {
	t.Parallel()
	d, m := inMemory(t, string(job.VerifyFull))
	flips := 0
	d.route = &flipping{m, &flips, 1}
	if err := d.move(t.Context(), pace{}); err != nil {
		t.Fatal(err)
	}
	m.holds(t)
	if d.result.Verified != job.BySecondRead {
		t.Errorf("verified by %q", d.result.Verified)
	}
	d, m = inMemory(t, string(job.VerifyFull))
	d.route = &flipping{m, &flips, 9}
	flips = 0
	if err := d.move(t.Context(), pace{}); !errors.Is(err, ErrVerify) || d.state != missing {
		t.Errorf("a disk that is never the same twice: %v, state %d", err, d.state)
	}
}

// flipping is a memoryRoute that changes a byte of the disk between the readings of
// its first attempts.
type flipping struct {
	*memoryRoute
	done  *int
	times int
}

func (f *flipping) open(ctx context.Context, o pace) (reading, error) {
	r, err := f.memoryRoute.open(ctx, o)
	c := r.(*areaCopy)
	if *f.done < f.times {
		*f.done++
		c.source = &rereadSource{memorySource: f.source}
	}
	return c, err
}

// rereadSource gives other bytes once the whole disk was read.
type rereadSource struct {
	*memorySource
	opened int64
}

func (s *rereadSource) Open(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	second := s.opened >= 4<<20
	s.opened += n
	r, err := s.memorySource.Open(ctx, off, n)
	if err == nil && second && off == 0 {
		return io.NopCloser(bytes.NewReader(make([]byte, n))), nil
	}
	return r, err
}

// badRoute is a route with a flaw in its program.
type badRoute struct{ *memoryRoute }

func (badRoute) open(context.Context, pace) (reading, error) { panic("boom") }

// badReading is an attempt with one, which has written something before.
type badReading struct{ reading }

func (badReading) read(context.Context, sink) (arrival, error) { panic("boom") }

type badlyReadRoute struct{ *memoryRoute }

func (b badlyReadRoute) open(ctx context.Context, o pace) (reading, error) {
	from, err := b.memoryRoute.open(ctx, o)
	return badReading{from}, err
}

func TestAPanicOfARouteIsAnErrorOfItsDiskAndLeavesNothing(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]func(*memoryRoute) route{
		"opening": func(m *memoryRoute) route { return badRoute{m} },
		"reading": func(m *memoryRoute) route { return badlyReadRoute{m} },
	} {
		d, m := inMemory(t, "")
		d.route = bad(m)
		err := d.move(t.Context(), pace{})
		var p *panics.Error
		if !errors.As(err, &p) || !Permanent(err) || !strings.HasPrefix(p.At, "migrate/route_internal_test.go:") {
			t.Errorf("%s: error %v", name, err)
		}
		if d.r.work.Has(d.part()) || d.state != missing {
			t.Errorf("%s: the part file is there: %t, the state is %d", name, d.r.work.Has(d.part()), d.state)
		}
	}
}
