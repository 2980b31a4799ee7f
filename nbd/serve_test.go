package nbd_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/nbd"
)

// offer serves exports on a socket, and returns its path and what ends the server.
func offer(t testing.TB, exports ...nbd.Served) (socket string, end func() error) {
	t.Helper()
	dir, err := os.MkdirTemp("", "nbd") // a short path: that of a socket is bounded
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket = filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- nbd.Serve(ctx, l, exports...)
		close(ended)
	}()
	end = func() error {
		cancel()
		return <-ended
	}
	t.Cleanup(func() { _ = end() })
	return socket, end
}

// memory is an export of p.
func memory(name string, p []byte) nbd.Served {
	return nbd.Served{Name: name, Size: int64(len(p)), Read: func(_ context.Context, b []byte, off int64) error {
		copy(b, p[off:])
		return nil
	}}
}

// said runs a program that has to succeed, and returns what it says.
func said(t testing.TB, argv ...string) string {
	t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", argv, err, out)
	}
	return string(out)
}

func TestClientsOfOthersReadWhatIsServed(t *testing.T) {
	t.Parallel()
	path, content := holey(t)
	socket, end := offer(t, memory("first", content), memory("second disk", bytes.Repeat([]byte{7}, 3*mib)))

	copied := filepath.Join(t.TempDir(), "copied")
	said(t, "qemu-img", "convert", "-f", "raw", "-O", "raw", "nbd:unix:"+socket+":exportname=first", copied)
	if out := said(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", path, copied); !strings.Contains(out, "identical") {
		t.Error(out)
	}
	if out := said(t, "qemu-io", "-r", "-f", "raw", "-c", "read -P 7 1M 2M", "-c", "read -P 7 4095 3", "nbd+unix:///second%20disk?socket="+socket); strings.Contains(out, "failed") {
		t.Error(out)
	}
	out := said(t, "nbdinfo", "--list", "--json", "nbd+unix:///?socket="+socket)
	for _, want := range []string{`"first"`, `"second disk"`, `"is_read_only": true`, `"can_multi_conn": true`, `"block_size_maximum": 33554432`} {
		if !strings.Contains(out, want) {
			t.Errorf("nbdinfo does not say %s:\n%s", want, out)
		}
	}
	copied = filepath.Join(t.TempDir(), "copied by several connections")
	said(t, "nbdcopy", "--connections=4", "--requests=32", "nbd+unix:///first?socket="+socket, copied)
	if got, err := os.ReadFile(copied); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if err := end(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket is left: %v", err)
	}
}

func TestNobodyWritesToWhatIsServed(t *testing.T) {
	t.Parallel()
	content := bytes.Repeat([]byte{7}, mib)
	socket, _ := offer(t, memory("", content))
	out, err := exec.Command("qemu-io", "-f", "raw", "-c", "write -P 9 0 4k", "nbd+unix:///?socket="+socket).CombinedOutput()
	if err == nil || bytes.Contains(content, []byte{9}) {
		t.Errorf("%v: %s", err, out)
	}
	c := greeted(t, socket, "")
	write := frame(1, 11, 0, 4096)
	for _, request := range [][]byte{append(write, make([]byte, 4096)...), frame(4, 12, 0, 4096), frame(6, 13, 0, 4096)} {
		if code := ask(t, c, request, 0); code != 1 {
			t.Errorf("answer %d to %v", code, request[:8])
		}
	}
	if code := ask(t, c, frame(0, 14, 512, 512), 512); code != 0 {
		t.Errorf("a read after them is answered by %d", code)
	}
}

func TestWhatIsOutsideTheExportOrTooLongIsRefusedAndTheNextRequestAnswered(t *testing.T) {
	t.Parallel()
	socket, _ := offer(t, memory("", make([]byte, mib+3)))
	c := greeted(t, socket, "")
	for _, bad := range [][]byte{
		frame(0, 1, mib+3, 1), frame(0, 2, mib, 4), frame(0, 3, 1<<63, 4), frame(0, 4, 1<<64-2, 4), frame(0, 5, 0, 0), frame(0, 6, 0, 32*mib+1),
		frame(3, 7, 0, 0), frame(5, 8, 0, 1), frame(7, 9, 0, 512), frame(99, 10, 0, 512), frame(0, 11, 0, 512, 0, 1),
	} {
		if code := ask(t, c, bad, 0); code != 22 {
			t.Errorf("answer %d to %v", code, bad)
		}
	}
	if code := ask(t, c, frame(0, 12, mib+2, 1), 1); code != 0 {
		t.Errorf("the last byte is answered by %d", code)
	}
}

func TestAReadThatFailsOrPanicsIsAnErrorOfThatReadOnly(t *testing.T) {
	t.Parallel()
	socket, _ := offer(t, nbd.Served{Size: mib, Read: func(_ context.Context, p []byte, off int64) error {
		switch off {
		case 0:
			return errors.New("no such sector")
		case 512:
			panic("a mistake of ours")
		}
		return nil
	}})
	c := greeted(t, socket, "")
	for off, want := range map[uint64]uint32{0: 5, 512: 5} {
		if code := ask(t, c, frame(0, 1, off, 512), 0); code != want {
			t.Errorf("answer %d to a read at %d", code, off)
		}
	}
	if code := ask(t, c, frame(0, 2, 1024, 512), 512); code != 0 {
		t.Errorf("answer %d", code)
	}
}

func TestAClientThatLeavesOrAServerThatEndsLeavesNoReadBehind(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"the client leaves", "the server ends"} {
		began, over := make(chan struct{}), make(chan struct{})
		socket, end := offer(t, nbd.Served{Size: mib, Read: func(ctx context.Context, p []byte, off int64) error {
			close(began)
			<-ctx.Done()
			close(over)
			return ctx.Err()
		}})
		c := greeted(t, socket, "")
		if _, err := c.Write(frame(0, 1, 0, 512)); err != nil {
			t.Fatal(err)
		}
		<-began
		if way == "the client leaves" {
			_ = c.Close()
		} else if err := end(); err != nil {
			t.Error(err)
		}
		<-over
	}
}

func TestAClientThatBreaksTheRulesIsHungUpOn(t *testing.T) {
	t.Parallel()
	socket, _ := offer(t, memory("", make([]byte, mib)))
	be := binary.BigEndian
	opt := func(magic uint64, kind, n uint32, data string) []byte {
		return append(be.AppendUint32(be.AppendUint32(be.AppendUint64(nil, magic), kind), n), data...)
	}
	const magic = 0x49484156454f5054
	for name, words := range map[string][]byte{
		"unknown flags":           {0, 0, 0, 8},
		"no magic":                append([]byte{0, 0, 0, 3}, opt(1, 7, 0, "")...),
		"a huge option":           append([]byte{0, 0, 0, 3}, opt(magic, 7, 1<<30, "")...),
		"a name there is not":     append([]byte{0, 0, 0, 3}, opt(magic, 1, 4, "none")...),
		"options without end":     append([]byte{0, 0, 0, 3}, bytes.Repeat(opt(magic, 99, 0, ""), 100)...),
		"no magic in a request":   append([]byte{0, 0, 0, 3}, append(opt(magic, 1, 0, ""), make([]byte, 28)...)...),
		"a write that is endless": append([]byte{0, 0, 0, 3}, append(opt(magic, 1, 0, ""), frame(1, 1, 0, 1<<31)...)...),
		"abort":                   append([]byte{0, 0, 0, 3}, opt(magic, 2, 0, "")...),
	} {
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
		_, _ = c.Write(words) // it may have been hung up on already
		_, err = io.Copy(io.Discard, c)
		if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
			t.Errorf("%s: the server goes on", name)
		}
		_ = c.Close()
	}
	if code := ask(t, greeted(t, socket, ""), frame(0, 1, 0, 512), 512); code != 0 {
		t.Errorf("the next client is answered by %d", code)
	}
}

func TestOurOwnReaderReadsWhatIsServed(t *testing.T) {
	t.Parallel()
	_, content := holey(t)
	socket, _ := offer(t, memory("disk", content))
	r := nbd.NewReader(nbd.Options{Name: "ours", Export: "disk", Connections: 3, Dial: func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}})
	defer r.Close()
	body, err := r.Open(t.Context(), 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if got, err := io.ReadAll(body); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// frame is a request; more are its flags, two bytes.
func frame(command uint16, cookie, off uint64, n uint32, more ...byte) []byte {
	be := binary.BigEndian
	p := append(be.AppendUint32(nil, 0x25609513), append(more, 0, 0)[:2]...)
	p = be.AppendUint64(be.AppendUint16(p, command), cookie)
	return be.AppendUint32(be.AppendUint64(p, off), n)
}

// greeted is a connection to an export, by the oldest way of a handshake.
func greeted(t testing.TB, socket, name string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	be := binary.BigEndian
	words := be.AppendUint32(be.AppendUint32(be.AppendUint64([]byte{0, 0, 0, 1}, 0x49484156454f5054), 1), uint32(len(name)))
	if _, err := c.Write(append(words, name...)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 18+10+124)); err != nil {
		t.Fatal(err)
	}
	return c
}

// ask sends a request, and returns the error of its answer, which has n bytes.
func ask(t testing.TB, c net.Conn, request []byte, n int) uint32 {
	t.Helper()
	if _, err := c.Write(request); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 16+n)
	if _, err := io.ReadFull(c, p); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(p[8:16], request[8:16]) {
		t.Errorf("an answer to %x", p[8:16])
	}
	return binary.BigEndian.Uint32(p[4:])
}
