package nfc_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/internal/fault"
	"github.com/hyper2kvm/hyper2kvm/transfer"
	"github.com/hyper2kvm/hyper2kvm/vsphere/nfc"
	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest/authd"
)

func TestADiskIsReadIdenticalAtEveryDepthAndCoding(t *testing.T) {
	t.Parallel()
	for _, depth := range []int{1, 2, 8, 32} {
		for _, code := range []nfc.Compression{0, 1, 3} {
			for _, workers := range []int{1, 4} {
				t.Run(fmt.Sprintf("depth %d, code %d, %d at a time", depth, code, workers), func(t *testing.T) {
					t.Parallel()
					r := newRig(t, 3*mib+512*3, nil)
					reader := r.reader(func(o *nfc.Options) { o.Depth, o.Compression, o.Connections = depth, code, workers })
					r.identical(reader, workers)
					r.clean(reader)
					if s := r.server.State(); s.Abandoned != 0 || s.Closed == 0 || s.Closed > workers {
						t.Errorf("%+v after %d connections", s, workers)
					}
				})
			}
		}
	}
}

func TestAnyRangeCanBeReadInAnyOrder(t *testing.T) {
	t.Parallel()
	r := newRig(t, 4*mib, nil)
	reader := r.reader(nil)
	for _, at := range [][2]int64{{3*mib + 1, 700}, {0, 1}, {mib - 1, 2}, {4*mib - 1, 1}, {511, 514}, {0, 4 * mib}, {mib + 3, 2 * mib}, {4 * mib, 0}} {
		body, err := reader.Open(context.Background(), at[0], at[1])
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(body)
		if cerr := body.Close(); err != nil || cerr != nil || !bytes.Equal(got, r.data[at[0]:at[0]+at[1]]) {
			t.Errorf("%d bytes at %d: %d bytes, %v, %v", at[1], at[0], len(got), err, cerr)
		}
	}
	if _, err := reader.Open(context.Background(), 5*mib, 1); err == nil {
		t.Error("a range behind the disk is read")
	}
	r.clean(reader)
}

func TestAllocatedBlocksCoverEveryByteThatIsNotZero(t *testing.T) {
	t.Parallel()
	for _, size := range []int{4 * mib, 4*mib + 512, 64 * kib, 512} {
		r := newRig(t, size, nil)
		reader := r.reader(nil)
		areas, err := reader.Allocated(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		rest := bytes.Clone(r.data)
		end := int64(0)
		for _, a := range areas {
			if a.Offset < end || a.Length <= 0 || a.Offset+a.Length > int64(size) {
				t.Fatalf("area %+v of %d bytes", a, size)
			}
			end = a.Offset + a.Length
			clear(rest[a.Offset:end])
		}
		if bytes.Count(rest, []byte{0}) != size {
			t.Errorf("%d bytes: data stands outside of %v", size, areas)
		}
		if size == 4*mib && end-areas[0].Offset == int64(size) && len(areas) == 1 {
			t.Error("no hole was told of")
		}
		r.clean(reader)
	}
}

func TestWhereBlocksCannotBeToldThatIsAnErrorAndTheDiskIsReadAllTheSame(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"no-blocks", "few-blocks"} {
		r := newRig(t, 2*mib, nil)
		r.fault(name, 1)
		reader := r.reader(nil)
		if areas, err := reader.Allocated(context.Background()); err == nil {
			t.Errorf("%s: %v", name, areas)
		}
		r.identical(reader, 2)
		r.clean(reader)
	}
}

// passing are faults that a new connection, or another way, mends.
var passing = []string{
	"busy", "close", "close-after", "bytes",
	"expired", "501", "530", "close-session", "refuse-vpxa", "plain-answer",
	"late-36", "version-9", "refuse-43", "refuse-33", "refuse-51", "refuse-52", "error-20", "close-51",
	"no-session", "no-buffers", "memory", "memory-open", "foreign", "error-alone", "status", "no-file",
	"reversed", "uneven", "small", "code-raw", "raw", "overlap", "past-end", "empty", "wrong-op", "wrong-offset",
	"wrong-magic", "wrong-type", "short-payload", "long-payload", "huge-payload", "huge-fragment", "huge-error",
	"bad-zlib", "long-zlib", "bad-runs", "unknown-code", "read-error", "read-memory", "read-status", "drop-in-message",
}

func TestAFaultThatPassesEndsInAnIdenticalDisk(t *testing.T) {
	t.Parallel()
	for _, name := range passing {
		for _, times := range []int{1, 3} {
			if name == "foreign" && times > 1 {
				continue // both ways to get a ticket are refused then, which does not pass
			}
			t.Run(fmt.Sprintf("%s %d", name, times), func(t *testing.T) {
				t.Parallel()
				r := newRig(t, 2*mib+512, nil)
				r.fault(name, times)
				if name == "error-alone" {
					r.fault("memory-open", times)
				}
				reader := r.reader(nil)
				r.identical(reader, 3)
				r.clean(reader)
				if r.struck[name] == 0 {
					t.Error("it did not strike")
				}
			})
		}
	}
}

// lasting are faults that nobody outlives, and what each is.
var lasting = map[string]struct {
	kind      error
	permanent bool
}{
	"no-sha256":       {nfc.ErrUnsupported, true},
	"no-nfcssl":       {nfc.ErrUnsupported, true},
	"busy":            {nfc.ErrBusy, false},
	"long-line":       {nfc.ErrProtocol, false},
	"close":           {nfc.ErrOver, false},
	"expired":         {nfc.ErrTicket, false},
	"close-session":   {nfc.ErrTicket, false},
	"wrong-sha256":    {nfc.ErrCertificate, true},
	"other-identity":  {nfc.ErrCertificate, true},
	"clear":           {nfc.ErrClear, true},
	"stray":           {nfc.ErrProtocol, false},
	"echo":            {nfc.ErrService, false},
	"old-36":          {nfc.ErrUnsupported, true},
	"version-2":       {nfc.ErrUnsupported, true},
	"refuse-52":       {nfc.ErrRefused, false},
	"memory":          {nfc.ErrMemory, false},
	"locked":          {nfc.ErrLocked, true},
	"foreign":         {nfc.ErrForeign, true},
	"status":          {nfc.ErrRefused, false},
	"no-file":         {nfc.ErrRefused, false},
	"capacity":        {transfer.ErrChanged, false},
	"read-error":      {nfc.ErrRefused, false},
	"huge-fragment":   {nfc.ErrProtocol, false},
	"drop-in-message": {nfc.ErrOver, false},
}

func TestAFaultThatLastsEndsInItsErrorWithNothingLeftOpen(t *testing.T) {
	t.Parallel()
	for name, want := range lasting {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 2*mib+512, nil)
			r.fault(name, -1)
			reader := r.reader(nil)
			_, err := r.all(reader, 2)
			if !errors.Is(err, want.kind) || fault.IsPermanent(err) != want.permanent {
				t.Errorf("error %v, permanent %t", err, fault.IsPermanent(err))
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the ticket is told: %v", err)
			}
			if want.permanent && r.tickets.Load() > 2 {
				t.Errorf("%d tickets were asked for in vain", r.tickets.Load())
			}
			r.clean(reader)
		})
	}
}

func TestARefusedOpenSaysWhyAndWhatToDo(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		refusal authd.Refusal
		kind    error
		hint    string
	}{
		"active":  {authd.Refusal{Code: 1048585, Text: "Thin/TBZ/Sparse disks cannot be opened in multiwriter mode"}, nfc.ErrActiveLink, "snapshot"},
		"locked":  {authd.Refusal{Code: 1, Text: "Failed to lock the file"}, nfc.ErrLocked, "other reader"},
		"memory":  {authd.Refusal{Code: 1, Text: "Failed to allocate the requested 24117272 bytes"}, nfc.ErrMemory, "fewer disks"},
		"foreign": {authd.Refusal{Code: 1, Text: "permission check failed for file 'x'"}, nfc.ErrForeign, "registered"},
		"other":   {authd.Refusal{Code: 99, Text: "something\x1b[2J new"}, nfc.ErrRefused, "hostd.log"},
	} {
		r := newRig(t, mib, nil)
		r.refuse = &c.refusal
		reader := r.reader(nil)
		_, err := reader.Probe(context.Background())
		if !errors.Is(err, c.kind) || !strings.Contains(fault.Hint(err), c.hint) || strings.ContainsRune(err.Error(), 0x1b) {
			t.Errorf("%s: %v; %s", name, err, fault.Hint(err))
		}
		r.clean(reader)
	}
}

func TestOnlyTheCertificateThatTheTicketNamesIsTrusted(t *testing.T) {
	t.Parallel()
	r := newRig(t, mib, nil)
	other := identity(t)
	asPEM := func(der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	for name, c := range map[string]struct {
		change func(*nfc.Ticket)
		trust  func(*x509.Certificate) error
		ok     bool
	}{
		"thumbprint":                   {func(*nfc.Ticket) {}, nil, true},
		"in upper case, with colons":   {func(k *nfc.Ticket) { k.Thumbprint = colons(strings.ToUpper(k.Thumbprint)) }, nil, true},
		"certificate":                  {func(k *nfc.Ticket) { k.Thumbprint, k.Certificate = "", asPEM(r.cert.Leaf.Raw) }, nil, true},
		"another thumbprint":           {func(k *nfc.Ticket) { k.Thumbprint = strings.Repeat("ab", 20) }, nil, false},
		"no hex":                       {func(k *nfc.Ticket) { k.Thumbprint = "zz" }, nil, false},
		"part of it":                   {func(k *nfc.Ticket) { k.Thumbprint = k.Thumbprint[:20] }, nil, false},
		"another certificate":          {func(k *nfc.Ticket) { k.Certificate = asPEM(other.Leaf.Raw) }, nil, false},
		"no PEM":                       {func(k *nfc.Ticket) { k.Certificate = "x" }, nil, false},
		"none":                         {func(k *nfc.Ticket) { k.Thumbprint = "" }, nil, false},
		"none, but pinned":             {func(k *nfc.Ticket) { k.Thumbprint = "" }, func(*x509.Certificate) error { return nil }, true},
		"none, and otherwise pinned":   {func(k *nfc.Ticket) { k.Thumbprint = "" }, func(*x509.Certificate) error { return errors.New("no") }, false},
		"another one, although pinned": {func(k *nfc.Ticket) { k.Thumbprint = strings.Repeat("ab", 20) }, func(*x509.Certificate) error { return nil }, false},
	} {
		reader := r.reader(func(o *nfc.Options) {
			o.Trust = c.trust
			o.Ticket = func(ctx context.Context, other bool) (nfc.Ticket, error) {
				k, err := r.ticket(ctx, other)
				c.change(&k)
				return k, err
			}
		})
		_, err := reader.Probe(context.Background())
		if c.ok != (err == nil) || !c.ok && !errors.Is(err, nfc.ErrCertificate) {
			t.Errorf("%s: %v", name, err)
		}
		reader.Close()
	}
}

func colons(hex string) string {
	var parts []string
	for i := 0; i < len(hex); i += 2 {
		parts = append(parts, hex[i:i+2])
	}
	return strings.Join(parts, ":")
}

func TestABreakInTheMiddleCostsANewTicketAndWhatHadNotArrived(t *testing.T) {
	t.Parallel()
	for _, stall := range []bool{false, true} {
		r := newRig(t, 16*mib, nil)
		var once sync.Once
		r.at = func(from, to int64) authd.Fate {
			fate := authd.Fate{Flip: -1}
			if from >= 8*mib {
				once.Do(func() { fate.Cut, fate.Stall = !stall, stall })
			}
			return fate
		}
		reader := r.reader(func(o *nfc.Options) {
			if stall {
				o.Stall = 10 * time.Second // no machine is so slow that another connection stalls
			}
		})
		r.identical(reader, 2)
		if n := r.tickets.Load(); n != 2 {
			t.Errorf("stall %t: %d tickets", stall, n)
		}
		if n := r.reads.Load(); n > 16+8 {
			t.Errorf("stall %t: %d reads of 1 MiB for 16 MiB", stall, n)
		}
		r.clean(reader)
	}
}

func TestACancelledReadClosesFileAndSessionAtTheHost(t *testing.T) {
	t.Parallel()
	r := newRig(t, 16*mib, nil)
	ctx, cancel := context.WithCancel(context.Background())
	r.at = func(from, _ int64) authd.Fate {
		if from >= 8*mib {
			cancel()
		}
		return authd.Fate{Flip: -1}
	}
	reader := r.reader(nil)
	body, err := reader.Open(ctx, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, body); !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	if err := body.Close(); err != nil {
		t.Error(err)
	}
	r.clean(reader)
	if s := r.server.State(); s.Closed != 1 || s.Abandoned != 0 {
		t.Errorf("%+v", s)
	}
}

func TestAConnectionThatIsCancelledWhileItIsMadeEndsAtOnce(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"silent", "silent-52"} {
		r := newRig(t, mib, nil)
		r.fault(name, -1)
		waits := r.strikes(name)
		reader := r.reader(nil)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() {
			_, err := reader.Probe(ctx)
			done <- err
		}()
		<-waits
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
		reader.Close()
	}
}

func TestAHostThatAllowsOneSessionIsReadOverThatOne(t *testing.T) {
	t.Parallel()
	r := newRig(t, 16*mib, func(c *authd.Config) { c.Sessions = 1 })
	// Nothing is sent before the second connection was refused for good: without it a slow
	// machine may have read the disk by then.
	alone := make(chan struct{})
	tell := sync.OnceFunc(func() { close(alone) })
	r.at = func(int64, int64) authd.Fate {
		<-alone
		return authd.Fate{Flip: -1}
	}
	reader := r.reader(func(o *nfc.Options) {
		o.Connections, o.Tell = 4, func(s string) {
			if strings.Contains(s, "1 connection") {
				tell()
			}
		}
	})
	defer tell() // whatever fails
	r.identical(reader, 4)
	r.clean(reader)
}

func TestAHostThatIsShortOfMemoryIsAskedForLess(t *testing.T) {
	t.Parallel()
	r := newRig(t, 4*mib, func(c *authd.Config) { c.Memory = 300 * kib })
	reader := r.reader(nil)
	r.identical(reader, 1)
	r.clean(reader)
}

func TestMoreConnectionsAreMadeOnlyWhereThereIsAPlaceAndGiveItBack(t *testing.T) {
	t.Parallel()
	r := newRig(t, 32*mib, nil)
	var mu sync.Mutex
	taken, most, granted := 0, 0, 0
	reader := r.reader(func(o *nfc.Options) {
		o.Connections = 8
		o.Place = func() (func(), bool) {
			mu.Lock()
			defer mu.Unlock()
			if taken == 2 {
				return nil, false
			}
			taken++
			granted++
			most = max(most, taken)
			return func() {
				mu.Lock()
				defer mu.Unlock()
				taken--
			}, true
		}
	})
	r.identical(reader, 8)
	mu.Lock()
	if n := r.server.State().Accepted; n > 1+granted {
		t.Errorf("%d connections, of which one needs no place, were made with %d places", n, granted)
	}
	mu.Unlock()
	r.clean(reader)
	if taken != 0 || most == 0 {
		t.Errorf("%d places are taken; at most there were %d", taken, most)
	}
}

func TestAReaderThatIsClosedReadsNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, mib, nil)
	reader := r.reader(nil)
	reader.Close()
	if _, err := reader.Open(context.Background(), 0, 1); err == nil {
		t.Error("it reads")
	}
	if n := r.server.State().Accepted; n != 0 {
		t.Errorf("%d connections", n)
	}
}
