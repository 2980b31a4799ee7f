package vsphere

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

var (
	errRefused = &wireError{err: &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}}
	errReset   = &wireError{err: syscall.ECONNRESET, sent: true}
)

// attempts runs a call in virtual time against answer, and returns how often it
// was sent, when it ended, what was told meanwhile, and its error.
func attempts(t *testing.T, r repeat, budget time.Duration, answer func(since time.Duration) error) (n int, end time.Duration, told []string, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		p := persistence{
			kind: kind{method: "Anything", repeat: r}, budget: budget, known: func() bool { return true },
			outages: tellingOutages(&told, start),
		}
		err = p.run(t.Context(), func() error { n++; return answer(time.Since(start)) })
		end = time.Since(start)
	})
	return n, end, told, err
}

// tellingOutages writes down what is told, without where.
func tellingOutages(told *[]string, start time.Time) *outages {
	return &outages{host: "vc", log: slog.New(slog.DiscardHandler), tell: func(o Outage) {
		s := "back"
		if o.GaveUp {
			s = "gave up"
		}
		if !o.Back {
			s = fmt.Sprintf("waiting since %v: %s", o.Since.Sub(start), o.Reason)
		}
		*told = append(*told, s)
	}}
}

func TestACallThatMayBeRepeatedOutlivesAnOutageAndSaysSo(t *testing.T) {
	t.Parallel()
	for _, down := range []error{errRefused, errReset, &wireError{code: 503, sent: true}, &wireError{code: 200, alien: true, sent: true}} {
		n, end, told, err := attempts(t, repeatAlways, 2*time.Minute, func(since time.Duration) error {
			if since < 90*time.Second {
				return down
			}
			return nil
		})
		if err != nil || end < 90*time.Second || end > 97*time.Second || n < 18 {
			t.Errorf("%v: ended after %v and %d attempts with %v", down, end, n, err)
		}
		if len(told) != 2 || !strings.HasPrefix(told[0], "waiting since 0s: ") || told[1] != "back" {
			t.Errorf("%v: told %q", down, told)
		}
	}
}

func TestACallGivesUpWhenItsBudgetIsUsedUp(t *testing.T) {
	t.Parallel()
	_, end, told, err := attempts(t, repeatAlways, 2*time.Minute, func(time.Duration) error { return errRefused })
	if end < 2*time.Minute || end > 127*time.Second || len(told) != 2 || told[1] != "gave up" {
		t.Errorf("ended after %v, told %q", end, told)
	}
	err = translate("read the VM", "/DC/vm/web", err)
	if !errors.Is(err, ErrUnreachable) || !errors.Is(err, syscall.ECONNREFUSED) || !strings.Contains(err.Error(), "tried for 2m") {
		t.Errorf("error %v", err)
	}
	if n, _, told, err := attempts(t, repeatAlways, 0, func(time.Duration) error { return errRefused }); n != 1 || len(told) != 0 || strings.Contains(translate("", "", err).Error(), "tried") {
		t.Errorf("without a budget: %d attempts, told %q, %v", n, told, err)
	}
}

func TestACallThatChangesSomethingIsRepeatedOnlyWhenItCannotHaveArrived(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		err   error
		again bool
	}{
		"refused":                     {errRefused, true},
		"503":                         {&wireError{code: 503, sent: true}, false},
		"a page in place of it":       {&wireError{code: 200, alien: true, sent: true}, false},
		"a login that failed":         {&beforehand{translate("log in", "", errReset)}, true},
		"no answer, and never sent":   {&noAnswer{method: "ExportVm"}, true},
		"reset":                       {errReset, false},
		"502":                         {&wireError{code: 502, sent: true}, false},
		"504":                         {&wireError{code: 504, sent: true}, false},
		"500 without a fault":         {&wireError{code: 500, alien: true, sent: true}, false},
		"the answer's end is missing": {io.ErrUnexpectedEOF, false},
		"no answer":                   {&noAnswer{method: "ExportVm", sent: true}, false},
		"the caller gave up":          {&wireError{err: context.Canceled, sent: true}, false},
	} {
		n, _, _, err := attempts(t, repeatUnsent, 2*time.Minute, func(since time.Duration) error {
			if since < 8*time.Second {
				return tc.err
			}
			return nil
		})
		if tc.again && (err != nil || n < 2) || !tc.again && (n != 1 || !errors.Is(err, ErrUncertain)) {
			t.Errorf("%s: %d attempts, error %v", name, n, err)
		}
		if err := translate("open the export lease", "", err); !tc.again && (!errors.Is(err, ErrUncertain) || !strings.Contains(err.Error(), "may have taken effect")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestACallThatLocksIsRepeatedWhenAProxyAnswersInItsPlace(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		first, then error
		n           int
		uncertain   bool
	}{
		"it had not arrived": {&wireError{code: 503, sent: true}, nil, 2, false},
		"it had arrived":     {&wireError{code: 200, alien: true, sent: true}, soap.WrapVimFault(&types.TaskInProgress{}), 2, true},
		"it was cut":         {errReset, nil, 1, true},
		"it was refused":     {soap.WrapVimFault(&types.TaskInProgress{}), nil, 1, false},
	} {
		n, _, _, err := attempts(t, repeatDoubtful, 2*time.Minute, func(since time.Duration) error {
			if since == 0 {
				return tc.first
			}
			return tc.then
		})
		if n != tc.n || errors.Is(err, ErrUncertain) != tc.uncertain {
			t.Errorf("%s: %d attempts, error %v", name, n, err)
		}
	}
}

func TestAnAnswerIsNotAskedForAgain(t *testing.T) {
	t.Parallel()
	for _, answer := range []error{
		soap.WrapVimFault(&types.InvalidLogin{}), soap.WrapVimFault(&types.SystemError{}),
		&wireError{err: &CertificateError{Err: ErrThumbprint}}, &wireError{code: 403, sent: true}, errors.New("cannot be read"),
	} {
		for _, r := range []repeat{repeatAlways, repeatUnsent} {
			n, _, told, err := attempts(t, r, 2*time.Minute, func(time.Duration) error { return answer })
			if n != 1 || errors.Is(err, ErrUncertain) || len(told) != 0 {
				t.Errorf("%v: %d attempts, told %q, error %v", answer, n, told, err)
			}
		}
	}
	if n, _, told, err := attempts(t, repeatElsewhere, 2*time.Minute, func(time.Duration) error { return errReset }); n != 1 || err != errReset || len(told) != 0 { //nolint:errorlint // itself
		t.Errorf("a call whose caller repeats it: %d attempts, told %q, error %v", n, told, err)
	}
}

func TestABlipIsNotToldAndASlowAnswerIs(t *testing.T) {
	t.Parallel()
	n, _, told, err := attempts(t, repeatAlways, 2*time.Minute, func(since time.Duration) error {
		if since == 0 {
			return errReset
		}
		return nil
	})
	if n != 2 || err != nil || len(told) != 0 {
		t.Errorf("a blip: %d attempts, told %q, error %v", n, told, err)
	}
	_, _, told, err = attempts(t, repeatUnsent, 2*time.Minute, func(time.Duration) error {
		time.Sleep(30 * time.Second) // in virtual time
		return nil
	})
	if err != nil || len(told) != 2 || told[0] != "waiting since 0s: no answer to Anything yet" || told[1] != "back" {
		t.Errorf("a slow answer: told %q, error %v", told, err)
	}
}

func TestManyCallsThatWaitAreOneOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var told []string
		start := time.Now()
		p := persistence{
			kind: kind{repeat: repeatAlways}, budget: time.Minute, known: func() bool { return true }, outages: tellingOutages(&told, start),
		}
		done := make(chan error)
		for i := range 10 {
			go func() {
				done <- p.run(t.Context(), func() error {
					if time.Since(start) < time.Duration(10+i)*time.Second {
						return errRefused
					}
					return nil
				})
			}()
		}
		for range 10 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if len(told) != 2 || told[1] != "back" {
			t.Errorf("told %q", told)
		}
	})
}

func TestACallEndsWithItsContextInTheMiddleOfAnOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var told []string
		start := time.Now()
		p := persistence{kind: kind{repeat: repeatAlways}, budget: time.Hour, known: func() bool { return true }, outages: tellingOutages(&told, start)}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(20*time.Second, cancel)
		err := p.run(ctx, func() error { return errRefused })
		if !errors.Is(err, context.Canceled) || time.Since(start) != 20*time.Second || len(told) != 2 {
			t.Errorf("cancelled: after %v, told %q, error %v", time.Since(start), told, err)
		}
		limited, stop := context.WithTimeout(t.Context(), 20*time.Second)
		defer stop()
		if err := p.run(limited, func() error { return errRefused }); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("out of time: error %v, want what kept it waiting", err)
		}
	})
}

func TestNothingNewIsStartedForACallerWhoGaveUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var told []string
		start, sent := time.Now(), 0
		p := persistence{kind: kind{repeat: repeatUnsent}, budget: time.Hour, known: func() bool { return true }, outages: tellingOutages(&told, start)}
		parent, giveUp := context.WithCancel(t.Context())
		ctx, cancel := bounded(parent, time.Minute)
		defer cancel()
		time.AfterFunc(10*time.Second, giveUp)
		err := p.run(ctx, func() error {
			if sent++; time.Since(start) < 10*time.Second {
				return errRefused
			}
			return nil
		})
		if err == nil || errors.Is(err, ErrUncertain) || time.Since(start) != 10*time.Second {
			t.Errorf("after %v and %d attempts: %v", time.Since(start), sent, err)
		}
	})
}

func TestAnAnswerAfterALostOneIsMarked(t *testing.T) {
	t.Parallel()
	_, _, _, err := attempts(t, repeatAlways, time.Minute, func(since time.Duration) error {
		if since == 0 {
			return errReset
		}
		return soap.WrapVimFault(&types.ManagedObjectNotFound{})
	})
	if !errors.As(err, new(*repeated)) || !isFault(err, "ManagedObjectNotFound") {
		t.Errorf("error %v", err)
	}
}

func TestAWrongAddressIsNotWaitedForAtTheFirstCall(t *testing.T) {
	t.Parallel()
	for err, want := range map[error][2]outcome{
		&wireError{err: &net.DNSError{IsNotFound: true}}:   {answered, unsent},
		&wireError{err: &net.DNSError{IsTemporary: true}}:  {unsent, unsent},
		&wireError{code: 404, sent: true}:                  {answered, doubtful},
		&wireError{code: 302, sent: true}:                  {answered, doubtful},
		&wireError{code: 503, sent: true}:                  {doubtful, doubtful},
		&wireError{code: 405, sent: true}:                  {answered, answered},
		&wireError{err: errors.New("no TLS"), sent: false}: {unsent, unsent},
	} {
		if got := [2]outcome{outcomeOf(err, false), outcomeOf(err, true)}; got != want {
			t.Errorf("%v: %v, want %v", err, got, want)
		}
	}
}
