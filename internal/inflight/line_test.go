package inflight_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/inflight"
)

// question is what a test asks a server; the server of a test answers with a number.
type question struct{ answer uint32 }

type line = inflight.Line[uint32, question]

// frame is a request: its number.
func frame(id uint32) []byte { return binary.LittleEndian.AppendUint32(nil, id) }

// rig is a line to a server that the test plays.
type rig struct {
	*line
	server net.Conn
}

// newRig starts a line. It has to be closed before a bubble ends.
func newRig(t *testing.T, depth int) *rig {
	t.Helper()
	client, server := net.Pipe()
	l := inflight.NewLine[uint32, question](client, depth, time.Minute, func(err error) error { return fmt.Errorf("the line has ended: %w", err) })
	go l.Run(func() error {
		var m [8]byte
		if _, err := io.ReadFull(l.In, m[:]); err != nil {
			return err
		}
		c := l.Waiting(binary.LittleEndian.Uint32(m[:]))
		if c == nil {
			panic("an answer that nobody waits for")
		}
		c.Of.answer = binary.LittleEndian.Uint32(m[4:])
		l.Answer(c, nil)
		return nil
	})
	r := &rig{line: l, server: server}
	t.Cleanup(r.end)
	return r
}

func (r *rig) end() {
	r.Fail(io.ErrClosedPipe)
	_ = r.server.Close()
	<-r.Ended()
}

// heard reads one request.
func (r *rig) heard(t *testing.T) uint32 {
	t.Helper()
	var m [4]byte
	if _, err := io.ReadFull(r.server, m[:]); err != nil {
		t.Fatal(err)
	}
	return binary.LittleEndian.Uint32(m[:])
}

func (r *rig) says(t *testing.T, id, answer uint32) {
	t.Helper()
	if _, err := r.server.Write(binary.LittleEndian.AppendUint32(frame(id), answer)); err != nil {
		t.Fatal(err)
	}
}

// asks asks beside, since nobody reads a pipe yet.
func (r *rig) asks(t *testing.T) <-chan *inflight.Call[uint32, question] {
	t.Helper()
	asked := make(chan *inflight.Call[uint32, question], 1)
	go func() {
		c, err := r.Ask(t.Context(), question{}, true, frame)
		if err != nil {
			t.Error(err)
		}
		asked <- c
	}()
	return asked
}

func TestAnswersFindTheirRequestsInWhateverOrderTheyCome(t *testing.T) {
	t.Parallel()
	r := newRig(t, 4)
	var calls []*inflight.Call[uint32, question]
	for i := range 4 {
		asked := r.asks(t)
		if id := r.heard(t); id != uint32(i) {
			t.Fatalf("request %d has number %d", i, id)
		}
		calls = append(calls, <-asked)
	}
	if c, err := r.Ask(t.Context(), question{}, false, frame); c != nil || err != nil {
		t.Fatalf("a fifth of four: %v, %v", c, err)
	}
	for _, id := range []uint32{2, 0, 3, 1} {
		r.says(t, id, id+100)
	}
	for i, c := range calls {
		if err := c.Wait(t.Context()); err != nil || c.Of.answer != uint32(i)+100 {
			t.Errorf("request %d: answer %d, %v", i, c.Of.answer, err)
		}
	}
	if !r.Quiesce(t.Context()) {
		t.Error("turns are not given back")
	}
}

func TestALineThatEndsTellsEverybodyWhy(t *testing.T) {
	t.Parallel()
	why := errors.New("the cable")
	for what, end := range map[string]func(r *rig){
		"it is ended":         func(r *rig) { r.Fail(why) },
		"the server hangs up": func(r *rig) { _ = r.server.Close() },
		"its reader panics":   func(r *rig) { r.says(t, 7, 0) },
	} {
		r := newRig(t, 1)
		asked := r.asks(t)
		r.heard(t)
		c := <-asked
		waits := make(chan error, 1)
		go func() {
			_, err := r.Ask(t.Context(), question{}, true, frame) // has no turn yet, or a line no more
			waits <- err
		}()
		end(r)
		<-r.Ended()
		said := []error{c.Wait(t.Context()), <-waits}
		_, err := r.Send(question{}, frame)
		for i, err := range append(said, err) {
			if err == nil || !strings.HasPrefix(err.Error(), "the line has ended: ") {
				t.Errorf("%s: %d was told %v", what, i, err)
			}
		}
		if r.Alive() || r.Quiesce(t.Context()) {
			t.Errorf("%s: the line is said to be alive", what)
		}
	}
}

func TestAServerHasItsTimeOnlyWhileSomethingIsAsked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2)
		defer r.end()
		time.Sleep(time.Hour) // of the bubble: nobody waits for anything
		first := r.asks(t)
		r.heard(t)
		time.Sleep(50 * time.Second)
		second := r.asks(t) // gives the first no more time
		r.heard(t)
		r.says(t, 0, 1) // but an answer does
		if err := (<-first).Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Second)
		if !r.Alive() {
			t.Fatal("ended 50 s after a byte")
		}
		err := (<-second).Wait(t.Context())
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
}

func TestWhoDoesNotWaitAnyMoreLeavesTheLineToTheOthers(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	asked := r.asks(t)
	r.heard(t)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := (<-asked).Wait(gone); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if _, err := r.Ask(gone, question{}, true, frame); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	r.says(t, 0, 1) // the turn is free when the answer has come
	next := r.asks(t)
	r.says(t, r.heard(t), 5)
	c := <-next
	if err := c.Wait(t.Context()); err != nil || c.Of.answer != 5 {
		t.Errorf("%d, %v", c.Of.answer, err)
	}
}

func TestLastWordsAreSaidOnALineThatHasEnded(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.Fail(io.ErrUnexpectedEOF)
	<-r.Ended()
	said := make(chan error, 1)
	go func() { said <- r.Say(time.Minute, frame) }()
	if id := r.heard(t); id != 0 {
		t.Errorf("number %d", id)
	}
	if err := <-said; err != nil {
		t.Error(err)
	}
}

func TestWhoIsRefusedForGoodFindsTheLineEnded(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	asked := r.asks(t)
	r.heard(t)
	c := <-asked
	asked = r.asks(t)
	r.heard(t)
	other := <-asked
	refusal, why := errors.New("out of memory"), errors.New("the session is over")
	found := make(chan bool, 1)
	go func() {
		<-c.Done()
		found <- r.Alive()
	}()
	r.Condemn(c, refusal, why)
	if <-found {
		t.Error("the line could be asked again")
	}
	if err := c.Err(); !errors.Is(err, refusal) {
		t.Errorf("who was refused is told %v", err)
	}
	if err := other.Wait(t.Context()); !errors.Is(err, why) || errors.Is(err, refusal) {
		t.Errorf("the other is told %v", err)
	}
}
