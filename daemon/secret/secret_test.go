package secret_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/hyper2kvm/hyper2kvm/daemon/secret"
	"github.com/hyper2kvm/hyper2kvm/internal/process/processtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// script writes a program in sh and returns its path.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "get-password")
	processtest.Script(t, path, text)
	return path
}

// reader is a Reader, and what it has logged.
func reader(hidden ...string) (*secret.Reader, *bytes.Buffer) {
	var log bytes.Buffer
	return secret.NewReader(secret.Options{
		Getenv: func(name string) string { return map[string]string{"VC_PASSWORD": "from the variable"}[name] },
		Log:    slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})), Hidden: hidden,
	}), &log
}

func TestASecretIsReadFromWhereverItIs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "pw")
	if err := os.WriteFile(file, []byte("\xef\xbb\xbf from a file \r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, _ := reader()
	inUnit := secret.NewReader(secret.Options{Getenv: func(string) string { return dir }})
	for _, test := range []struct {
		r    *secret.Reader
		s    secret.Source
		want string
	}{
		{r, secret.Source{File: file}, " from a file "},
		{inUnit, secret.Source{Credential: "pw"}, " from a file "},
		{r, secret.Source{Env: "VC_PASSWORD"}, "from the variable"},
		{r, secret.Source{Command: []string{script(t, `printf '%s\n' "from $1 and $2"`), "a b", "$(c)"}}, "from a b and $(c)"},
	} {
		if got, err := test.r.Read(t.Context(), test.s); err != nil || got != test.want {
			t.Errorf("%+v: %q, %v; want %q", test.s, got, err, test.want)
		}
	}
	if err := os.WriteFile(file, []byte("rotated"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := r.Read(t.Context(), secret.Source{File: file}); err != nil || got != "rotated" {
		t.Errorf("a rotated file: %q, %v", got, err)
	}
}

func TestASecretThatCannotBeHadIsAnErrorThatNamesThePlaceAndNoText(t *testing.T) {
	t.Parallel()
	r, log := reader()
	path := filepath.Join(t.TempDir(), "pw")
	if err := os.WriteFile(path, bytes.Repeat([]byte("hunter2"), 20_000), 0o600); err != nil {
		t.Fatal(err)
	}
	failing := script(t, "echo hunter2; echo 'denied: hunter2 \033[31m' >&2; exit 3")
	for _, test := range []struct {
		s    secret.Source
		want string
	}{
		{secret.Source{File: filepath.Join(t.TempDir(), "gone")}, "gone: no such file"},
		{secret.Source{File: path}, path + " is longer than"},
		{secret.Source{Credential: "pw"}, "LoadCredential=pw"},
		{secret.Source{Env: "NOT_SET"}, "the variable NOT_SET is not set or is empty"},
		{secret.Source{Command: []string{"/no/such/program", "hunter2"}}, "the command program failed: no such file"},
		{secret.Source{Command: []string{script(t, "exit 0")}}, "what the command get-password printed is empty"},
		{secret.Source{Command: []string{failing, "hunter2"}}, "the command get-password failed: exit status 3"},
		{secret.Source{Command: []string{script(t, "yes hunter2")}}, "printed more than a secret can be"},
		{secret.Source{Command: []string{script(t, `printf 'a\0b'`)}}, "NUL"},
	} {
		got, err := r.Read(t.Context(), test.s)
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "hunter2") || got != "" {
			t.Errorf("%+v: %q, %v; want an error with %q", test.s, got, err, test.want)
		}
	}
	if said := log.String(); !strings.Contains(said, "denied: (hidden)") || strings.Contains(said, "hunter2") || strings.Contains(said, "\033") {
		t.Errorf("the log says %s", said)
	}
}

func TestACommandIsAskedOnceForAllAndAgainWhenItsAnswerIsOldOrRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := secret.Source{Command: []string{script(t, `echo x >>"$1/asked"; wc -l <"$1/asked"`), dir}, TTL: time.Hour}
	r, _ := reader()
	read := func(want string) {
		t.Helper()
		got, err := r.Read(t.Context(), s)
		if got = strings.TrimSpace(got); err != nil || got != want {
			t.Errorf("Read = %q, %v; want %q", got, err, want)
		}
	}
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() { read("1") })
	}
	group.Wait()
	r.Refused(s)
	read("1") // not at once: a login that is refused again and again must not run it again and again
	other := s
	other.Command = append(other.Command[:len(other.Command):len(other.Command)], "another argument")
	if got, err := r.Read(t.Context(), other); err != nil || strings.TrimSpace(got) != "2" {
		t.Errorf("another command: %q, %v", got, err)
	}
}

func TestHowLongAnAnswerIsGood(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		answers := 0
		r := secret.NewReader(secret.Options{})
		r.SetRun(func(context.Context, []string) (string, error) {
			answers++
			if answers == 3 {
				return "", fmt.Errorf("the vault is sealed")
			}
			return fmt.Sprint(answers), nil
		})
		s := secret.Source{Command: []string{"/bin/vault"}, TTL: 10 * time.Minute}
		read := func(want string) {
			t.Helper()
			got, err := r.Read(t.Context(), s)
			if err != nil {
				got = err.Error()
			}
			if got != want {
				t.Errorf("Read = %q, want %q", got, want)
			}
		}
		read("1")
		time.Sleep(9 * time.Minute)
		read("1")
		time.Sleep(time.Minute)
		read("2")
		r.Refused(s)
		time.Sleep(29 * time.Second)
		read("2")
		time.Sleep(time.Second)
		read("the vault is sealed")
		read("the vault is sealed")
		time.Sleep(30 * time.Second)
		read("4")
	})
}

func TestACommandThatHangsIsEndedWithWhatItStarted(t *testing.T) {
	t.Parallel()
	fifo := filepath.Join(t.TempDir(), "started")
	r, _ := reader()
	ctx, cancel := context.WithCancelCause(t.Context())
	s := secret.Source{Command: []string{script(t, `sleep 1000 & echo $! >"$1.tmp"; mv "$1.tmp" "$1"; wait`), fifo}}
	ended := make(chan error, 1)
	go func() {
		_, err := r.Read(ctx, s)
		ended <- err
	}()
	var pid string
	for pid == "" { // the script says so in a file: there is nothing else to wait for
		b, _ := os.ReadFile(fifo)
		pid = strings.TrimSpace(string(b))
		if pid == "" {
			select {
			case err := <-ended:
				t.Fatalf("it ended by itself: %v", err)
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
	cancel(fmt.Errorf("the daemon has waited long enough"))
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "waited long enough") {
		t.Errorf("Read = %v", err)
	}
	if !ends(t, pid) {
		t.Error("what it had started still runs")
	}
	if got, err := r.Read(t.Context(), secret.Source{Command: []string{script(t, "echo fine")}}); err != nil || got != "fine" {
		t.Errorf("another command: %q, %v", got, err)
	}
}

// ends waits for the end of a process that has been killed, and is another's child. A
// minute later it is known that nobody has killed it.
func ends(t *testing.T, pid string) bool {
	t.Helper()
	n, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(n, 0)
	if errors.Is(err, unix.ESRCH) {
		return true
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for {
		ready, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 60_000)
		if err == nil {
			return ready == 1
		}
		if !errors.Is(err, unix.EINTR) {
			t.Fatal(err)
		}
	}
}

func TestACommandGetsNoSecretOfTheDaemon(t *testing.T) {
	t.Setenv("GOVC_PASSWORD", "hunter2")
	t.Setenv("OTHER_VC_PASSWORD", "hunter2")
	t.Setenv("NOTIFY_SOCKET", "/run/x")
	t.Setenv("VAULT_ADDR", "https://vault.example.com")
	r, _ := reader("OTHER_VC_PASSWORD")
	got, err := r.Read(t.Context(), secret.Source{Command: []string{script(t, "env")}})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(got, "hunter2") || strings.Contains(got, "NOTIFY_SOCKET") || !strings.Contains(got, "VAULT_ADDR=https://vault.example.com") {
		t.Errorf("it gets %s", got)
	}
}
