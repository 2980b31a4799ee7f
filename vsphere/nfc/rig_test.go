package nfc_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/transfer"
	"github.com/hyper2kvm/hyper2kvm/vsphere/nfc"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest/authd"
)

const (
	kib  = 1 << 10
	mib  = 1 << 20
	path = "[ds1] vm1/vm1.vmdk"
)

// rig is a host that serves one disk, and what goes wrong there.
type rig struct {
	t      testing.TB
	addr   *net.TCPAddr
	cert   *tls.Certificate
	server *authd.Server
	data   []byte

	tickets atomic.Int64 // that were given out
	reads   atomic.Int64

	mu     sync.Mutex
	faults map[string]int // how often each is still to strike; negative: always
	used   map[string]bool
	struck map[string]int
	harm   []string
	at     func(from, to int64) authd.Fate // may be nil
	refuse *authd.Refusal                  // of every open
	served int64
	seen   map[string]chan struct{} // closed when that fault strikes first
}

func newRig(t testing.TB, size int, change func(*authd.Config)) *rig {
	t.Helper()
	r := &rig{t: t, cert: identity(t), data: make([]byte, size), faults: map[string]int{}, used: map[string]bool{}, struck: map[string]int{}}
	fill(r.data)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	other := identity(t)
	cfg := authd.Config{
		Certificate: func() *tls.Certificate { return r.cert },
		Other:       func() *tls.Certificate { return other },
		Redeem:      r.redeem,
		Strike:      r.Strike,
		Violation: func(what string) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.harm = append(r.harm, what)
		},
	}
	if change != nil {
		change(&cfg)
	}
	r.addr, r.server = ln.Addr().(*net.TCPAddr), authd.New(cfg)
	var serving sync.WaitGroup
	serving.Go(func() { r.server.Serve(ln) })
	t.Cleanup(func() {
		_ = ln.Close()
		r.server.Close()
		serving.Wait()
		if r.harm != nil {
			t.Errorf("the client has tried %q", r.harm)
		}
	})
	return r
}

// fill makes data of every kind: noise, zeros, and a little here and there.
func fill(b []byte) {
	rng := mathrand.NewChaCha8([32]byte{1})
	for off := 0; off < len(b); off += 256 * kib {
		piece := b[off:min(off+256*kib, len(b))]
		switch off / (256 * kib) % 3 {
		case 0:
			_, _ = rng.Read(piece)
		case 1:
			copy(piece[len(piece)/3:], "a little")
		}
	}
}

func identity(t testing.TB) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost.localdomain"}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// ticket gives out a ticket.
func (r *rig) ticket(context.Context, bool) (nfc.Ticket, error) {
	sum := sha1.Sum(r.cert.Leaf.Raw)
	return nfc.Ticket{
		Host: r.addr.IP.String(), Port: r.addr.Port, Service: "vpxa-nfc",
		SessionID: fmt.Sprintf("secret-%d", r.tickets.Add(1)), Thumbprint: hex.EncodeToString(sum[:]),
	}, nil
}

func (r *rig) redeem(id string) authd.Grant {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.used[id] {
		return nil
	}
	r.used[id] = true
	return r
}

// fault lets something go wrong so often.
func (r *rig) fault(name string, times int) {
	if _, known := authd.Faults[name]; !known {
		r.t.Fatalf("there is no fault %q", name)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults[name] = times
}

func (r *rig) Strike(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.faults[name]
	if n == 0 {
		return false
	}
	r.faults[name] = n - 1
	r.struck[name]++
	if seen, wanted := r.seen[name]; wanted && r.struck[name] == 1 {
		close(seen)
	}
	return true
}

// strikes returns a channel that is closed when a fault strikes first.
func (r *rig) strikes(name string) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen == nil {
		r.seen = map[string]chan struct{}{}
	}
	r.seen[name] = make(chan struct{})
	return r.seen[name]
}

func (r *rig) Open(p string) (authd.Disk, *authd.Refusal) {
	if r.refuse != nil {
		return nil, r.refuse
	}
	if p != path {
		return nil, &authd.Refusal{Code: 11, Text: "NfcAioProcessOpenFileMsg: permission check failed for file '" + p + "', access = 1"}
	}
	return &ramDisk{ReaderAt: bytes.NewReader(r.data), rig: r}, nil
}

type ramDisk struct {
	io.ReaderAt
	rig *rig
}

func (d *ramDisk) Size() int64 { return int64(len(d.rig.data)) }
func (d *ramDisk) Close()      {}
func (d *ramDisk) Allocated(from, to int64) (bool, error) {
	return bytes.Count(d.rig.data[from:to], []byte{0}) < int(to-from), nil
}
func (d *ramDisk) Asked(int64, int64) { d.rig.reads.Add(1) }
func (d *ramDisk) Sent(_, _ int64, wire int) {
	d.rig.mu.Lock()
	defer d.rig.mu.Unlock()
	d.rig.served += int64(wire)
}
func (d *ramDisk) Sending(_ context.Context, from, to int64) authd.Fate {
	d.rig.mu.Lock()
	at := d.rig.at
	d.rig.mu.Unlock()
	if at != nil {
		return at(from, to)
	}
	return authd.Fate{Flip: -1}
}

// reader opens the disk of the rig.
func (r *rig) reader(change func(*nfc.Options)) *nfc.Reader {
	o := nfc.Options{Path: path, Capacity: int64(len(r.data)), Ticket: r.ticket, StatusPatience: 50 * time.Millisecond}
	if change != nil {
		change(&o)
	}
	reader := nfc.NewReader(o)
	r.t.Cleanup(reader.Close)
	return reader
}

// all reads the whole disk as an export does, with retries.
func (r *rig) all(reader *nfc.Reader, workers int) ([]byte, error) {
	o := transfer.Options{
		Workers: workers, ChunkSize: 2 * mib,
		Budget: transfer.NewBudget(transfer.BudgetOptions{Retries: 5, Min: time.Millisecond, Max: 5 * time.Millisecond}),
	}
	info, err := transfer.Probe(context.Background(), reader, o)
	if err != nil {
		return nil, err
	}
	in, err := transfer.NewReader(context.Background(), reader, info, o)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	return io.ReadAll(in)
}

// identical reads the whole disk and compares it.
func (r *rig) identical(reader *nfc.Reader, workers int) {
	r.t.Helper()
	got, err := r.all(reader, workers)
	if err != nil {
		r.t.Fatal(err)
	}
	if !bytes.Equal(got, r.data) {
		r.t.Fatal("the disk was read as another one")
	}
}

// clean closes the reader, and wants nothing left open at the host.
func (r *rig) clean(reader *nfc.Reader) {
	r.t.Helper()
	reader.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := r.server.Drained(ctx); err != nil {
		r.t.Error(err)
	}
	if s := r.server.State(); s.Sessions != 0 || s.Files != 0 {
		r.t.Errorf("left open: %+v", s)
	}
}
