package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/hyper2kvm/hyper2kvm/internal/atomicfile"
)

// head is the file that says how the log ends. It is written before an entry is
// committed, and names the entry before, too: after a crash in between, the log
// ends with that one.
type head struct {
	path string
	// shared is that others add entries, too: the file names the last one of this
	// daemon, and is written when that is committed.
	shared bool
}

// end is what the file says.
type end struct {
	number       int64
	hash, before Hash
}

// headFormat has the same length for every entry.
const headFormat = "%020d %s %s\n"

// set writes the file. One that is there is written over: so few bytes, in one
// place, are there whole or not at all, and it takes a third of the time that
// another file and its name would.
func (h head) set(last, r Record) error {
	if h.path == "" {
		return nil
	}
	line := fmt.Appendf(nil, headFormat, r.Number, r.Hash, last.Hash)
	f, err := os.OpenFile(h.path, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return atomicfile.Write(h.path, line, 0o600)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(line)
	if err == nil {
		err = f.Truncate(int64(len(line)))
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// read returns what the file says, nothing when there is none.
func (h head) read() (*end, error) {
	b, err := os.ReadFile(h.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var e end
	var hash, before string
	_, err = fmt.Sscanf(string(b), headFormat, &e.number, &hash, &before)
	if err = errors.Join(err, e.hash.UnmarshalText([]byte(hash)), e.before.UnmarshalText([]byte(before))); err != nil {
		return nil, errUnreadable
	}
	return &e, nil
}

var errUnreadable = errors.New("the head file is not as this program writes it")

// compare says how a log that ends with last differs from what the file says, ""
// when it does not.
func (h head) compare(last Record) (fault string, err error) {
	if h.path == "" {
		return "", nil
	}
	e, err := h.read()
	switch {
	case errors.Is(err, errUnreadable):
		return err.Error(), nil
	case err != nil:
		return "", err
	case e == nil && (last.Number == 0 || h.shared):
		return "", nil // a daemon that is new to the store has added nothing
	case e == nil:
		return fmt.Sprintf("the head file is missing, though there are %d entries", last.Number), nil
	case e.number == last.Number && e.hash == last.Hash:
		return "", nil
	case e.number == last.Number+1 && e.before == last.Hash:
		return "", nil // a crash while that entry was written
	case e.number > last.Number:
		return fmt.Sprintf("entries after number %d are missing: there were %d, the last with hash %s", last.Number, e.number, e.hash), nil
	case e.number < last.Number && h.shared:
		return "", nil // Verify looks whether the one that is named is still there
	case e.number < last.Number:
		return fmt.Sprintf("entries after number %d were not written by this program", e.number), nil
	}
	return fmt.Sprintf("entry %d is another one: it had hash %s", e.number, e.hash), nil
}
