package storetest

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/audit"
)

// Tokens runs the suite of every [access.Tokens]. open returns an empty one.
func Tokens(t *testing.T, open func(t *testing.T) access.Tokens) {
	t.Run("a token is found by its id as it was made, and listed in order", func(t *testing.T) {
		t.Parallel()
		f := tokens{t, open(t)}
		if had, err := f.Any(t.Context()); had || err != nil {
			t.Errorf("an empty store had a token: %v, %v", had, err)
		}
		a, b := f.create("a", access.Viewer), f.create("b", access.Admin)
		for _, want := range []access.Token{a, b} {
			got, err := f.ByID(t.Context(), want.ID)
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Errorf("%v, (-want +got):\n%s", err, diff)
			}
		}
		f.listed(a, b)
		if had, err := f.Any(t.Context()); !had || err != nil {
			t.Errorf("a store with tokens had none: %v, %v", had, err)
		}
	})
	t.Run("what is not there is not found", func(t *testing.T) {
		t.Parallel()
		f := tokens{t, open(t)}
		a := f.create("a", access.Viewer)
		for _, id := range []string{"", "a", strings.ToUpper(a.ID), a.ID + " ", a.ID[:7], "%"} {
			if _, err := f.ByID(t.Context(), id); !errors.Is(err, access.ErrNoToken) {
				t.Errorf("ByID(%q): %v", id, err)
			}
			if err := f.Used(t.Context(), id, now); !errors.Is(err, access.ErrNoToken) {
				t.Errorf("Used(%q): %v", id, err)
			}
		}
		if err := f.Revoke(t.Context(), "b", now); !errors.Is(err, access.ErrNoToken) {
			t.Errorf("Revoke: %v", err)
		}
		f.listed(a)
	})
	t.Run("a revoked token stays, and its name is free again", func(t *testing.T) {
		t.Parallel()
		f := tokens{t, open(t)}
		first := f.create("ci", access.Viewer)
		again, _, err := access.NewToken("ci", access.Admin, now, time.Time{})
		f.must(err)
		if err := f.Create(t.Context(), again); !errors.Is(err, access.ErrTokenExists) {
			t.Errorf("a second token with the name: %v", err)
		}
		f.must(f.Revoke(t.Context(), "ci", now.Add(time.Minute)))
		first.Revoked = now.Add(time.Minute)
		f.must(f.Create(t.Context(), again))
		f.listed(first, again)
		f.must(f.Revoke(t.Context(), "ci", now.Add(time.Hour)))
		again.Revoked = now.Add(time.Hour)
		f.listed(first, again)
		if err := f.Revoke(t.Context(), "ci", now); !errors.Is(err, access.ErrNoToken) {
			t.Errorf("a third revocation: %v", err)
		}
		if had, err := f.Any(t.Context()); !had || err != nil {
			t.Errorf("a store with revoked tokens had none: %v, %v", had, err)
		}
	})
	t.Run("its use is noted", func(t *testing.T) {
		t.Parallel()
		f := tokens{t, open(t)}
		a, b := f.create("a", access.Viewer), f.create("b", access.Viewer)
		f.must(f.Used(t.Context(), b.ID, now.Add(time.Hour)))
		b.LastUsed = now.Add(time.Hour)
		f.listed(a, b)
	})
}

// now is a time as stores keep it.
var now = time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC)

type tokens struct {
	*testing.T
	access.Tokens
}

func (f tokens) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

func (f tokens) create(name string, role access.Role) access.Token {
	f.Helper()
	t, _, err := access.NewToken(name, role, now, now.Add(24*time.Hour))
	f.must(err)
	f.must(f.Create(f.Context(), t))
	return t
}

func (f tokens) listed(want ...access.Token) {
	f.Helper()
	got, err := f.List(f.Context())
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		f.Errorf("%v, (-want +got):\n%s", err, diff)
	}
}

// Audit runs the suite of every [audit.Store]. open returns an empty one.
func Audit(t *testing.T, open func(t *testing.T) audit.Store) {
	t.Run("records are added after the last, and read from both ends", func(t *testing.T) {
		t.Parallel()
		s := open(t)
		for want := range int64(5) {
			err := s.Append(t.Context(), func(last audit.Record) (audit.Record, error) {
				if last.Number != want {
					t.Errorf("the last has number %d, want %d", last.Number, want)
				}
				return record(want + 1), nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		for _, q := range []struct {
			read  func() ([]audit.Record, error)
			wants []int64
		}{
			{func() ([]audit.Record, error) { return s.After(t.Context(), 0, 3) }, []int64{1, 2, 3}},
			{func() ([]audit.Record, error) { return s.After(t.Context(), 3, 3) }, []int64{4, 5}},
			{func() ([]audit.Record, error) { return s.After(t.Context(), 5, 3) }, nil},
			{func() ([]audit.Record, error) { return s.Before(t.Context(), 0, 2) }, []int64{5, 4}},
			{func() ([]audit.Record, error) { return s.Before(t.Context(), 4, 9) }, []int64{3, 2, 1}},
			{func() ([]audit.Record, error) { return s.Before(t.Context(), 1, 9) }, nil},
		} {
			var want []audit.Record
			for _, n := range q.wants {
				want = append(want, record(n))
			}
			got, err := q.read()
			if len(got) == 0 {
				got = nil
			}
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Errorf("%v, (-want +got):\n%s", err, diff)
			}
		}
	})
	t.Run("nothing is added when there is nothing to add", func(t *testing.T) {
		t.Parallel()
		s := open(t)
		refusal := errors.New("no")
		err := s.Append(t.Context(), func(audit.Record) (audit.Record, error) { return record(1), refusal })
		if !errors.Is(err, refusal) {
			t.Errorf("Append: %v", err)
		}
		if got, err := s.After(t.Context(), 0, 1); err != nil || len(got) > 0 {
			t.Errorf("added all the same: %v, %v", got, err)
		}
	})
	t.Run("two at once are added one after the other", func(t *testing.T) {
		t.Parallel()
		log := audit.New(open(t), "", nil)
		const writers, each = 8, 10
		ended := make(chan error, writers)
		for range writers {
			go func() {
				var err error
				for i := 0; i < each && err == nil; i++ {
					_, err = log.Begin(t.Context(), audit.Entry{Action: audit.Cancel})
				}
				ended <- err
			}()
		}
		for range writers {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		if v, err := log.Verify(t.Context()); err != nil || v.Entries != writers*each {
			t.Errorf("%+v, %v", v, err)
		}
	})
}

// record is one with that number, and content of every byte.
func record(n int64) audit.Record {
	r := audit.Record{Number: n}
	for i := range r.Hash {
		r.Hash[i] = byte(n) * byte(i)
	}
	for i := range 256 {
		r.Data = append(r.Data, byte(i))
	}
	return r
}
