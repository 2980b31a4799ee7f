package vspheretest

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hyper2kvm/hyper2kvm/units"
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
	faultTask     faultKind = "task"     // the task that a call starts takes its time
	faultLate     faultKind = "late"     // a call is answered late
	faultHang     faultKind = "hang"     // a call is never answered
	faultLose     faultKind = "lose"     // a call's answer is lost on the way
	faultRefuse   faultKind = "fault"    // a call is refused with a vSphere fault
	faultDown     faultKind = "down"     // a plane is away
	faultManifest faultKind = "manifest" // a disk is listed late
	faultTouch    faultKind = "touch"    // a VM changes with its lease
	faultNFC902   faultKind = "nfc902"   // something that only port 902 knows
)

// fault is one parsed rule and how often it may still strike.
type fault struct {
	kind  faultKind
	at    int64 // byte of the stream; -1: not tied to a byte
	after time.Duration
	code  int
	vm    string // name or inventory path; empty: any
	disk  int    // index among the VM's disks; -1: any
	plane Plane  // NFC, Folder or NFC902; empty: all. down: Control, Hosts or Everything
	keep  bool   // session: leases outlive their session
	left  int    // strikes left; negative: without end

	call     string        // SOAP method; "*": any
	name     string        // task, fault: type of the vSphere fault
	how      Outage        // down, lose; nfc902: the name of what goes wrong
	lasts    time.Duration // task: takes=; down: for=; manifest: late=
	cancel   string        // task: whether it can be cancelled
	noEffect bool          // hang, lose: the call is not carried out either
	early    bool          // task: the effect comes first
	onOpen   bool          // touch: when a lease is opened, not when it ends
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
		if f.at, err = units.ParseSize(value); err != nil {
			err = fmt.Errorf("at: want a number of bytes: %w", err)
		}
	case "after":
		f.after, err = time.ParseDuration(value)
	case "code":
		f.code, err = strconv.Atoi(value)
	case "vm":
		f.vm = value
	case "disk":
		f.disk, err = strconv.Atoi(value)
	case "plane":
		f.plane = Plane(value)
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
		return f.setCall(key, value)
	}
	return err
}

// setCall reads the keys of faults on the control plane.
func (f *fault) setCall(key, value string) (err error) {
	switch key {
	case "call":
		f.call = value
	case "fault":
		f.name = value
	case "how":
		f.how = Outage(value)
	case "takes", "for", "late":
		f.lasts, err = time.ParseDuration(value)
	case "cancel":
		f.cancel = value
	case "effect":
		if f.early = value == "first"; f.early {
			return nil
		}
		var effect bool
		effect, err = strconv.ParseBool(value)
		f.noEffect = !effect
	case "on":
		if value != "open" && value != "end" {
			return errors.New("on: want open or end")
		}
		f.onOpen = value == "open"
	default:
		err = fmt.Errorf("unknown key %q: want at, after, code, times, vm, disk, plane, keep, "+
			"call, fault, how, takes, for, late, cancel, effect or on", key)
	}
	return err
}

func (f *fault) check() error {
	if f.plane != "" && f.plane != NFC && f.plane != Folder && f.plane != NFC902 && f.kind != faultDown {
		return errors.New("plane: want nfc or folder, or nfc902")
	}
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
	case faultEmpty, faultNoRange, faultChange, faultTouch:
	case faultManifest:
		if f.lasts <= 0 {
			return errors.New("late=DURATION is missing")
		}
	case faultDown:
		return f.checkDown()
	case faultNFC902:
		return f.checkNFC()
	case faultTask, faultLate, faultHang, faultLose, faultRefuse:
		return f.checkCall()
	default:
		return errors.New("unknown fault: want cut, status, stall, truncate, corrupt, empty, norange, change, " +
			"expire, session, task, late, hang, lose, fault, down, manifest, touch or nfc902")
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
	mu     sync.Mutex
	rules  []*fault
	struck map[string]int // by kind
}

func (s *faultSet) add(f *fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules = append(s.rules, f)
}

// clear uses up every rule, also for those who hold one.
func (s *faultSet) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.rules {
		f.left = 0
	}
	s.rules = nil
}

// counts returns how often rules of each kind have struck.
func (s *faultSet) counts() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.struck)
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
	if s.struck == nil {
		s.struck = make(map[string]int)
	}
	s.struck[string(f.kind)]++
	return true
}

// again tells whether f has strikes left.
func (s *faultSet) again(f *fault) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return f.left != 0
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

// on tells whether f strikes on a plane. What down names is the plane that goes
// away: it strikes at a byte of either.
func (f *fault) on(p Plane) bool { return f.plane == "" || f.plane == p || f.kind == faultDown }

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
