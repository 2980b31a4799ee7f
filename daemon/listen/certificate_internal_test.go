package listen

import (
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/pki"
)

// looking is a daemon's certificate with a clock of the test's own.
type looking struct {
	*certificates
	pki.Dir
	t     *testing.T
	clock time.Time
	log   strings.Builder
}

func newLooking(t *testing.T) *looking {
	t.Helper()
	l := &looking{t: t, clock: time.Now(), Dir: pki.Dir{Path: t.TempDir(), Now: time.Now()}}
	if _, err := l.Init("test", []string{"localhost"}); err != nil {
		t.Fatal(err)
	}
	var err error
	l.certificates, err = newCertificates(Files{Cert: l.File("server.crt"), Key: l.File("server.key")}, slog.New(slog.NewTextHandler(&l.log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	l.now = func() time.Time { return l.clock }
	return l
}

// serial is the number of the certificate that a client gets after a time.
func (l *looking) serial(after time.Duration) string {
	l.t.Helper()
	l.clock = l.clock.Add(after)
	return l.current().Certificates[0].Leaf.SerialNumber.String()
}

func TestAClientThatComesMakesTheDaemonLookAtItsFiles(t *testing.T) {
	t.Parallel()
	l := newLooking(t)
	first := l.serial(time.Hour)
	if err := l.Renew(nil); err != nil {
		t.Fatal(err)
	}
	if l.serial(lookAgain/2) != first {
		t.Error("the files are read for every client")
	}
	second := l.serial(lookAgain)
	if second == first {
		t.Error("the renewed certificate is not taken")
	}
	if !strings.Contains(l.log.String(), "a changed certificate is in use") {
		t.Errorf("log: %s", &l.log)
	}

	// What cannot be used is said once, and tried again until it can.
	key, err := os.ReadFile(l.File("server.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(l.File("server.key"), []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if l.serial(lookAgain) != second {
			t.Error("the certificate has changed")
		}
	}
	if n := strings.Count(l.log.String(), "cannot be used"); n != 1 {
		t.Errorf("said %d times: %s", n, &l.log)
	}
	if l.state().Trouble == nil {
		t.Error("nothing is wrong")
	}
	if err := os.WriteFile(l.File("server.key"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	if l.serial(lookAgain) != second || l.state().Trouble != nil {
		t.Errorf("it is not well again: %v", l.state())
	}
}

func TestFilesThatWereNoGoodAreTriedAgainThoughTheyLookTheSame(t *testing.T) {
	t.Parallel()
	l := newLooking(t)
	key := l.File("server.key")
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := l.reload(); err == nil {
		t.Error("a key for everybody is taken")
	}
	if err := os.Chmod(key, 0o600); err != nil { // neither time nor size change
		t.Fatal(err)
	}
	l.serial(lookAgain)
	if err := l.state().Trouble; err != nil {
		t.Error(err)
	}
}

func TestAClockThatWasSetBackDoesNotStopTheLooking(t *testing.T) {
	t.Parallel()
	l := newLooking(t)
	first := l.serial(48 * time.Hour)
	if err := l.Renew(nil); err != nil {
		t.Fatal(err)
	}
	if l.serial(-47*time.Hour) == first {
		t.Error("the renewed certificate is not taken")
	}
}

func TestTheEndOfACertificateIsWarnedOfOnceADay(t *testing.T) {
	t.Parallel()
	l := newLooking(t)
	l.serial(810 * 24 * time.Hour)
	for range 20 {
		l.serial(time.Hour)
	}
	if n := strings.Count(l.log.String(), "must be renewed"); n != 1 {
		t.Errorf("said %d times in 20 hours: %s", n, &l.log)
	}
	l.serial(5 * time.Hour)
	if n := strings.Count(l.log.String(), "must be renewed"); n != 2 {
		t.Errorf("said %d times in 25 hours: %s", n, &l.log)
	}
}
