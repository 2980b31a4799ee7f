package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/client"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// password is the lab's, and must not be in any log.
const password = "correct-horse-battery-staple"

// home is what a daemon keeps between its lives: configuration, state, and the
// place its exports go to.
type home struct {
	t      testing.TB
	dir    string
	config string
	flags  []string
	env    []string

	configured bool // the configuration says where to listen
	shared     bool // the jobs are in a database beside it

	mu  sync.Mutex
	log strings.Builder // of all lives
}

// newHome makes a home for daemons that know lab as their vCenter "lab".
func newHome(t testing.TB, lab *vspheretest.Server, flags ...string) *home {
	t.Helper()
	return newHomeOf(t, map[string]*vspheretest.Server{"lab": lab}, flags...)
}

// newHomeOf makes a home for daemons that know several vCenters, by name.
func newHomeOf(t testing.TB, labs map[string]*vspheretest.Server, flags ...string) *home {
	t.Helper()
	at := make(map[string]*url.URL, len(labs))
	for name, lab := range labs {
		at[name] = lab.URL()
	}
	return newHomeAt(t, at, flags...)
}

// newHomeAt makes a home for daemons that know vCenters with these addresses, which have
// user and password in them.
func newHomeAt(t testing.TB, at map[string]*url.URL, flags ...string) *home {
	t.Helper()
	h := &home{t: t, dir: t.TempDir(), flags: flags, env: os.Environ()}
	config := "vcenters:\n"
	for name, full := range at {
		u := *full
		user := u.User.Username()
		secret, _ := u.User.Password()
		u.User = nil
		config += fmt.Sprintf("  %s:\n    url: %s\n    username: %s\n    password_file: %s\n    insecure: true\n    limits: {jobs: 64}\n",
			name, u.String(), user, h.write("password-"+name, secret+"\n"))
	}
	h.config = h.write("config.yaml", config)
	t.Cleanup(func() {
		log := h.said()
		if strings.Contains(log, password) {
			t.Error("the log holds the vCenter's password")
		}
		h.audited()
		if t.Failed() {
			t.Logf("the end of the daemon's log:\n%s", log[max(0, len(log)-12_000):])
		}
	})
	return h
}

func (h *home) write(name, text string) string {
	h.t.Helper()
	path := filepath.Join(h.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
	return path
}

// audited wants the audit log to be whole, however the daemons have ended.
func (h *home) audited() {
	h.t.Helper()
	state := filepath.Join(h.dir, "state")
	if _, err := os.Stat(filepath.Join(state, "jobs.db")); err != nil && !h.shared {
		return // there never was a daemon
	}
	out, err := exec.Command(program(h.t, "hyper2kvmd"), "audit", "verify", "-config", h.config, "-state-dir", state).CombinedOutput()
	if err != nil || bytes.Contains(out, []byte("notes")) {
		h.t.Errorf("%v: %s", err, out)
	}
}

// out is the output directory called name.
func (h *home) out(name string) string { return filepath.Join(h.dir, "out", name) }

// said is what every daemon of this home has logged.
func (h *home) said() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.log.String()
}

// process is one life of a daemon.
type process struct {
	*client.Client
	cmd     *exec.Cmd
	started time.Time
	ready   chan struct{} // closed when it listens
	exited  chan struct{} // closed when it is dead and reaped
	lines   chan line     // about jobs; closed before exited
	err     error         // of Wait, once exited is closed
	addr    string        // once ready is closed
	urls    []string      // as addr
}

// line is what a line of the daemon's log says.
type line struct {
	Msg, Addr, Job, Status, Error string
	URLs                          []string
	Failed                        bool
	at                            time.Time // when it was read
}

// launch starts a daemon and does not wait for anything.
func (h *home) launch() *process {
	h.t.Helper()
	args := append([]string{
		"-config", h.config, "-state-dir", filepath.Join(h.dir, "state"), "-log-format", "json",
	}, h.flags...)
	if !h.configured {
		args = append(args, "-addr", "127.0.0.1:0")
	}
	p := &process{
		cmd:    exec.Command(program(h.t, "hyper2kvmd"), args...),
		ready:  make(chan struct{}),
		exited: make(chan struct{}),
		lines:  make(chan line, 100_000),
	}
	p.cmd.Env = h.env
	logs, err := p.cmd.StderrPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	p.started = time.Now()
	if err := p.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	go p.follow(h, logs)
	h.t.Cleanup(p.kill)
	return p
}

// start starts a daemon and waits until it listens.
func (h *home) start() *process {
	h.t.Helper()
	p := h.launch()
	if !p.await() {
		h.t.Fatalf("the daemon ends at once: %v", p.err)
	}
	p.connect(h.t)
	return p
}

// follow reads the log to its end, and then reaps the daemon.
func (p *process) follow(h *home, logs io.Reader) {
	for s := bufio.NewScanner(logs); s.Scan(); {
		var l line
		h.mu.Lock()
		h.log.WriteString(s.Text() + "\n")
		h.mu.Unlock()
		if json.Unmarshal(s.Bytes(), &l) != nil {
			continue
		}
		l.at = time.Now()
		switch {
		case l.Msg == "hyper2kvmd is listening":
			p.addr, p.urls = l.Addr, l.URLs
			close(p.ready)
		case l.Job != "":
			p.lines <- l
		}
	}
	p.err = p.cmd.Wait()
	close(p.lines)
	close(p.exited)
}

// await waits until the daemon listens; it returns false when it died before.
func (p *process) await() bool {
	select {
	case <-p.ready:
		return true
	case <-p.exited:
		return false
	}
}

// connect makes the client of a daemon that listens.
func (p *process) connect(t testing.TB) {
	t.Helper()
	c, err := client.New("http://"+p.addr, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	p.Client = c
}

// pause is between two looks at what has no other way to tell: who is looked at needs the
// processor, too.
func pause() { <-time.After(20 * time.Millisecond) }

// kill ends the daemon as a crash does, and returns when it is dead.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may be dead already
	<-p.exited
}

// stop ends the daemon as systemd does.
func (p *process) stop(t testing.TB) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-p.exited
	if p.err != nil {
		t.Errorf("after SIGTERM the daemon ends with %v", p.err)
	}
}
