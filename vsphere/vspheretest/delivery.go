package vspheretest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/hyper2kvm/hyper2kvm/probe/findings"
)

// delivery sends one object in answer to one request, with the faults that are
// due for it.
type delivery struct {
	srv    *Server
	w      http.ResponseWriter
	r      *http.Request
	plane  Plane
	object *payload
	guest  *guest
	disk   int // index among the guest's disks; -1 for what is no disk
	how    findings.HTTP
	over   <-chan struct{}                    // closed when it may no longer be sent; nil: never
	lease  *lease                             // nil outside of one
	sent   func(from, to int64) (undo func()) // notes what was sent; may be nil
}

// etag names the object's content.
func (d *delivery) etag() string {
	return fmt.Sprintf(`"%s-%d"`, d.object.sha1[:16], d.object.version.Load())
}

// fail answers with an error.
func (d *delivery) fail(status int, message string) {
	d.record(status)
	http.Error(d.w, message, status)
}

// record logs the request before its first byte goes out.
func (d *delivery) record(status int) {
	d.srv.log.add(Request{
		Plane: d.plane, Method: d.r.Method, VM: d.guest.path, Disk: d.disk,
		Range: d.r.Header.Get("Range"), Status: status,
	})
}

// empty answers 200 with an empty chunked body.
func (d *delivery) empty() {
	d.record(http.StatusOK)
	d.w.Header().Set("Content-Type", d.object.contentType)
	d.w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(d.w).Flush() // before the end: or net/http would add a length
}

func (d *delivery) run() {
	if d.how.KeepAlive == findings.No {
		d.w.Header().Set("Connection", "close")
	}
	switch {
	case d.r.Method == http.MethodGet:
	case d.r.Method == http.MethodHead && d.how.Head != findings.Refused:
	default:
		d.w.Header().Set("Allow", http.MethodGet)
		d.fail(cmp.Or(d.how.HeadStatus, http.StatusMethodNotAllowed), "only GET is answered")
		return
	}
	if d.struck(faultChange) != nil {
		d.object.version.Add(1)
	}
	if f := d.struck(faultStatus); f != nil {
		d.fail(f.code, "injected fault")
		return
	}
	if d.struck(faultEmpty) != nil {
		d.empty()
		return
	}
	d.validators()
	switch ask := d.r.Header.Get("Range"); {
	case d.how.Range == findings.Refused && ask != "":
		d.fail(cmp.Or(d.how.RangeStatus, http.StatusRequestedRangeNotSatisfiable), "no ranges here")
	case d.how.Range == findings.Honoured:
		d.runRanged()
	default:
		d.whole()
	}
}

// validators tells which version of the object it is.
func (d *delivery) validators() {
	switch d.how.ETag {
	case findings.Strong:
		d.w.Header().Set("ETag", d.etag())
	case findings.Weak:
		d.w.Header().Set("ETag", "W/"+d.etag())
	}
	if d.how.Modified == findings.Yes {
		at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Add(time.Duration(d.object.version.Load()) * time.Second)
		d.w.Header().Set("Last-Modified", at.Format(http.TimeFormat))
	}
}

// whole sends all of the object, or the head of it.
func (d *delivery) whole() {
	head := d.r.Method == http.MethodHead
	if head && d.how.Head == findings.Sized || !head && d.how.Body == findings.Length {
		d.w.Header().Set("Content-Length", strconv.FormatInt(d.object.size, 10))
	}
	d.send(http.StatusOK, 0, d.object.size)
}

// struck uses up a fault that is due at the start of a request.
func (d *delivery) struck(kind faultKind) *fault {
	if d.r.Method != http.MethodGet {
		return nil
	}
	return d.srv.faults.strike(kind, d.plane, d.guest, d.disk)
}

// runRanged answers as RFC 9110 says for one range; several, or none that can
// be read, get the whole.
func (d *delivery) runRanged() {
	h, etag := d.w.Header(), d.etag()
	h.Set("Accept-Ranges", "bytes")
	if m := d.r.Header.Get("If-Match"); d.how.ETag == findings.Strong && m != "" && m != "*" && !strings.Contains(m, etag) {
		d.fail(http.StatusPreconditionFailed, "the object has changed")
		return
	}
	from, to, ok := parseRange(d.r.Header.Get("Range"), d.object.size)
	if c := d.r.Header.Get("If-Range"); c != "" && (c != etag || d.how.ETag != findings.Strong) {
		ok = false
	}
	if ok && d.struck(faultNoRange) != nil {
		ok = false
	}
	switch {
	case !ok:
		d.whole()
	case from >= d.object.size:
		h.Set("Content-Range", fmt.Sprintf("bytes */%d", d.object.size))
		d.fail(http.StatusRequestedRangeNotSatisfiable, "the range is beyond the end")
	default:
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to-1, d.object.size))
		h.Set("Content-Length", strconv.FormatInt(to-from, 10))
		d.send(http.StatusPartialContent, from, to)
	}
}

// parseRange reads "bytes=a-b", "bytes=a-" and "bytes=-n" into [from, to).
func parseRange(header string, size int64) (from, to int64, ok bool) {
	spec, ok := strings.CutPrefix(header, "bytes=")
	if !ok {
		return 0, 0, false
	}
	first, last, ok := strings.Cut(spec, "-")
	if !ok {
		return 0, 0, false
	}
	if first == "" {
		n, err := strconv.ParseInt(last, 10, 64)
		return max(0, size-n), size, err == nil && n > 0
	}
	from, err := strconv.ParseInt(first, 10, 64)
	if err != nil || from < 0 {
		return 0, 0, false
	}
	if last == "" {
		return from, size, true
	}
	final, err := strconv.ParseInt(last, 10, 64)
	return from, min(final, size-1) + 1, err == nil && final >= from
}

// send writes the header and bytes [from, to) of the object.
func (d *delivery) send(status int, from, to int64) {
	faults := d.srv.faults.within(d.plane, d.guest, d.disk, from, to)
	for _, f := range faults {
		if f.kind == faultTruncate { // a clean end short of the length needs chunks
			d.w.Header().Del("Content-Length")
		}
	}
	f, err := os.Open(d.object.path)
	if err != nil {
		d.fail(http.StatusInternalServerError, "the object is gone")
		return
	}
	defer f.Close()
	d.record(status)
	d.w.Header().Set("Content-Type", d.object.contentType)
	d.w.WriteHeader(status)
	if d.r.Method == http.MethodHead {
		return
	}
	ctx, cancel := d.watch()
	defer cancel()
	x := &transfer{delivery: d, src: f, faults: faults, from: from, pos: from, end: to, pacer: pacerOf(d.r.Context())}
	err = x.run(ctx)
	if err != nil && x.pos > x.from && x.sent != nil {
		x.sent(x.from, x.pos) // a client that has it goes on from there
	}
	if err != nil && !errors.Is(err, errCleanEnd) {
		panic(http.ErrAbortHandler) // resets the connection: no clean end
	}
}

// watch returns a context that ends with the client, the lease or the server,
// and then also wakes a write that blocks because the client does not read.
func (d *delivery) watch() (context.Context, func()) {
	ctx, cancel := context.WithCancel(d.r.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-d.over:
		case <-d.srv.closed:
		case <-ctx.Done():
			return
		}
		cancel()
		_ = http.NewResponseController(d.w).SetWriteDeadline(time.Unix(1, 0))
	}()
	return ctx, func() {
		cancel()
		<-done
	}
}

var (
	errCleanEnd = errors.New("the body ends early, and cleanly")
	errCut      = errors.New("the connection is cut")
)

// transfer is the body of a delivery.
type transfer struct {
	*delivery
	src       io.ReaderAt
	faults    []*fault // by position
	from, pos int64
	end       int64
	flip      bool // the next byte is to be corrupted
	pacer     *pacer
}

func (x *transfer) run(ctx context.Context) error {
	buf := make([]byte, x.pacer.chunk)
	for x.pos < x.end {
		if err := x.strikeHere(ctx); err != nil {
			return err
		}
		n := int(min(int64(len(buf)), x.nextStop()-x.pos))
		if err := x.pacer.wait(ctx, n); err != nil {
			return err
		}
		if _, err := x.src.ReadAt(buf[:n], x.pos); err != nil && err != io.EOF {
			return err
		}
		if x.flip {
			buf[0] ^= 0xff
			x.flip = false
		}
		if err := x.write(buf[:n]); err != nil {
			return err
		}
		x.srv.hooks.reached(x.guest, x.disk, x.pos)
	}
	return nil
}

// write sends b. What clients may ask about is noted before the bytes go out,
// so that who has them sees it noted.
func (x *transfer) write(b []byte) error {
	undo := func() {}
	if last := x.pos+int64(len(b)) == x.end; last && x.sent != nil {
		undo = x.sent(x.from, x.end)
	}
	x.object.served.Add(int64(len(b)))
	n, err := x.w.Write(b)
	x.pos += int64(n) // also of a write that was cut: the client may have them
	if err != nil {
		undo()
		x.object.served.Add(int64(n - len(b)))
	}
	return err
}

// nextStop is where the next write must end: a fault, a hook or the end.
func (x *transfer) nextStop() int64 {
	stop := x.end
	if len(x.faults) > 0 {
		stop = min(stop, x.faults[0].at)
	}
	return x.srv.hooks.next(x.guest, x.disk, x.pos, stop)
}

// strikeHere lets the faults at the present position strike.
func (x *transfer) strikeHere(ctx context.Context) error {
	for len(x.faults) > 0 && x.faults[0].at == x.pos {
		f := x.faults[0]
		x.faults = x.faults[1:]
		if !x.srv.faults.take(f) {
			continue
		}
		switch f.kind {
		case faultCorrupt:
			x.flip = true
		case faultExpire:
			if x.lease != nil {
				x.srv.expireLease(x.lease)
			}
		case faultSession:
			x.srv.endSessions(f.keep)
		case faultDown:
			_ = http.NewResponseController(x.w).Flush()
			x.srv.outage(f)
		case faultCut:
			_ = http.NewResponseController(x.w).Flush() // all before the cut arrives
			return errCut
		case faultTruncate:
			return errCleanEnd
		case faultStall:
			_ = http.NewResponseController(x.w).Flush()
			<-ctx.Done()
			return ctx.Err()
		}
	}
	return x.ended(ctx)
}

// ended tells at once whether the transfer must stop: the context follows a
// moment after its lease.
func (x *transfer) ended(ctx context.Context) error {
	select {
	case <-x.over:
		return errCut
	case <-x.srv.closed:
		return errCut
	default:
		return ctx.Err()
	}
}
