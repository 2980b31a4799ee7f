// Package fault marks errors: as ones that trying again does not mend, and with
// advice for the person who reads them.
//
// Whoever asks need not know who marked an error: an error of any package counts
// that has a method Permanent() bool or Hint() string.
package fault

import "errors"

// Permanent marks err as one that trying again does not mend until a person has
// changed something. A nil err stays nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanent{err}
}

type permanent struct{ error }

func (permanent) Permanent() bool { return true }
func (p permanent) Unwrap() error { return p.error }

// IsPermanent reports whether err is marked as permanent.
func IsPermanent(err error) bool {
	var p interface{ Permanent() bool }
	return errors.As(err, &p) && p.Permanent()
}

// WithHint adds advice to err. A nil err stays nil.
func WithHint(err error, hint string) error {
	if err == nil {
		return nil
	}
	return hinted{err, hint}
}

type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }
func (h hinted) Hint() string  { return h.hint }

// Hint returns the advice that comes with err, or "".
func Hint(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}
