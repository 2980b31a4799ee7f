// Package secret reads passwords from where they are kept: a file, a systemd
// credential, a variable of the environment, or a command that prints them.
//
// A file, a credential and a variable are read at each use, so that a rotated
// password is picked up without a restart. A command is asked once for as many uses
// as its answer is good for: see [Reader.Read] and [Reader.Refused].
//
// No error holds a secret, nor what a command printed or was called with.
package secret

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Source says where a secret is: one of its fields does.
type Source struct {
	File       string   // absolute path
	Credential string   // name of a systemd credential
	Env        string   // name of a variable of the daemon's environment
	Command    []string // program and arguments, without a shell; it prints the secret

	TTL time.Duration // how long a command's answer is good for, 0 means DefaultTTL
}

// Set is how many of the fields say where the secret is.
func (s Source) Set() int {
	n := 0
	for _, set := range []bool{s.File != "", s.Credential != "", s.Env != "", len(s.Command) > 0} {
		if set {
			n++
		}
	}
	return n
}

// DefaultTTL is how long a command's answer is good for.
const DefaultTTL = 15 * time.Minute

// What a command is given.
const (
	commandTimeout = 30 * time.Second
	maxSecret      = 64 << 10 // bytes, also of a file
	maxComplaint   = 4 << 10  // bytes of stderr that are logged

	// askAgain is how soon a command is run again whose answer was refused, or
	// which failed.
	askAgain = 30 * time.Second
)

// Reader reads secrets. Its methods may be called from any goroutine.
type Reader struct {
	getenv func(string) string
	log    *slog.Logger

	hidden func(name string) bool // variables that commands do not get
	run    func(ctx context.Context, argv []string) (string, error)

	mu      sync.Mutex
	answers map[string]*answer // of commands
}

// answer is what a command said last.
type answer struct {
	mu      sync.Mutex // held while the command runs, so that it runs once for all who wait
	secret  string
	err     error
	at      time.Time // when it was given; zero when there is none
	refused bool      // the service does not accept it
}

// Options of a [Reader]. The zero value works.
type Options struct {
	Getenv func(string) string // nil is os.Getenv
	Log    *slog.Logger        // gets what commands complain of; nil discards

	// Hidden are variables of the environment that commands do not get, beside
	// those of govc and systemd: those that hold secrets.
	Hidden []string
}

// NewReader returns a Reader.
func NewReader(o Options) *Reader {
	r := &Reader{getenv: o.Getenv, log: o.Log, answers: make(map[string]*answer)}
	if r.getenv == nil {
		r.getenv = os.Getenv
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	hidden := make(map[string]bool)
	for _, name := range o.Hidden {
		hidden[name] = true
	}
	r.hidden = func(name string) bool { return hidden[name] || ours(name) }
	r.run = r.runProgram
	return r
}

// ours reports whether a variable is meant for this process alone.
func ours(name string) bool {
	for _, prefix := range []string{"GOVC_", "HYPER2KVM_", "LISTEN_"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	switch name {
	case "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "CREDENTIALS_DIRECTORY", "JOURNAL_STREAM":
		return true
	}
	return false
}

// Read returns the secret. A byte order mark at its begin and line ends at its end
// are dropped; an empty one is an error.
//
// A command is run when its last answer is older than its TTL or was refused, and
// not more often than every half minute, also when it fails: what it said last is
// returned meanwhile.
func (r *Reader) Read(ctx context.Context, s Source) (string, error) {
	switch {
	case s.Env != "":
		return clean([]byte(r.getenv(s.Env)), "the variable "+s.Env+" is not set or")
	case len(s.Command) > 0:
		return r.ask(ctx, s)
	}
	path, err := Path(s.File, s.Credential, r.getenv("CREDENTIALS_DIRECTORY"))
	if err != nil {
		return "", err
	}
	return readFile(path)
}

// Refused says that the service does not accept the secret that was read last, so
// that a command is asked anew.
func (r *Reader) Refused(s Source) {
	if len(s.Command) == 0 {
		return
	}
	a := r.answer(s)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refused = true
}

func (r *Reader) answer(s Source) *answer {
	key := strings.Join(s.Command, "\x00")
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.answers[key]
	if a == nil {
		a = new(answer)
		r.answers[key] = a
	}
	return a
}

// ask returns what the command says, now or a while ago.
func (r *Reader) ask(ctx context.Context, s Source) (string, error) {
	a := r.answer(s)
	a.mu.Lock()
	defer a.mu.Unlock()
	good := s.TTL
	if good <= 0 {
		good = DefaultTTL
	}
	if a.refused || a.err != nil {
		good = min(good, askAgain)
	}
	if !a.at.IsZero() && time.Since(a.at) < good {
		return a.secret, a.err
	}
	secret, err := r.run(ctx, s.Command)
	if ctx.Err() != nil {
		return "", context.Cause(ctx) // which says nothing of the command
	}
	a.secret, a.err, a.at, a.refused = secret, err, time.Now(), false
	return secret, err
}

// Path returns where a secret is: in file or, with file empty, in the systemd
// credential of that name, which is a file in credentialsDir. It is "" when
// neither is given, and an error when there is no credentialsDir for a credential.
func Path(file, credential, credentialsDir string) (string, error) {
	switch {
	case file != "" || credential == "":
		return file, nil
	case credentialsDir == "":
		return "", fmt.Errorf("CREDENTIALS_DIRECTORY is not set; is LoadCredential=%s: in the unit, and the daemon started by systemd?", credential)
	}
	return filepath.Join(credentialsDir, credential), nil
}

func readFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close() // only read
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return "", err
	}
	if len(b) > maxSecret {
		return "", fmt.Errorf("%s is longer than %d bytes", path, maxSecret)
	}
	return clean(b, path)
}

var bom = []byte("\xef\xbb\xbf")

// clean returns the secret that b holds. what is for errors.
func clean(b []byte, what string) (string, error) {
	b = bytes.TrimRight(bytes.TrimPrefix(b, bom), "\r\n")
	if len(b) == 0 {
		return "", fmt.Errorf("%s is empty", what)
	}
	if bytes.ContainsRune(b, 0) {
		return "", errors.New(what + " holds a NUL byte, which no password does")
	}
	return string(b), nil
}
