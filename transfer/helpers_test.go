package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hyper2kvm/hyper2kvm/transfer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const etag = `"one"`

// content returns n bytes that differ everywhere and are the same every time.
func content(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

// fault does something wrong with the n-th request (from 1) and reports whether
// it has answered it.
type fault func(w http.ResponseWriter, r *http.Request, n int64) bool

// object serves data as an honest server with ranges (or, with plain set,
// without them), except for what its fault does.
type object struct {
	data     []byte
	plain    bool
	chunked  bool // no Content-Length
	fault    fault
	requests atomic.Int64
}

func (o *object) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := o.requests.Add(1)
	if o.fault != nil && o.fault(w, r, n) {
		return
	}
	if o.plain {
		if o.chunked {
			w.(http.Flusher).Flush()
		} else {
			w.Header().Set("Content-Length", strconv.Itoa(len(o.data)))
		}
		_, _ = w.Write(o.data)
		return
	}
	w.Header().Set("ETag", etag)
	http.ServeContent(w, r, "disk-0.vmdk", time.Time{}, bytes.NewReader(o.data))
}

// serve starts a server for o and returns a source of it.
func serve(t testing.TB, o http.Handler) *transfer.HTTPSource {
	t.Helper()
	server := httptest.NewServer(o)
	t.Cleanup(server.Close)
	return sourceOf(t, server)
}

func sourceOf(t testing.TB, server *httptest.Server) *transfer.HTTPSource {
	t.Helper()
	u, err := url.Parse(server.URL + "/nfc/5264ae2d-8f0b-ticket/disk-0.vmdk?ticket=s3cret")
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("root", "passw0rd")
	return &transfer.HTTPSource{Client: server.Client(), URL: u,
		Header: http.Header{"Cookie": {`vmware_soap_session="c00kie"`}}}
}

// quick is a budget whose pauses do not slow a test.
func quick(retries int) *transfer.Budget {
	return transfer.NewBudget(transfer.BudgetOptions{Retries: retries, Min: time.Microsecond, Max: time.Millisecond})
}

// readAll probes s, reads it as the probe says and closes the reader.
func readAll(t testing.TB, s transfer.Source, o transfer.Options) ([]byte, error) {
	t.Helper()
	info, err := transfer.Probe(t.Context(), s, o)
	if err != nil {
		return nil, err
	}
	return readAs(t, s, info, o)
}

func readAs(t testing.TB, s transfer.Source, info transfer.Info, o transfer.Options) ([]byte, error) {
	t.Helper()
	r, err := transfer.NewReader(t.Context(), s, info, o)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(r)
	if closeErr := r.Close(); closeErr != nil {
		t.Errorf("Close: %v", closeErr)
	}
	return data, err
}

func wantBytes(t testing.TB, got, want []byte) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("read %d bytes, want %d", len(got), len(want))
	}
	if !bytes.Equal(got, want) {
		t.Fatal("the bytes differ")
	}
}

func wantError(t testing.TB, err error, targets ...error) {
	t.Helper()
	for _, target := range targets {
		if !errors.Is(err, target) {
			t.Errorf("error %v, want one that is %v", err, target)
		}
	}
}

// wantNoSecret checks that nothing that gives access is in an error's text.
func wantNoSecret(t testing.TB, err error) {
	t.Helper()
	text := fmt.Sprintf("%v %+v", err, err)
	for _, secret := range []string{"passw0rd", "s3cret", "c00kie", "root"} {
		if strings.Contains(text, secret) {
			t.Errorf("the error tells %q: %v", secret, err)
		}
	}
}

// hijack gives the fault the bare connection.
func hijack(w http.ResponseWriter) (io.WriteCloser, error) {
	conn, _, err := http.NewResponseController(w).Hijack()
	return conn, err
}

// memory is a Source in memory for tests in virtual time, where real
// connections cannot be used.
type memory struct {
	data     []byte
	requests atomic.Int64
	// open, when set, may answer the n-th request (from 1) itself.
	open func(ctx context.Context, n, off, length int64) (io.ReadCloser, error)
}

func (m *memory) Probe(context.Context) (transfer.Info, error) {
	return transfer.Info{Size: int64(len(m.data)), Ranges: true}, nil
}

func (m *memory) Open(ctx context.Context, off, length int64) (io.ReadCloser, error) {
	n := m.requests.Add(1)
	if m.open != nil {
		body, err := m.open(ctx, n, off, length)
		if body != nil || err != nil {
			return body, err
		}
	}
	return io.NopCloser(bytes.NewReader(m.part(off, length))), nil
}

func (m *memory) part(off, length int64) []byte {
	if length < 0 {
		return m.data[off:]
	}
	return m.data[off : off+length]
}

// paced is a body that gives piece bytes at a time, each after a pause; with a
// stop of 0 or more it falls silent after that many bytes.
type paced struct {
	ctx   context.Context
	data  []byte
	piece int
	pause time.Duration
	stop  int
	given int
}

func (p *paced) Read(b []byte) (int, error) {
	if len(p.data) == 0 {
		return 0, io.EOF
	}
	var due <-chan time.Time // never, once silent
	if p.stop < 0 || p.given < p.stop {
		due = time.After(p.pause)
	}
	select {
	case <-due:
	case <-p.ctx.Done():
		return 0, p.ctx.Err()
	}
	n := copy(b, p.data[:min(p.piece, len(p.data))])
	p.data = p.data[n:]
	p.given += n
	return n, nil
}

func (p *paced) Close() error { return nil }
