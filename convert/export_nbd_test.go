package convert_test

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/convert"
	"github.com/hyper2kvm/hyper2kvm/disk/disktest"
	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/job"
	"github.com/hyper2kvm/hyper2kvm/migrate"
	"github.com/hyper2kvm/hyper2kvm/nbd"
	"github.com/hyper2kvm/hyper2kvm/progress"
)

// serve serves by qemu-nbd or nbdkit until the test ends. The server is given the
// listening socket, as systemd does, so that a connection is never too early.
func serve(t *testing.T, argv ...string) (socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "nbd") // a short path: that of a socket is bounded
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket = filepath.Join(dir, "s.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", append([]string{"-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"`, "sh"}, argv...)...)
	cmd.ExtraFiles = []*os.File{f}
	if err := errors.Join(cmd.Start(), f.Close(), l.Close()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	return socket
}

// cutOnce is a socket that leads to another one. Its first connection is cut after so
// many bytes of the server.
func cutOnce(t *testing.T, to string, after int64) (socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "nbd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket = filepath.Join(dir, "s.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		running.Wait()
	})
	running.Go(func() {
		for limit := after; ; limit = math.MaxInt64 {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("unix", to)
			if err != nil {
				t.Error(err)
				_ = client.Close()
				return
			}
			running.Go(func() {
				_, _ = io.Copy(server, client)
				_ = server.Close()
			})
			running.Go(func() {
				_, _ = io.CopyN(client, server, limit)
				_ = client.Close()
			})
		}
	})
	return socket
}

// fetch converts an export into dir.
func fetch(ctx context.Context, uri, dir string, format job.Format, overwrite bool) (job.Result, error) {
	return convert.Run(ctx, convert.Options{Source: uri, Output: dir, Format: format, Overwrite: overwrite}, progress.New())
}

func TestADiskOfAnNBDServerLandsIdentical(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	raw, vhdx := filepath.Join(dir, "right.raw"), filepath.Join(dir, "right.vhdx")
	disktest.WriteRaw(t, raw, disktest.Content(31, 9<<20, 3))
	disktest.QemuImg(t, "convert", "-f", "raw", "-O", "vhdx", raw, vhdx)
	for name, c := range map[string]struct {
		uri    string
		format job.Format
		file   string
	}{
		"qemu-nbd, vhdx": {"nbd+unix:///?socket=" + serve(t, "qemu-nbd", "-r", "-t", "-f", "vhdx", vhdx), job.FormatQcow2, "s"},
		"a named export": {"nbd+unix:///erp.img?socket=" + serve(t, "qemu-nbd", "-r", "-t", "-f", "raw", "-x", "erp.img", raw), job.FormatRaw, "erp"},
		"no areas":       {"nbd+unix:///?socket=" + serve(t, "nbdkit", "-f", "-r", "--filter=noextents", "file", raw), job.FormatQcow2, "s"},
		"a cut":          {"nbd+unix:///?socket=" + cutOnce(t, serve(t, "qemu-nbd", "-r", "-t", "-f", "raw", "--shared=4", raw), 1<<20), job.FormatRaw, "s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := filepath.Join(t.TempDir(), "out")
			result, err := fetch(t.Context(), c.uri, out, c.format, false)
			if err != nil {
				t.Fatal(err)
			}
			if want := filepath.Join(out, c.file+"-disk-0."+string(c.format)); len(result.Disks) != 1 || result.Disks[0].File != want {
				t.Fatalf("landed %+v, want %s", result.Disks, want)
			}
			if d := result.Disks[0]; d.Transport != job.FromNBD || d.Verified != job.BySize {
				t.Errorf("transport %s, verified %s", d.Transport, d.Verified)
			} else if cut := name == "a cut"; d.Transferred == 0 || d.Transferred > 2*d.Capacity || cut != (d.Retries > 0) {
				t.Errorf("%d bytes of %d received, %d retries", d.Transferred, d.Capacity, d.Retries)
			}
			disktest.Judge(t, string(c.format), result.Disks[0].File, raw)
			again, err := fetch(t.Context(), c.uri, out, c.format, false)
			if err != nil || !again.Earlier {
				t.Errorf("the same again: earlier %v, error %v", again.Earlier, err)
			}
			if again, err = fetch(t.Context(), c.uri, out, c.format, true); err != nil || again.Earlier {
				t.Errorf("with overwrite: earlier %v, error %v", again.Earlier, err)
			}
		})
	}
}

func TestAnNBDServerThatCannotReadIsTheErrorAndNothingLands(t *testing.T) {
	t.Parallel()
	raw := filepath.Join(t.TempDir(), "right.raw")
	disktest.WriteRaw(t, raw, disktest.Content(32, 4<<20, 1))
	uri := "nbd+unix:///?socket=" + serve(t, "nbdkit", "-f", "-r", "--filter=error", "file", raw, "error-pread-rate=100%", "error=EIO")
	out := filepath.Join(t.TempDir(), "out")
	if _, err := fetch(t.Context(), uri, out, job.FormatRaw, false); !errors.Is(err, nbd.ErrRead) {
		t.Errorf("error %v, want %v", err, nbd.ErrRead)
	}
	left, err := filepath.Glob(filepath.Join(out, "*"))
	if err != nil || left != nil {
		t.Errorf("%v have final names, error %v", left, err)
	}
}

func TestAnNBDServerThatIsAwayIsTheError(t *testing.T) {
	t.Parallel()
	const gone = "127.0.0.1:1" // nobody listens there, and no test is given that port
	for _, uri := range []string{"nbd://" + gone + "/", "nbd+unix:///?socket=" + filepath.Join(t.TempDir(), "none")} {
		if _, err := fetch(t.Context(), uri, filepath.Join(t.TempDir(), "out"), job.FormatRaw, false); !errors.Is(err, nbd.ErrUnreachable) {
			t.Errorf("%s: error %v, want %v", uri, err, nbd.ErrUnreachable)
		}
	}
}

func TestAURIThatIsNoExportHereIsRefusedWithWhatToWrite(t *testing.T) {
	t.Parallel()
	for _, uri := range []string{
		"nbd://db.example.com/x", "nbd://192.0.2.7:10809/", "nbds://localhost/", "nbds+unix:///?socket=/s", "nbd+vsock://2/", "nbd+unix:///x",
		"nbd+unix://host/x?socket=/s", "nbd://localhost/?socket=/s", "nbd://localhost/?tls-certificates=/x", "nbd://user@localhost/", "nbd://localhost:port/", "NBDX://localhost/",
	} {
		_, err := fetch(t.Context(), uri, filepath.Join(t.TempDir(), "out"), job.FormatRaw, false)
		if !errors.Is(err, convert.ErrURI) || !fault.IsPermanent(err) || migrate.Hint(err) == "" {
			t.Errorf("%s: error %v, hint %q", uri, err, migrate.Hint(err))
		}
	}
	if convert.IsExport("/a/nbd://x") || convert.IsExport("nbd.vmdk") || !convert.IsExport("nbd+unix:///?socket=s") {
		t.Error("a path is taken for a URI, or a URI for a path")
	}
}
