package audit

import (
	"context"
	"errors"
	"fmt"
)

// verifyPage is how many records are read at once.
const verifyPage = 500

// Verdict is what [Log.Verify] found in a log that is in order.
type Verdict struct {
	Entries int64
	Hash    Hash     // of the last one
	Notes   []string // what a person should look at although no entry is broken
}

// BrokenError names the first entry that is not as it was written.
type BrokenError struct {
	Number int64 // of the entry, or of the one that is missing
	Why    string
}

// Error says which entry and why.
func (e *BrokenError) Error() string {
	return fmt.Sprintf("the audit log is broken at entry %d: %s", e.Number, e.Why)
}

// Verify reads the whole log and checks every hash, and that it ends as the head
// file says. It returns a *[BrokenError] for the first entry that is wrong or missing.
func (l *Log) Verify(ctx context.Context) (Verdict, error) {
	// The head is read first: what is added meanwhile is after it.
	var end *end
	var unreadable error
	if l.head.path != "" {
		end, unreadable = l.head.read()
	}
	var v Verdict
	var last Record
	var atHead *Record
	for {
		page, err := l.store.After(ctx, last.Number, verifyPage)
		if err != nil {
			return Verdict{}, err
		}
		for _, r := range page {
			if r.Number != last.Number+1 {
				return Verdict{}, &BrokenError{last.Number + 1, "it is missing"}
			}
			if r.Hash != last.next(r.Data) {
				return Verdict{}, &BrokenError{r.Number, "its content, or that of the one before, is not what was written"}
			}
			e, err := r.Entry()
			if err != nil {
				return Verdict{}, &BrokenError{r.Number, "it is no entry"}
			}
			if e.HeadFault != "" {
				v.Notes = append(v.Notes, fmt.Sprintf("entry %d notes: %s", r.Number, e.HeadFault))
			}
			if end != nil && r.Number == end.number {
				atHead = &r
			}
			last = r
		}
		if len(page) < verifyPage {
			break
		}
	}
	v.Entries, v.Hash = last.Number, last.Hash
	if end != nil && last.Number > end.number && !l.head.shared {
		// Written meanwhile, with a later head, or by something that writes none.
		if later, err := l.head.read(); err != nil || later == nil || later.number < last.Number {
			return Verdict{}, &BrokenError{end.number + 1, "the head file names the entry before as the last"}
		}
	}
	if l.head.path == "" {
		v.Notes = append(v.Notes, "there is no head file to compare with, so entries missing at the end are not noticed")
		return v, nil
	}
	if end == nil && unreadable == nil && l.head.shared {
		v.Notes = append(v.Notes, "this daemon has added no entry yet: there is no head file to compare with")
		return v, nil
	}
	return v, judgeEnd(&v, last, end, atHead, unreadable)
}

// judgeEnd compares the end of the log with the head file.
func judgeEnd(v *Verdict, last Record, end *end, atHead *Record, unreadable error) error {
	switch {
	case unreadable != nil && !errors.Is(unreadable, errUnreadable):
		return unreadable
	case unreadable != nil:
		return &BrokenError{last.Number, unreadable.Error()}
	case end == nil && last.Number == 0:
		return nil
	case end == nil:
		return &BrokenError{last.Number, "it is the last, and the head file that should say so is missing"}
	case atHead != nil && atHead.Hash != end.hash:
		return &BrokenError{end.number, "it is another one than the head file names"}
	case atHead != nil:
		return nil
	case end.number == last.Number+1 && end.before == last.Hash:
		v.Notes = append(v.Notes, fmt.Sprintf("the head file names entry %d, which is not there: the daemon was ended while it wrote it, or somebody has removed it", end.number))
		return nil
	}
	return &BrokenError{last.Number + 1, fmt.Sprintf("it and all up to %d are missing at the end", end.number)}
}
