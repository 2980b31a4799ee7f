package audit_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hyper2kvm/hyper2kvm/daemon/access"
	"github.com/hyper2kvm/hyper2kvm/daemon/audit"
)

// rows is a store that a test can tamper with.
type rows struct {
	all []audit.Record
	// commit, if not nil, is asked before a record is added, after the log has
	// made it.
	commit func() error
}

func (r *rows) Append(_ context.Context, next func(audit.Record) (audit.Record, error)) error {
	var last audit.Record
	if len(r.all) > 0 {
		last = r.all[len(r.all)-1]
	}
	added, err := next(last)
	if err == nil && r.commit != nil {
		err = r.commit()
	}
	if err == nil {
		r.all = append(r.all, added)
	}
	return err
}

func (r *rows) After(_ context.Context, n int64, limit int) ([]audit.Record, error) {
	var found []audit.Record
	for _, one := range r.all {
		if one.Number > n && len(found) < limit {
			found = append(found, one)
		}
	}
	return found, nil
}

func (r *rows) Before(context.Context, int64, int) ([]audit.Record, error) {
	return nil, errors.New("not needed")
}

// chain is a hash made as the package's documentation says.
func chain(before audit.Hash, n int64, data []byte) audit.Hash {
	text := append([]byte("hyper2kvm audit 1\n"), before[:]...)
	text = binary.BigEndian.AppendUint64(text, uint64(n))
	return sha256.Sum256(append(text, data...))
}

// written is a log with ten entries.
type written struct {
	*audit.Log
	*rows
	t    *testing.T
	head string
}

func write(t *testing.T) *written {
	t.Helper()
	w := &written{rows: &rows{}, t: t, head: filepath.Join(t.TempDir(), "audit.head")}
	w.Log = audit.New(w.rows, w.head, nil)
	for range 5 {
		w.change()
	}
	return w
}

func (w *written) change() {
	w.t.Helper()
	ctx := access.WithPrincipal(w.t.Context(), access.Principal{Name: "ci", Role: access.Operator, Via: access.ViaToken})
	c, err := w.Begin(ctx, audit.Entry{Action: audit.Cancel, Jobs: []audit.Job{{ID: fmt.Sprint("job ", len(w.all))}}}) // no two alike
	if err == nil {
		err = c.End(ctx, audit.Entry{Status: 200, Done: 1})
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// wantBroken verifies the log and wants the first broken entry to be n.
func (w *written) wantBroken(n int64) {
	w.t.Helper()
	v, err := w.Verify(w.t.Context())
	broken := new(audit.BrokenError)
	if !errors.As(err, &broken) || broken.Number != n {
		w.t.Errorf("%+v, %v; want entry %d broken", v, err, n)
	}
}

// wantWhole verifies the log and wants n entries and the notes.
func (w *written) wantWhole(n int64, notes ...string) {
	w.t.Helper()
	v, err := w.Verify(w.t.Context())
	if err != nil || v.Entries != n || len(v.Notes) != len(notes) {
		w.t.Fatalf("%+v, %v; want %d entries and %d notes", v, err, n, len(notes))
	}
	for i, note := range notes {
		if !strings.Contains(v.Notes[i], note) {
			w.t.Errorf("note %q, want %q", v.Notes[i], note)
		}
	}
}

func TestTheHashesAreAsDocumented(t *testing.T) {
	t.Parallel()
	w := write(t)
	w.wantWhole(10)
	var before audit.Hash
	for i, r := range w.all {
		if want := chain(before, int64(i+1), r.Data); r.Hash != want || r.Number != int64(i+1) {
			t.Fatalf("entry %d has hash %s, want %s", r.Number, r.Hash, want)
		}
		before = r.Hash
	}
	first, err := w.all[0].Entry()
	if err != nil {
		t.Fatal(err)
	}
	first.Time = first.Time.Truncate(0)
	want := audit.Entry{Time: first.Time, Action: audit.Cancel, Who: "ci", Role: access.Operator, Via: access.ViaToken, Jobs: []audit.Job{{ID: "job 0"}}}
	if diff := cmp.Diff(want, first); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	second, err := w.all[1].Entry()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(audit.Entry{Time: second.Time, Of: 1, Status: 200, Done: 1}, second); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTamperingIsFoundAtTheFirstEntryThatIsNotAsItWas(t *testing.T) {
	t.Parallel()
	forged := func(w *written, n int64) audit.Record {
		last := w.all[n-2]
		data := []byte(`{"time":"2026-01-01T00:00:00Z","action":"jobs.cancel"}`)
		return audit.Record{Number: n, Hash: chain(last.Hash, n, data), Data: data}
	}
	for _, c := range []struct {
		name   string
		tamper func(w *written)
		broken int64
	}{
		{"a byte was changed", func(w *written) { w.all[4].Data = bytes.Replace(w.all[4].Data, []byte("ci"), []byte("me"), 1) }, 5},
		{"a space was added", func(w *written) { w.all[4].Data = append(w.all[4].Data, ' ') }, 5},
		{"a hash was changed", func(w *written) { w.all[4].Hash[0] ^= 1 }, 5},
		{"the first was changed", func(w *written) { w.all[0].Data = bytes.Replace(w.all[0].Data, []byte("ci"), []byte("me"), 1) }, 1},
		{"the first was removed", func(w *written) { w.all = w.all[1:] }, 1},
		{"one was removed", func(w *written) { w.all = slices.Delete(w.all, 4, 5) }, 5},
		{"one was removed and the others renumbered", func(w *written) {
			w.all = slices.Delete(w.all, 4, 5)
			for i := range w.all {
				w.all[i].Number = int64(i + 1)
			}
		}, 5},
		{"two were exchanged", func(w *written) { w.all[4].Data, w.all[6].Data = w.all[6].Data, w.all[4].Data }, 5},
		{"two were exchanged with their hashes", func(w *written) {
			w.all[4], w.all[6] = w.all[6], w.all[4]
			w.all[4].Number, w.all[6].Number = 5, 7
		}, 5},
		{"one was changed, with the right hash", func(w *written) { w.all[4] = forged(w, 5) }, 6},
		{"the last was changed, with the right hash", func(w *written) { w.all[9] = forged(w, 10) }, 10},
		{"one was added", func(w *written) { w.all = append(w.all, audit.Record{Number: 11, Data: w.all[9].Data}) }, 11},
		{"one was added, with the right hash", func(w *written) { w.all = append(w.all, forged(w, 11)) }, 11},
		{"the last two were removed", func(w *written) { w.all = w.all[:8] }, 9},
		{"all were removed", func(w *written) { w.all = nil }, 1},
		{"the head was removed", func(w *written) { w.rm() }, 10},
		{"the head was emptied", func(w *written) { w.write("") }, 10},
		{"the head is nonsense", func(w *written) { w.write("10 abc def\n") }, 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := write(t)
			c.tamper(w)
			w.wantBroken(c.broken)
		})
	}
}

func (w *written) rm() {
	if err := os.Remove(w.head); err != nil {
		w.t.Fatal(err)
	}
}

func (w *written) write(head string) {
	if err := os.WriteFile(w.head, []byte(head), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func TestTheNextEntryNotesThatTheEndIsNotAsItWas(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		tamper func(w *written)
		left   int64
		note   string
	}{
		{"entries were removed", func(w *written) { w.all = w.all[:6] }, 6, "entries after number 6 are missing: there were 10"},
		{"all were removed", func(w *written) { w.all = nil }, 0, "entries after number 0 are missing: there were 10"},
		{"the head was removed", func(w *written) { w.rm() }, 10, "the head file is missing, though there are 10 entries"},
		{"the head is nonsense", func(w *written) { w.write("x") }, 10, "the head file is not as this program writes it"},
		{"one was added", func(w *written) {
			w.all = append(w.all, audit.Record{Number: 11, Data: []byte("{}"), Hash: chain(w.all[9].Hash, 11, []byte("{}"))})
		}, 11, "entries after number 10 were not written by this program"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := write(t)
			c.tamper(w)
			w.change()
			w.change()
			w.wantWhole(c.left+4, c.note) // once, and for good
		})
	}
}

func TestADaemonKilledWhileItWritesAnEntryLeavesALogThatIsWhole(t *testing.T) {
	t.Parallel()
	w := write(t)
	killed := errors.New("killed")
	w.commit = func() error { return killed } // after the head was written
	if _, err := w.Begin(t.Context(), audit.Entry{Action: audit.Cancel}); !errors.Is(err, killed) {
		t.Fatal(err)
	}
	w.commit = nil
	w.wantWhole(10, "the head file names entry 11, which is not there")
	w.change()
	w.wantWhole(12)
}

func TestAHeadThatCannotBeWrittenHindersTheEntry(t *testing.T) {
	t.Parallel()
	store := &rows{}
	log := audit.New(store, filepath.Join(t.TempDir(), "missing", "audit.head"), nil)
	if c, err := log.Begin(t.Context(), audit.Entry{Action: audit.Cancel}); err == nil || c != nil || len(store.all) > 0 {
		t.Errorf("%v, %v, %d entries", c, err, len(store.all))
	}
}

func TestALogWithoutAHeadSaysWhatItCannotNotice(t *testing.T) {
	t.Parallel()
	w := write(t)
	w.Log = audit.New(w.rows, "", nil)
	w.all = w.all[:8]
	w.wantWhole(8, "entries missing at the end are not noticed")
}

func TestALogIsVerifiedWhileItIsWritten(t *testing.T) {
	t.Parallel()
	w := write(t)
	reading := &meanwhile{rows: w.rows, then: w.change}
	v, err := audit.New(reading, w.head, nil).Verify(t.Context())
	if err != nil || v.Entries != 12 || len(v.Notes) > 0 {
		t.Errorf("%+v, %v", v, err)
	}
}

// meanwhile is a store that is written to between the look at the head and the
// first page.
type meanwhile struct {
	*rows
	then func()
}

func (m *meanwhile) After(ctx context.Context, n int64, limit int) ([]audit.Record, error) {
	if m.then != nil {
		m.then()
		m.then = nil
	}
	return m.rows.After(ctx, n, limit)
}

func TestNoLogAtAllHindersNothing(t *testing.T) {
	t.Parallel()
	var none *audit.Log
	c, err := none.Begin(t.Context(), audit.Entry{Action: audit.Cancel})
	if err == nil {
		err = c.End(t.Context(), audit.Entry{})
	}
	if err != nil {
		t.Error(err)
	}
}
