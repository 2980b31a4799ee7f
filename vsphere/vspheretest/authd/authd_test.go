package authd_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest/authd"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const diskSize = 8 << 20

// lab grants every ticket, serves one disk, and lets nothing go wrong.
type lab struct {
	mu   sync.Mutex
	harm []string
}

func (l *lab) Strike(string) bool { return false }

func (l *lab) Open(path string) (authd.Disk, *authd.Refusal) {
	if path != "[ds1] vm1/vm1.vmdk" {
		return nil, &authd.Refusal{Code: 11, Text: "NfcAioProcessOpenFileMsg: permission check failed for file '" + path + "', access = 1"}
	}
	data := make([]byte, diskSize)
	copy(data[4096:], bytes.Repeat([]byte{0x41}, 512))
	copy(data[4608:], bytes.Repeat([]byte{0x42}, 512))
	copy(data[65536+137:], "hello")
	copy(data[65536+4092:], "tail")
	return &disk{bytes.NewReader(data)}, nil
}

type disk struct{ *bytes.Reader }

func (d *disk) Size() int64                                      { return diskSize }
func (d *disk) Allocated(from, _ int64) (bool, error)            { return from < 128<<10, nil }
func (d *disk) Asked(int64, int64)                               {}
func (d *disk) Sending(context.Context, int64, int64) authd.Fate { return authd.Fate{Flip: -1} }
func (d *disk) Sent(int64, int64, int)                           {}
func (d *disk) Close()                                           {}

// serve starts a host, and returns its address and what it has noticed.
func serve(t *testing.T) (string, *lab, *authd.Server) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, _ := x509.ParseCertificate(der) // of our own making
	cert := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{}
	srv := authd.New(authd.Config{
		Certificate: func() *tls.Certificate { return cert },
		Redeem:      func(string) authd.Grant { return l },
		Strike:      l.Strike,
		Violation: func(what string) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.harm = append(l.harm, what)
		},
	})
	var serving sync.WaitGroup
	serving.Go(func() { srv.Serve(ln) })
	t.Cleanup(func() {
		_ = ln.Close()
		srv.Close()
		serving.Wait()
	})
	return ln.Addr().String(), l, srv
}

// peer is a client that knows nothing but bytes.
type peer struct {
	t    *testing.T
	tcp  net.Conn
	conn net.Conn
}

// oneRecord is a connection that is read one TLS record at a time.
type oneRecord struct {
	net.Conn
	buf []byte
}

func (r *oneRecord) Read(p []byte) (int, error) {
	if len(r.buf) == 0 {
		head := make([]byte, 5)
		if _, err := io.ReadFull(r.Conn, head); err != nil {
			return 0, err
		}
		body := make([]byte, int(head[3])<<8|int(head[4]))
		if _, err := io.ReadFull(r.Conn, body); err != nil {
			return 0, err
		}
		r.buf = append(head, body...)
	}
	n := copy(p, r.buf)
	r.buf = r.buf[n:]
	return n, nil
}

func (p *peer) line(command string) string {
	p.t.Helper()
	if _, err := io.WriteString(p.conn, command+"\r\n"); err != nil {
		p.t.Fatal(err)
	}
	var line []byte
	for one := make([]byte, 1); !bytes.HasSuffix(line, []byte("\r\n")); line = append(line, one[0]) {
		if _, err := io.ReadFull(p.conn, one); err != nil {
			p.t.Fatalf("%s: %v", command, err)
		}
	}
	return strings.TrimSpace(string(line))
}

// enter passes through the dialogue, with that tag ("" leaves the step out) and service.
func enter(t *testing.T, addr string, version uint16, tag, service string) *peer {
	t.Helper()
	tcp, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tcp.Close() })
	_ = tcp.SetDeadline(time.Now().Add(time.Minute))
	p := &peer{t: t, tcp: tcp, conn: tcp}
	greeting := make([]byte, 0, 256)
	for one := make([]byte, 1); !bytes.HasSuffix(greeting, []byte("\r\n")); greeting = append(greeting, one[0]) {
		if _, err := io.ReadFull(tcp, one); err != nil {
			t.Fatal(err)
		}
	}
	cfg := &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version}
	first := tls.Client(&oneRecord{Conn: tcp}, cfg)
	p.conn = first
	if _, err := io.WriteString(first, "SESSION 52aa\r\n"); err != nil {
		t.Fatal(err)
	}
	if tag != "" {
		if got := p.line("BANNER "); !strings.HasPrefix(got, "220 ") {
			t.Fatal(got)
		}
		if got := p.line("THUMBPRINT_SHA2 " + tag); !strings.HasPrefix(got, "200 ") || len(got) != 4+95 {
			t.Fatal(got)
		}
	}
	got, want := p.line("PROXY "+service), "200 Connect ha-nfcssl"
	if !strings.HasSuffix(service, "ssl") {
		p.conn, want = tcp, "200 Connect ha-nfc"
	} else {
		p.conn = tls.Client(tcp, cfg)
	}
	if got != want {
		t.Fatal(got)
	}
	return p
}

// send writes each of the messages, in a write of its own.
func (p *peer) send(messages ...[]byte) {
	p.t.Helper()
	for _, m := range messages {
		if _, err := p.conn.Write(m); err != nil {
			p.t.Fatal(err)
		}
	}
}

func (p *peer) want(n int, text string) []byte {
	p.t.Helper()
	got := make([]byte, n)
	if _, err := io.ReadFull(p.conn, got); err != nil {
		p.t.Fatalf("want %s: %v", text, err)
	}
	if want := unhex(p.t, text); !bytes.HasPrefix(got, want) {
		p.t.Fatalf("got %x, want %x", got[:min(n, 64)], want)
	}
	return got
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func message(kind uint32, text string) []byte {
	m := make([]byte, 264)
	binary.LittleEndian.PutUint32(m, kind)
	copy(m[4:], text)
	return m
}

const (
	status    = "24000000 00000000 00000000 00000000 01000000"
	version11 = "33000000 0b000000"
)

// handshake is V-2 of the vectors: with the names in one write, or in three.
func (p *peer) handshake(tag string, threeWrites, readFirst bool) {
	p.t.Helper()
	if tag != "" {
		p.send(message(43, tag))
	}
	p.send(message(33, ""))
	if readFirst {
		p.want(264, status)
	}
	p.send(message(51, "\x0b"))
	if !readFirst {
		p.want(264, status)
	}
	p.want(264, version11)
	names := message(54, "\x09\x00\x00\x00\x07")
	if threeWrites {
		p.send(names, []byte("hyper2kvm"), []byte("nbdmode"))
	} else {
		p.send(append(names, "hyper2kvmnbdmode"...))
	}
	p.send(message(55, "\x03"), message(52, ""))
	p.want(264, "34000000")
}

// openDisk is V-3 and V-4; it returns the handle.
func (p *peer) openDisk() string {
	p.t.Helper()
	p.send(unhex(p.t, "7ada00a1 02000000 10000000 00000000 00000000 00000100 04000000 00000000"))
	p.want(32, "7ada00a1 02000000 10000000 00000000 00000000 00000000 00000000 00000000")
	p.send(unhex(p.t, "7ada00a1 09000000 0c000000 01000000 00000000 00000000 00000000"))
	p.want(28, "7ada00a1 09000000 0c000000 01000000 00000400 00000400 01000000")
	p.send(unhex(p.t, "7ada00a1 16000000 04000000 02000000 01000000"))
	p.want(20, "7ada00a1 16000000 04000000 02000000 01000000")
	p.send(unhex(p.t, `7ada00a1 04000000 3c000000 03000000 12000000 00000000 00000000 00000000 02000000 1e000000
		00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 5b647331 5d20766d 312f766d 312e766d 646b`))
	reply := p.want(76, "7ada00a1 04000000 3c000000 03000000 00000000 00000000")
	if capacity := binary.LittleEndian.Uint64(reply[16+28:]); capacity != diskSize {
		p.t.Fatalf("capacity %d", capacity)
	}
	return hex.EncodeToString(reply[24:32])
}

func TestEveryOrderOfMessagesThatClientsAreKnownForIsServed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		version                    uint16
		tag, service               string
		three, readFirst, shortEnd bool
	}{
		"names in one write":             {tls.VersionTLS13, "AbCdEfGhIjKlMnOp", "vpxa-nfcssl", false, true, false},
		"names in three writes":          {tls.VersionTLS13, "PlainText", "vpxa-nfcssl", true, true, true},
		"the version before the status":  {tls.VersionTLS12, "AbCdEfGhIjKlMnOp", "nfcssl", false, false, false},
		"without TLS behind the first":   {tls.VersionTLS12, "PlainText", "vpxa-nfc", true, true, true},
		"without banner and certificate": {tls.VersionTLS13, "", "nfcssl", false, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr, l, srv := serve(t)
			p := enter(t, addr, c.version, c.tag, c.service)
			p.handshake(c.tag, c.three, c.readFirst)
			h := p.openDisk()
			p.send(unhex(t, "7ada00a1 07000000 2c000000 04000000"+h+"01000000 00000000 00100000 00000000 00040000 00000000 00040000 00040000 00000000"))
			raw := p.want(16+44+1024, "7ada00a1 07000000 2c000000 04000000 00000000 00000000 01000000 00000000 00100000 00000000 00040000 00000000 00040000 00040000 00000000")
			if !bytes.Equal(raw[60:], append(bytes.Repeat([]byte{0x41}, 512), bytes.Repeat([]byte{0x42}, 512)...)) {
				t.Error("the data are others")
			}
			p.send(unhex(t, "7ada00a1 07000000 2c000000 05000000"+h+"01000000 03000000 00000100 00000000 00100000 00000000 00100000 00100000 00000000"))
			p.want(16+44+0x21, `7ada00a1 07000000 2c000000 05000000 00000000 00000000 01000000 03000000 00000100 00000000 00100000 00000000 00100000 21000000 00000000
				00100000 00000000 89000000 05000000 68656c6c 6ffc0f00 00040000 00746169 6c`)
			p.send(unhex(t, "7ada00a1 0d000000 30000000 08000000"+h+"00000000 00000000 00000100 00000000 00000000 00000000 10000000 00000000 00000000 00000000"))
			p.want(16+48+4, "7ada00a1 0d000000 30000000 08000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 10000000 00000000 00000000 00000000 03000000")
			p.send(unhex(t, "7ada00a1 0b000000 10000000 09000000"+h+"0b000000 00000000 61646170 74657254 797065"))
			p.want(16+16+8, "7ada00a1 0b000000 10000000 09000000 00000000 00000000 00000000 08000000 6c73696c 6f676963")
			if c.shortEnd {
				p.send(unhex(t, "7ada00a1 05000000 08000000 0a000000"+h))
				p.want(24, "7ada00a1 05000000 08000000 0a000000")
				p.send(unhex(t, "7ada00a1 03000000 04000000 0b000000 00000000"))
				p.want(20, "7ada00a1 03000000 04000000 0b000000")
			} else {
				p.send(unhex(t, "7ada00a1 05000000 10000000 0a000000"+h+"00000000 00000000"))
				p.want(32, "7ada00a1 05000000 10000000 0a000000")
				p.send(unhex(t, "7ada00a1 03000000 10000000 0b000000 00000000 00000000 00000000 00000000"))
				p.want(32, "7ada00a1 03000000 10000000 0b000000")
			}
			p.send(message(4, ""))
			if rest, _ := io.ReadAll(p.conn); len(rest) > 0 {
				t.Errorf("after the end comes %x", rest)
			}
			if err := srv.Drained(t.Context()); err != nil {
				t.Error(err)
			}
			if s := srv.State(); s.Closed != 1 || s.Abandoned != 0 || s.Files != 0 || s.Sessions != 0 || len(l.harm) > 0 {
				t.Errorf("%+v, %q", s, l.harm)
			}
		})
	}
}

func TestASecondMessageInARecordIsNotLookedAtBeforeTheNextRecord(t *testing.T) {
	t.Parallel()
	addr, _, _ := serve(t)
	p := enter(t, addr, tls.VersionTLS13, "AbCdEfGhIjKlMnOp", "nfcssl")
	p.send(append(message(43, "AbCdEfGhIjKlMnOp"), message(33, "")...))
	p.send(message(51, "\x0b")) // lets the 33 through, and waits itself
	p.want(264, status)
	p.send(message(8, "")) // a ping lets the 51 through
	p.want(264, version11)
}

func TestWhatAHostWouldRefuseIsRefused(t *testing.T) {
	t.Parallel()
	addr, _, _ := serve(t)
	p := enter(t, addr, tls.VersionTLS13, "AbCdEfGhIjKlMnOp", "nfcssl")
	p.send(message(43, "another nonce..."))
	p.want(264, "04000000")

	p = enter(t, addr, tls.VersionTLS13, "AbCdEfGhIjKlMnOp", "nfcssl")
	p.handshake("AbCdEfGhIjKlMnOp", false, true)
	p.send(unhex(t, "7ada00a1 02000000 10000000 00000000 00000000 00000001 01000000 00000000")) // 16 MiB a buffer
	p.want(32, "7ada00a1 01000000 10000000 00000000")

	tcp, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	in := bufio.NewReader(tcp)
	if line, err := in.ReadString('\n'); err != nil || !strings.HasPrefix(line, "220 ") {
		t.Fatal(line, err)
	}
	if _, err := io.WriteString(tcp, "SESSION 52aa\r\n"); err != nil { // in clear
		t.Fatal(err)
	}
	if rest, _ := io.ReadAll(in); bytes.HasPrefix(rest, []byte("2")) {
		t.Errorf("a command in clear is answered: %q", rest)
	}
}

func TestARefusedOpenGetsItsErrorAndThenTheOrdinaryReply(t *testing.T) {
	t.Parallel()
	addr, _, _ := serve(t)
	p := enter(t, addr, tls.VersionTLS13, "AbCdEfGhIjKlMnOp", "nfcssl")
	p.handshake("AbCdEfGhIjKlMnOp", false, true)
	p.send(unhex(t, "7ada00a1 02000000 10000000 00000000 00000000 00000000 00000000 00000000")) // the host's own buffers
	p.want(32, "7ada00a1 02000000 10000000 00000000")
	open := unhex(t, "7ada00a1 04000000 3c000000 03000000 12000000 00000000 00000000 00000000 02000000 1e000000")
	p.send(append(append(open, make([]byte, 36)...), "[ds1] vm2/vm2.vmdk"...))
	p.want(16+16+91, "7ada00a1 01000000 10000000 03000000 0b000000 00000000 00000000 5b000000 4e666341 696f5072 6f636573 734f7065 6e46696c 654d7367")
	p.want(76, "7ada00a1 04000000 3c000000 03000000 00000000 00000000 00000000 00000000")
}

func TestWhoeverTriesToChangeSomethingIsNoticed(t *testing.T) {
	t.Parallel()
	addr, l, srv := serve(t)
	for _, kind := range []uint32{1, 27, 30, 31, 32, 34, 44} {
		p := enter(t, addr, tls.VersionTLS13, "AbCdEfGhIjKlMnOp", "nfcssl")
		p.send(message(kind, ""))
		p.want(264, "04000000")
	}
	p := enter(t, addr, tls.VersionTLS13, "AbCdEfGhIjKlMnOp", "nfcssl")
	p.handshake("AbCdEfGhIjKlMnOp", false, true)
	h := p.openDisk()
	p.send(unhex(t, "7ada00a1 07000000 2c000000 04000000"+h+"00000000 00000000 00100000 00000000 00020000 00000000 00020000 00020000 00000000"))
	p.want(16, "7ada00a1 01000000 10000000 04000000")
	_ = p.tcp.Close()
	if err := srv.Drained(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(l.harm) != 8 {
		t.Errorf("noticed: %q", l.harm)
	}
	if s := srv.State(); s.Abandoned != 1 {
		t.Errorf("a client that hangs up with a file open: %+v", s)
	}
}
