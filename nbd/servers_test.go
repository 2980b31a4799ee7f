package nbd_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/nbd"
	"github.com/hyper2kvm/hyper2kvm/transfer"
)

const (
	kib = 1 << 10
	mib = 1 << 20
)

// disk makes a sparse file of size bytes with random data in [from, to) of each area,
// and returns its path and content.
func disk(t testing.TB, size int64, areas ...[2]int64) (path string, content []byte) {
	t.Helper()
	content = make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(size)})
	path = filepath.Join(t.TempDir(), "disk.raw")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for _, a := range areas {
		_, _ = r.Read(content[a[0]:a[1]])
		if _, err := f.WriteAt(content[a[0]:a[1]], a[0]); err != nil {
			t.Fatal(err)
		}
	}
	return path, content
}

// holey is a disk of 8 MiB and 3 sectors, with two areas of data.
func holey(t testing.TB) (string, []byte) {
	return disk(t, 8*mib+3*512, [2]int64{0, 70 * kib}, [2]int64{5 * mib, 6*mib + 512})
}

// server runs an NBD server on a socket that is there before it, and starts it anew
// for the connection that comes after its death.
type server struct {
	t    testing.TB
	argv []string

	mu      sync.Mutex
	socket  string
	process *exec.Cmd
	dead    chan struct{}
	dials   atomic.Int32 // that were asked for
	live    int          // connections now
	most    int          // and the most at a time
}

func serve(t testing.TB, argv ...string) *server {
	s := &server{t: t, argv: argv}
	t.Cleanup(s.kill)
	return s
}

// nbdkit serves by nbdkit, in the foreground, read-only.
func nbdkit(t testing.TB, args ...string) *server {
	return serve(t, append([]string{"nbdkit", "-f", "-r"}, args...)...)
}

// qemuNBD serves a file by qemu-nbd, read-only.
func qemuNBD(t testing.TB, format, path string) *server {
	return serve(t, "qemu-nbd", "-r", "-t", "-f", format, "--shared=8", path)
}

// start runs the server. It is given the listening socket, as systemd does, so that a
// connection is never too early. s.mu is held.
func (s *server) start() error {
	dir, err := os.MkdirTemp("", "nbd") // a short path: that of a socket is bounded
	if err != nil {
		return err
	}
	s.t.Cleanup(func() { os.RemoveAll(dir) })
	s.socket = filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: s.socket, Net: "unix"})
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false)
	f, err := l.File()
	if err != nil {
		return err
	}
	s.process = exec.Command("sh", append([]string{"-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"`, "sh"}, s.argv...)...)
	s.process.ExtraFiles = []*os.File{f}
	err = errors.Join(s.process.Start(), f.Close(), l.Close())
	if err != nil {
		return err
	}
	s.dead = make(chan struct{})
	go func(p *exec.Cmd, dead chan struct{}) {
		_ = p.Wait() // how it ends is the test's own doing
		close(dead)
	}(s.process, s.dead)
	return nil
}

// kill ends the server at once, as a crash does.
func (s *server) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead == nil {
		return
	}
	_ = s.process.Process.Kill() // it may have ended
	<-s.dead
	s.dead = nil
}

// dial connects, and starts the server when it does not run.
func (s *server) dial(ctx context.Context) (net.Conn, error) {
	s.dials.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead == nil {
		if err := s.start(); err != nil {
			return nil, err
		}
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", s.socket)
	if err != nil {
		return nil, err
	}
	s.live++
	s.most = max(s.most, s.live)
	return &counted{Conn: conn, close: sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.live--
	})}, nil
}

// counted is a connection that says when it is closed.
type counted struct {
	net.Conn
	close func()
}

func (c *counted) Close() error {
	defer c.close()
	return c.Conn.Close()
}

// atOnce is how many connections there were at a time.
func (s *server) atOnce() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.most
}

func (s *server) options() nbd.Options {
	return nbd.Options{Name: s.argv[0], Dial: s.dial, Connections: 4}
}

// open returns a Reader of the server's export.
func (s *server) open() *nbd.Reader {
	r := nbd.NewReader(s.options())
	s.t.Cleanup(r.Close)
	return r
}

// all reads everything as an export does: by several workers, with retries.
func all(ctx context.Context, r *nbd.Reader) ([]byte, error) {
	info, err := r.Probe(ctx)
	if err != nil {
		return nil, err
	}
	in, err := transfer.NewReader(ctx, r, info, transfer.Options{
		Workers: 4, ChunkSize: 512 * kib, Budget: transfer.NewBudget(transfer.BudgetOptions{Retries: 50, Min: time.Millisecond, Max: 5 * time.Millisecond}),
	})
	if err != nil {
		return nil, err
	}
	defer in.Close()
	return io.ReadAll(in)
}

// identical checks that r gives content: as a whole, and at places that no block ends at.
func identical(t testing.TB, r *nbd.Reader, content []byte) {
	t.Helper()
	got, err := all(t.Context(), r)
	if err != nil || !bytes.Equal(got, content) {
		t.Fatalf("%d of %d bytes, %v", len(got), len(content), err)
	}
	for _, at := range [][2]int64{{0, 1}, {511, 2}, {70*kib - 1, 4097}, {int64(len(content)) - 1, 1}, {3, -1}} {
		body, err := r.Open(t.Context(), at[0], at[1])
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(body)
		body.Close()
		end := at[0] + at[1]
		if at[1] < 0 {
			end = int64(len(content))
		}
		if err != nil || !bytes.Equal(got, content[at[0]:end]) {
			t.Errorf("%d bytes at %d: %d bytes, %v", at[1], at[0], len(got), err)
		}
	}
}

func TestRealServersAreReadIdentical(t *testing.T) {
	t.Parallel()
	path, content := holey(t)
	qcow2 := filepath.Join(t.TempDir(), "disk.qcow2")
	if out, err := exec.Command("qemu-img", "convert", "-f", "raw", "-O", "qcow2", path, qcow2).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for name, c := range map[string]struct {
		s     *server
		areas bool // it tells them
		most  int  // connections at a time
	}{
		"nbdkit":                            {nbdkit(t, "file", path), true, 4},
		"nbdkit, one thread":                {nbdkit(t, "--filter=noparallel", "file", path), true, 4},
		"nbdkit, one connection":            {nbdkit(t, "--filter=multi-conn", "file", path, "multi-conn-mode=disable"), true, 1},
		"nbdkit, simple replies":            {nbdkit(t, "--no-sr", "file", path), false, 4},
		"nbdkit, no areas":                  {nbdkit(t, "--filter=noextents", "file", path), true, 4},
		"nbdkit, handshake with zeros":      {nbdkit(t, "--mask-handshake=1", "file", path), true, 4},
		"nbdkit, whole sectors":             {nbdkit(t, "--filter=blocksize-policy", "file", path, "blocksize-minimum=512", "blocksize-error-policy=error"), true, 4},
		"nbdkit, small reads":               {nbdkit(t, "--filter=blocksize-policy", "file", path, "blocksize-maximum=64K", "blocksize-error-policy=error"), true, 4},
		"nbdkit, slow":                      {nbdkit(t, "--filter=delay", "file", path, "delay-read=5ms"), true, 4},
		"nbdkit, in no hurry":               {nbdkit(t, "--filter=rate", "file", path, "rate=1G"), true, 4},
		"qemu-nbd, raw":                     {qemuNBD(t, "raw", path), true, 4},
		"qemu-nbd, qcow2":                   {qemuNBD(t, "qcow2", qcow2), true, 4},
		"nbdkit, reads that fail sometimes": {nbdkit(t, "--filter=error", "file", path, "error-pread-rate=0.3"), true, 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := c.s.open()
			if strings.Contains(name, "sometimes") {
				if got, err := all(t.Context(), r); err != nil || !bytes.Equal(got, content) {
					t.Fatalf("%d bytes, %v", len(got), err)
				}
			} else {
				identical(t, r, content)
			}
			areas, err := r.Allocated(t.Context())
			if (err == nil) != c.areas || !c.areas && !errors.Is(err, nbd.ErrNoAllocation) {
				t.Fatalf("areas: %v", err)
			}
			holds(t, areas, content, c.areas)
			if n := c.s.atOnce(); n > c.most || n < 1 {
				t.Errorf("%d connections at a time, want up to %d", n, c.most)
			}
		})
	}
}

// holds checks that what areas leave out is zeros.
func holds(t *testing.T, areas []transfer.Area, content []byte, told bool) {
	t.Helper()
	rest := bytes.Clone(content)
	for _, a := range areas {
		clear(rest[a.Offset : a.Offset+a.Length])
	}
	if told && bytes.Count(rest, []byte{0}) != len(rest) {
		t.Errorf("areas %v leave out data", areas)
	}
}

func TestHolesAreNotAmongTheAreas(t *testing.T) {
	t.Parallel()
	path, _ := holey(t)
	for _, s := range []*server{nbdkit(t, "file", path), qemuNBD(t, "raw", path)} {
		areas, err := s.open().Allocated(t.Context())
		total := int64(0)
		for _, a := range areas {
			total += a.Length
		}
		if err != nil || total > 2*mib || len(areas) != 2 {
			t.Errorf("%s: %v, %v", s.argv[0], areas, err)
		}
	}
}

func TestAReadThatFailsIsTheServersErrorAndLeavesTheConnectionUsable(t *testing.T) {
	t.Parallel()
	path, content := holey(t)
	trigger := filepath.Join(t.TempDir(), "fail")
	if err := os.WriteFile(trigger, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := nbdkit(t, "--filter=error", "file", path, "error-pread=EIO", "error-pread-rate=100%", "error-pread-file="+trigger)
	o := s.options()
	o.Connections = 1
	r := nbd.NewReader(o)
	defer r.Close()
	body, err := r.Open(t.Context(), 0, 4096)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.ReadAll(body)
	body.Close()
	if !errors.Is(err, nbd.ErrRead) || !strings.Contains(err.Error(), "EIO") || !transfer.Temporary(err) {
		t.Errorf("error %v", err)
	}
	if err := os.Remove(trigger); err != nil {
		t.Fatal(err)
	}
	identical(t, r, content)
	if n := s.dials.Load(); n != 1 {
		t.Errorf("%d connections were made", n)
	}
}

func TestAServerThatDiesInMidDiskIsReadOnFromItsSuccessor(t *testing.T) {
	t.Parallel()
	path, content := disk(t, 8*mib, [2]int64{0, 8 * mib})
	for name, s := range map[string]*server{
		"nbdkit": nbdkit(t, "--filter=delay", "file", path, "delay-read=2ms"), "qemu-nbd": qemuNBD(t, "raw", path),
	} {
		r := s.open()
		info, err := r.Probe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		in, err := transfer.NewReader(t.Context(), r, info, transfer.Options{
			Workers: 2, ChunkSize: 256 * kib, Window: mib, Budget: transfer.NewBudget(transfer.BudgetOptions{Min: time.Millisecond}),
		})
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		for _, part := range []int64{mib, 3 * mib} {
			if _, err := io.CopyN(&got, in, part); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			s.kill()
		}
		_, err = io.Copy(&got, in)
		in.Close()
		if err != nil || !bytes.Equal(got.Bytes(), content) {
			t.Errorf("%s: %d bytes, %v", name, got.Len(), err)
		}
	}
}

func TestASilentServerIsAStall(t *testing.T) {
	t.Parallel()
	path, _ := holey(t)
	o := nbdkit(t, "--filter=delay", "file", path, "delay-read=3600").options()
	o.Stall = 50 * time.Millisecond
	r := nbd.NewReader(o)
	defer r.Close()
	body, err := r.Open(t.Context(), 0, 4096)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if _, err := body.Read(make([]byte, 1)); !errors.Is(err, nbd.ErrStalled) || !transfer.Temporary(err) {
		t.Errorf("error %v", err)
	}
}

func TestTheEndOfTheContextEndsARead(t *testing.T) {
	t.Parallel()
	path, _ := holey(t)
	r := nbdkit(t, "--filter=delay", "file", path, "delay-read=3600").open()
	ctx, cancel := context.WithCancel(t.Context())
	body, err := r.Open(ctx, 0, 4096)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	cancel()
	if _, err := body.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestWhatCannotBeReadSaysWhy(t *testing.T) {
	t.Parallel()
	path, _ := holey(t)
	for name, c := range map[string]struct {
		s    *server
		want error
	}{
		"the old form":   {nbdkit(t, "-o", "file", path), nbd.ErrUnsupported},
		"no such file":   {nbdkit(t, "sh", "/nonexistent/script"), nil},
		"no such export": {serve(t, "qemu-nbd", "-r", "-t", "-f", "raw", "-x", "another", path), nbd.ErrNoExport},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := c.s.open().Probe(t.Context())
			if err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
		})
	}
	r := nbd.NewReader(nbd.Options{Name: "nobody", Dial: func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(t.TempDir(), "none"))
	}})
	defer r.Close()
	if _, err := r.Probe(t.Context()); !errors.Is(err, nbd.ErrUnreachable) {
		t.Errorf("error %v", err)
	}
}

func TestNamedExportsAreReadByTheirName(t *testing.T) {
	t.Parallel()
	path, content := holey(t)
	o := serve(t, "qemu-nbd", "-r", "-t", "-f", "raw", "-x", "the disk", path).options()
	o.Export = "the disk"
	r := nbd.NewReader(o)
	defer r.Close()
	identical(t, r, content)
}

func TestAReaderThatIsClosedEndsItsBodies(t *testing.T) {
	t.Parallel()
	path, _ := holey(t)
	r := nbdkit(t, "--filter=delay", "file", path, "delay-read=3600").open()
	body, err := r.Open(t.Context(), 0, 4096)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	ended := make(chan error, 1)
	go func() {
		_, err := body.Read(make([]byte, 1))
		ended <- err
	}()
	r.Close()
	if err := <-ended; err == nil {
		t.Error("bytes came")
	}
	if _, err := r.Open(t.Context(), 0, 1); err == nil {
		t.Error("it can be opened again")
	}
}
