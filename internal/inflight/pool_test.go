package inflight_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/inflight"
)

// wire is a connection of a test.
type wire struct {
	number int
	dead   atomic.Bool
	closed atomic.Int32
}

func (w *wire) Alive() bool { return !w.dead.Load() }
func (w *wire) Close()      { w.closed.Add(1) }

// office is what connects.
type office struct {
	made   []*wire
	refuse error // from the second on
}

func (o *office) connect(context.Context) (*wire, error) {
	if o.refuse != nil && len(o.made) > 0 {
		return nil, o.refuse
	}
	w := &wire{number: len(o.made)}
	o.made = append(o.made, w)
	return w, nil
}

func atMost(n int) func(int) int { return func(int) int { return n } }

// get fails the test where there is no connection at once.
func get(t *testing.T, p *inflight.Pool[*wire]) (*wire, func()) {
	t.Helper()
	w, done, err := p.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return w, done
}

func TestAPoolTakesTheConnectionThatIsLeastInUse(t *testing.T) {
	t.Parallel()
	o := &office{}
	p := inflight.NewPool(inflight.Options[*wire]{Connect: o.connect, Most: atMost(2)})
	defer p.Close()
	w, done := get(t, p)
	done()
	if again, _ := get(t, p); again != w {
		t.Error("a further connection while one is idle")
	}
	second, done := get(t, p)
	if second == w || p.Open() != 2 {
		t.Error("no further connection while all are in use")
	}
	get(t, p)
	done()
	if third, _ := get(t, p); third != second {
		t.Error("not the one that is least in use")
	}
	if len(o.made) != 2 {
		t.Errorf("%d connections of 2", len(o.made))
	}
}

func TestAPoolGoesOnWithWhatItHasWhereOneMoreIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &office{refuse: errors.New("too many")}
		told := 0
		p := inflight.NewPool(inflight.Options[*wire]{
			Connect: o.connect, Most: atMost(2),
			Short: func(open int, err error) {
				if told++; open != 1 || !errors.Is(err, o.refuse) {
					t.Errorf("told of %d, %v", open, err)
				}
			},
		})
		defer p.Close()
		w, _ := get(t, p)
		for range 3 {
			if again, _ := get(t, p); again != w {
				t.Error("another connection")
			}
		}
		o.refuse = nil
		if again, _ := get(t, p); again != w {
			t.Error("asked again at once")
		}
		time.Sleep(time.Minute) // of the bubble
		if later, _ := get(t, p); later == w {
			t.Error("never asked again")
		}
		if told != 1 {
			t.Errorf("told %d times", told)
		}
	})
}

func TestAFirstConnectionThatIsRefusedIsTheError(t *testing.T) {
	t.Parallel()
	why := errors.New("no route")
	p := inflight.NewPool(inflight.Options[*wire]{
		Connect: func(context.Context) (*wire, error) { return nil, why }, Most: atMost(2),
	})
	defer p.Close()
	if _, _, err := p.Get(t.Context()); !errors.Is(err, why) {
		t.Error(err)
	}
}

func TestFurtherConnectionsNeedAPlaceAndGiveItBack(t *testing.T) {
	t.Parallel()
	o := &office{}
	places := 1
	p := inflight.NewPool(inflight.Options[*wire]{
		Connect: o.connect, Most: atMost(8),
		Place: func() (func(), bool) {
			if places == 0 {
				return nil, false
			}
			places--
			return func() { places++ }, true
		},
	})
	w, _ := get(t, p) // needs none
	second, _ := get(t, p)
	if third, _ := get(t, p); second == w || third != w && third != second || len(o.made) != 2 || places != 0 {
		t.Errorf("%d connections, %d places left", len(o.made), places)
	}
	p.Close()
	if places != 1 {
		t.Error("a place is not given back")
	}
}

func TestAConnectionThatIsNotAdmittedIsClosedAndTheErrorOfWhoAsked(t *testing.T) {
	t.Parallel()
	other := errors.New("another disk")
	o := &office{}
	p := inflight.NewPool(inflight.Options[*wire]{
		Connect: o.connect, Most: atMost(2),
		Admit: func(w *wire) error {
			if w.number == 1 {
				return other
			}
			return nil
		},
	})
	get(t, p)
	if _, _, err := p.Get(t.Context()); !errors.Is(err, other) {
		t.Errorf("%v", err)
	}
	p.Close()
	for _, w := range o.made {
		if w.closed.Load() != 1 {
			t.Errorf("connection %d was closed %d times", w.number, w.closed.Load())
		}
	}
}

func TestAConnectionThatHasEndedIsReplacedAndClosed(t *testing.T) {
	t.Parallel()
	o := &office{}
	p := inflight.NewPool(inflight.Options[*wire]{Connect: o.connect, Most: atMost(1)})
	w, done := get(t, p)
	w.dead.Store(true)
	if next, _ := get(t, p); next == w || p.Open() != 1 {
		t.Error("the dead one is used")
	}
	done() // of one that is gone already
	p.Close()
	if w.closed.Load() != 1 {
		t.Errorf("closed %d times", w.closed.Load())
	}
}

func TestClosingAPoolWaitsForTheConnectionThatIsBeingMade(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		made := make(chan *wire)
		p := inflight.NewPool(inflight.Options[*wire]{
			Connect: func(context.Context) (*wire, error) { return <-made, nil }, Most: atMost(1),
		})
		first, second, closed := make(chan error, 1), make(chan error, 1), make(chan struct{})
		ask := func(told chan<- error) {
			_, _, err := p.Get(t.Context())
			told <- err
		}
		go ask(first)
		synctest.Wait()
		go ask(second) // waits for the one that is being made
		synctest.Wait()
		go func() { p.Close(); close(closed) }()
		synctest.Wait()
		select {
		case <-closed:
			t.Fatal("closed too early")
		default:
		}
		w := &wire{}
		made <- w
		for _, told := range []chan error{first, second} {
			if err := <-told; !errors.Is(err, inflight.ErrClosed) {
				t.Errorf("%v", err)
			}
		}
		if <-closed; w.closed.Load() != 1 {
			t.Error("what came late was not closed")
		}
	})
}
