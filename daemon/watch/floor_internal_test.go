package watch

import (
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
)

func TestNoNewWorkIsBegunWhereLittleRoomIsLeft(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name       string
		state, out int64
		err        error
		dir        string // that lacks room, or ""
	}{
		{name: "room everywhere", state: 1 << 40, out: 1 << 40},
		{name: "outputs are full", state: 1 << 40, out: 4 << 30, dir: "/out"},
		{name: "the state's own file system is full", state: 1 << 20, out: 1 << 40, dir: "/"},
		{name: "the state needs less than the outputs", state: 1 << 30, out: 1 << 40},
		{name: "a file system does not answer", state: 1 << 40, err: errors.New("stale file handle")},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := NewSpace("/state", "/out")
				s.usage = func(dir string) (free, size int64, err error) {
					if dir == "/state" {
						return test.state, 1 << 50, nil
					}
					return test.out, 1 << 50, test.err
				}
				f := NewFloor(s, "/state", 5<<30, slog.New(slog.DiscardHandler))
				f.look(t.Context())
				l := f.Lacking()
				switch {
				case test.dir == "" && len(l) > 0:
					t.Errorf("lacking %+v", l)
				case test.dir != "" && (len(l) != 1 || l[0].Dir != test.dir || l[0].Reason == ""):
					t.Errorf("lacking %+v, want %s", l, test.dir)
				}
				test.state, test.out = 1<<45, 1<<45
				if f.look(t.Context()); len(f.Lacking()) > 0 {
					t.Errorf("lacking %+v when there is room again", f.Lacking())
				}
			})
		})
	}
}
