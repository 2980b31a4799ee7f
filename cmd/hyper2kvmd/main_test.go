package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"hyper2kvmd": main})
}

// TestScripts runs the real program. A script's daemon tells through
// NOTIFY_SOCKET, as it tells systemd, when it is ready.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			// The path of a unix socket must be short.
			dir, err := os.MkdirTemp("", "h2kvmd")
			if err != nil {
				return err
			}
			socket := filepath.Join(dir, "notify")
			c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
			if err != nil {
				return err
			}
			e.Defer(func() {
				_ = c.Close()
				_ = os.RemoveAll(dir)
			})
			e.Values["notify"] = c
			e.Setenv("NOTIFY_SOCKET", socket)
			e.Setenv("SHORT", dir)
			e.Setenv("PORT", freePort(t))
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("GORACE", "atexit_sleep_ms=0") // a program that ends need not wait for reports
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"notified": notified,
			"answers":  answers,
			"submits":  submits,
			"gets":     gets,
			"answered": answered,
			"end":      end,
			"vanishes": vanishes,
			"postgres": startPostgres,
			"exit1":    exits(1),
			"exit2":    exits(2),
			"serial":   serial,
		},
	})
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
}

// notified waits until the daemon has told systemd the message given.
func notified(ts *testscript.TestScript, _ bool, args []string) {
	c := ts.Value("notify").(*net.UnixConn)
	ts.Check(c.SetReadDeadline(time.Now().Add(time.Minute))) // a daemon that failed says nothing
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		ts.Check(err)
		if strings.Contains(string(buf[:n]), args[0]) {
			return
		}
	}
}

// answers wants the daemon to answer with this HTTP status when its health is
// asked for under this name.
func answers(ts *testscript.TestScript, _ bool, args []string) {
	ask(ts, http.MethodGet, "/health", "", args[1], args[0])
}

// submits wants the daemon to answer with this HTTP status to a job for a vCenter
// that cannot be reached.
func submits(ts *testscript.TestScript, _ bool, args []string) {
	ask(ts, http.MethodPost, "/jobs/submit", `{"vm_path":"/dc/vm/a","output_path":"`+ts.Getenv("WORK")+`/state/vms/nowhere","options":{"retries":20},
		"vcenter_url":"https://localhost:1/sdk","username":"u","password":"p"}`, "localhost", args[0])
}

// gets wants the daemon to answer a GET with this HTTP status.
func gets(ts *testscript.TestScript, _ bool, args []string) {
	ask(ts, http.MethodGet, args[1], "", "localhost", args[0])
}

// ask makes a request of the daemon under the name host, with the token in the file
// $TOKEN_FILE if the script has set that.
func ask(ts *testscript.TestScript, method, path, body, host, want string) {
	req, err := http.NewRequest(method, "http://localhost:"+ts.Getenv("PORT")+path, strings.NewReader(body))
	ts.Check(err)
	req.Host = host
	req.Close = true
	req.Header.Set("Content-Type", "application/json")
	if file := ts.Getenv("TOKEN_FILE"); file != "" {
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(ts.ReadFile(file)))
	}
	resp, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	ts.Check(err)
	ts.Setenv("ANSWER", string(text))
	if strconv.Itoa(resp.StatusCode) != want {
		ts.Fatalf("%s %s of %s: HTTP %d, want %s: %s", method, path, host, resp.StatusCode, want, text)
	}
}

// answered wants the last answer's body to match.
func answered(ts *testscript.TestScript, _ bool, args []string) {
	if text := ts.Getenv("ANSWER"); !regexp.MustCompile(args[0]).MatchString(text) {
		ts.Fatalf("%q is not in %s", args[0], text)
	}
}

// serial sets a variable to the serial number of the certificate that the daemon has
// for a new client, who believes in tls/ca.crt.
func serial(ts *testscript.TestScript, _ bool, args []string) {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(ts.ReadFile("tls/ca.crt")))
	c, err := tls.Dial("tcp", "localhost:"+ts.Getenv("PORT"), &tls.Config{RootCAs: roots})
	ts.Check(err)
	defer c.Close()
	ts.Setenv(args[0], c.ConnectionState().PeerCertificates[0].SerialNumber.String())
}

// vanishes waits until a file is gone.
func vanishes(ts *testscript.TestScript, _ bool, args []string) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 3000 {
		if _, err := os.Stat(args[0]); errors.Is(err, fs.ErrNotExist) {
			return
		}
		<-tick.C
	}
	ts.Fatalf("%s is still there after a minute", args[0])
}

// end sends a signal to the daemon that was started last.
func end(ts *testscript.TestScript, _ bool, args []string) {
	daemons := ts.BackgroundCmds()
	sig := map[string]os.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "KILL": syscall.SIGKILL, "HUP": syscall.SIGHUP}[args[0]]
	ts.Check(daemons[len(daemons)-1].Process.Signal(sig))
}

// exits is a script's command that wants a program to end with this exit code.
func exits(code int) func(ts *testscript.TestScript, neg bool, args []string) {
	return func(ts *testscript.TestScript, _ bool, args []string) {
		var exit *exec.ExitError
		err := ts.Exec(args[0], args[1:]...)
		if !errors.As(err, &exit) || exit.ExitCode() != code {
			ts.Fatalf("%v, want exit code %d", err, code)
		}
	}
}
