package vspheretest

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// faultKind is what goes wrong.
type faultKind string

const (
	faultCut      faultKind = "cut"      // the connection is reset
	faultStatus   faultKind = "status"   // an HTTP error instead of a body
	faultStall    faultKind = "stall"    // no further byte, the connection stays open
	faultTruncate faultKind = "truncate" // the body ends early and looks complete
	faultCorrupt  faultKind = "corrupt"  // one byte is flipped on the wire
	faultEmpty    faultKind = "empty"    // a 200 without a body
	faultNoRange  faultKind = "norange"  // a range is answered with the whole
	faultChange   faultKind = "change"   // the object gets a new ETag
	faultExpire   faultKind = "expire"   // the lease times out in spite of Progress
	faultSession  faultKind = "session"  // every session is logged out
)

// fault is one parsed rule and how often it may still strike.
type fault struct {
	kind  faultKind
	at    int64 // byte of the stream; -1: not tied to a byte
	after time.Duration
	code  int
	vm    string // name or inventory path; empty: any
	disk  int    // index among the VM's disks; -1: any
	plane Plane  // NFC or Folder; empty: both
	keep  bool   // session: leases outlive their session
	left  int    // strikes left; negative: without end
}

// parseFault reads "kind:key=value,…"; see the package comment for the syntax.
func parseFault(spec string) (*fault, error) {
	kind, rest, _ := strings.Cut(spec, ":")
	f := &fault{kind: faultKind(kind), at: -1, disk: -1, left: 1, code: http.StatusServiceUnavailable}
	for rest != "" {
		var param string
		param, rest, _ = strings.Cut(rest, ",")
		key, value, ok := strings.Cut(param, "=")
		if !ok {
			return nil, fmt.Errorf("fault %q: %q is not key=value", spec, param)
		}
		if err := f.set(key, value); err != nil {
			return nil, fmt.Errorf("fault %q: %w", spec, err)
		}
	}
	if err := f.check(); err != nil {
		return nil, fmt.Errorf("fault %q: %w", spec, err)
	}
	return f, nil
}

func (f *fault) set(key, value string) (err error) {
	switch key {
	case "at":
		f.at, err = ParseSize(value)
	case "after":
		f.after, err = time.ParseDuration(value)
	case "code":
		f.code, err = strconv.Atoi(value)
	case "vm":
		f.vm = value
	case "disk":
		f.disk, err = strconv.Atoi(value)
	case "plane":
		if f.plane = Plane(value); f.plane != NFC && f.plane != Folder {
			err = errors.New("plane: want nfc or folder")
		}
	case "keep":
		f.keep, err = strconv.ParseBool(value)
	case "times":
		if value == "always" {
			f.left = -1
			break
		}
		f.left, err = strconv.Atoi(value)
		if err == nil && f.left < 1 {
			err = errors.New(`times: want a positive number or "always"`)
		}
	default:
		err = fmt.Errorf("unknown key %q: want at, after, code, times, vm, disk, plane or keep", key)
	}
	return err
}

func (f *fault) check() error {
	switch f.kind {
	case faultCut, faultStall, faultTruncate, faultCorrupt:
		if f.at < 0 {
			return errors.New("at=SIZE is missing")
		}
	case faultExpire, faultSession:
		if f.at < 0 && f.after <= 0 {
			return errors.New("after=DURATION or at=SIZE is missing")
		}
	case faultStatus:
		if f.code < 400 || f.code > 599 {
			return fmt.Errorf("code=%d: want 400 to 599", f.code)
		}
	case faultEmpty, faultNoRange, faultChange:
	default:
		return fmt.Errorf("unknown fault: want cut, status, stall, truncate, corrupt, empty, norange, change, expire or session")
	}
	return nil
}

// matches tells whether f is meant for this disk; g nil matches what names no VM.
func (f *fault) matches(g *guest, disk int) bool {
	if f.disk >= 0 && f.disk != disk {
		return false
	}
	return f.vm == "" || g != nil && g.called(f.vm)
}

// faultSet is the rules of a server.
type faultSet struct {
	mu    sync.Mutex
	rules []*fault
}

func (s *faultSet) add(f *fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules = append(s.rules, f)
}

func (s *faultSet) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules = nil
}

// take uses up one strike of f and tells whether there was one left.
func (s *faultSet) take(f *fault) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.left == 0 {
		return false
	}
	if f.left > 0 {
		f.left--
	}
	return true
}

// find returns the rules with strikes left that want accepts.
func (s *faultSet) find(want func(*fault) bool) []*fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []*fault
	for _, f := range s.rules {
		if f.left != 0 && want(f) {
			found = append(found, f)
		}
	}
	return found
}

// on tells whether f strikes on a plane.
func (f *fault) on(p Plane) bool { return f.plane == "" || f.plane == p }

// strike finds the first rule of a kind for this disk and uses it up.
func (s *faultSet) strike(kind faultKind, p Plane, g *guest, disk int) *fault {
	for _, f := range s.find(func(f *fault) bool { return f.kind == kind && f.on(p) && f.matches(g, disk) }) {
		if s.take(f) {
			return f
		}
	}
	return nil
}

// within returns the rules tied to a byte in [from, to) of this disk, by position.
func (s *faultSet) within(p Plane, g *guest, disk int, from, to int64) []*fault {
	found := s.find(func(f *fault) bool {
		return f.at >= from && f.at < to && f.kind != faultChange && f.on(p) && f.matches(g, disk)
	})
	slices.SortStableFunc(found, func(a, b *fault) int { return int(min(max(a.at-b.at, -1), 1)) })
	return found
}
