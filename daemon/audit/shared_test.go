package audit_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/daemon/audit"
)

// shared are two daemons that write one log, a few entries each.
func shared(t *testing.T) (mine, others *written) {
	t.Helper()
	mine = &written{rows: &rows{}, t: t, head: filepath.Join(t.TempDir(), "audit.head")}
	mine.Log = audit.NewShared(mine.rows, mine.head, nil)
	others = &written{rows: mine.rows, t: t, head: filepath.Join(t.TempDir(), "audit.head")}
	others.Log = audit.NewShared(mine.rows, others.head, nil)
	for _, w := range []*written{mine, others, mine, others} {
		w.change()
	}
	return mine, others
}

func TestEntriesOfOtherDaemonsAreNoFault(t *testing.T) {
	t.Parallel()
	mine, others := shared(t)
	mine.wantWhole(8)
	others.wantWhole(8)
	mine.change()
	for _, r := range mine.all {
		if e, err := r.Entry(); err != nil || e.HeadFault != "" {
			t.Errorf("entry %d: %q, %v", r.Number, e.HeadFault, err)
		}
	}
	third := &written{rows: mine.rows, t: t}
	third.Log = audit.NewShared(mine.rows, filepath.Join(t.TempDir(), "audit.head"), nil)
	third.wantWhole(10, "has added no entry yet")
	third.change()
	third.wantWhole(12)
}

func TestADaemonMissesEntriesUpToItsOwnLast(t *testing.T) {
	t.Parallel()
	mine, others := shared(t)
	all := mine.all
	mine.all = all[:7] // one of the other's
	mine.wantWhole(7)
	others.wantWhole(7, "names entry 8, which is not there")
	mine.all = all[:4] // two of mine, too
	mine.wantBroken(5)
	mine.change()
	if e, err := mine.all[4].Entry(); err != nil || !strings.Contains(e.HeadFault, "entries after number 4 are missing") {
		t.Errorf("the next entry notes %q, %v", e.HeadFault, err)
	}
	mine.change()
	if e, err := mine.all[6].Entry(); err != nil || e.HeadFault != "" {
		t.Errorf("a later one notes %q, %v", e.HeadFault, err)
	}
}

func TestAnEntryThatIsNotCommittedIsNotInTheHeadOfASharedLog(t *testing.T) {
	t.Parallel()
	mine, others := shared(t)
	before, err := os.ReadFile(mine.head)
	if err != nil {
		t.Fatal(err)
	}
	refused := errors.New("the connection was lost")
	mine.commit = func() error { return refused }
	if _, err := mine.Begin(t.Context(), audit.Entry{Action: audit.Cancel}); !errors.Is(err, refused) {
		t.Errorf("Begin: %v", err)
	}
	mine.commit = nil
	if after, err := os.ReadFile(mine.head); err != nil || string(after) != string(before) {
		t.Errorf("the head is %q, %v", after, err)
	}
	others.change() // which takes that number
	mine.wantWhole(10)
}
