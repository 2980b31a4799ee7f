package authd

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"time"
)

const (
	magic      = 0xA100DA7A
	headerSize = 16
)

// Types of requests.
const (
	opError        = 1
	opOpenSession  = 2
	opCloseSession = 3
	opOpenFile     = 4
	opCloseFile    = 5
	opIO           = 7
	opSockOpts     = 9
	opDDBGet       = 11
	opAllocated    = 13
	opResPool      = 22
)

// least is the shortest payload of each type.
var least = map[uint32]uint32{
	opOpenSession: 16, opCloseSession: 4, opOpenFile: 60, opCloseFile: 8, opIO: 44,
	opSockOpts: 12, opDDBGet: 16, opAllocated: 48, opResPool: 4,
}

// defaultBuffer is what a session has that leaves it to the host, and maxBuffer the
// largest that a host gives, in bytes.
const (
	defaultBuffer = 64 << 10
	maxBuffer     = 2 << 20
	maxPath       = 4096
)

// request is one message of a client's.
type request struct {
	kind, op uint32
	payload  []byte
	extra    []byte
	due      time.Time
}

// session is one connection behind its handshake. One goroutine reads requests, and
// one answers them, so that reads can be answered in any order.
type session struct {
	srv    *Server
	ctx    context.Context
	end    context.CancelFunc
	tcp    net.Conn
	conn   net.Conn
	grant  Grant
	rng    *rand.Rand
	chunk  int
	wait   func(context.Context, int) error
	buffer int   // bytes; 0 before a session is open
	taken  int64 // of the host's memory
	disk   Disk
	handle uint64
	silent chan struct{} // closed when no more requests are read
}

// session serves the last layer until the connection ends.
func (s *Server) session(ctx context.Context, end context.CancelFunc, tcp, conn net.Conn, in io.Reader, g Grant) {
	x := &session{srv: s, ctx: ctx, end: end, tcp: tcp, conn: conn, grant: g, rng: rand.New(rand.NewPCG(1, 902)), silent: make(chan struct{})}
	x.chunk, x.wait = 1<<20, func(context.Context, int) error { return nil }
	if s.cfg.Pace != nil {
		x.chunk, x.wait = s.cfg.Pace()
	}
	requests := make(chan request, 256)
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		x.answer(requests)
		end() // whoever reads need not go on
		for range requests {
		}
	}()
	x.read(bufio.NewReader(in), requests)
	close(x.silent)
	close(requests)
	<-answered
	x.release()
}

// release gives up what the client has not closed.
func (x *session) release() {
	if x.disk != nil {
		x.disk.Close()
		x.srv.count(func(st *State) { st.Files--; st.Abandoned++ })
	}
	if x.buffer > 0 {
		x.srv.give(x.taken)
	}
}

// read takes requests off the connection.
func (x *session) read(in io.Reader, requests chan<- request) {
	for {
		r, err := readRequest(in)
		if err != nil {
			return
		}
		if complaint := r.harm(); complaint != "" {
			x.srv.cfg.Violation(complaint)
		}
		r.due = time.Now().Add(x.srv.cfg.Latency)
		select {
		case requests <- r:
		case <-x.ctx.Done():
			return
		}
	}
}

// readRequest reads one message.
func readRequest(in io.Reader) (r request, err error) {
	head := make([]byte, headerSize)
	if _, err := io.ReadFull(in, head); err != nil {
		return r, err
	}
	if le.Uint32(head) == 4 { // the classic end of a session
		_, err := io.CopyN(io.Discard, in, messageSize-headerSize)
		return r, cmp.Or(err, io.EOF)
	}
	if le.Uint32(head) != magic {
		return r, fmt.Errorf("magic %08x", le.Uint32(head))
	}
	r.kind, r.op = le.Uint32(head[4:]), le.Uint32(head[12:])
	size := le.Uint32(head[8:])
	if want, known := least[r.kind]; !known || size < want || size > 4096 {
		return r, fmt.Errorf("type %d with %d bytes", r.kind, size)
	}
	r.payload = make([]byte, size)
	if _, err := io.ReadFull(in, r.payload); err != nil {
		return r, err
	}
	extra := uint32(0)
	switch r.kind {
	case opOpenFile:
		extra = le.Uint32(r.payload)
	case opDDBGet:
		extra = le.Uint32(r.payload[8:])
	}
	if extra > maxPath {
		return r, fmt.Errorf("%d bytes behind a payload", extra)
	}
	r.extra = make([]byte, extra)
	_, err = io.ReadFull(in, r.extra)
	return r, err
}

// harm words what a request would change; "" for nothing.
func (r request) harm() string {
	switch {
	case r.kind == opOpenFile && le.Uint32(r.payload[20:])&0x04 == 0:
		return fmt.Sprintf("OPEN_FILE with flags 0x%x", le.Uint32(r.payload[20:]))
	case r.kind == opIO && le.Uint32(r.payload[8:])&1 == 0:
		return fmt.Sprintf("IO with direction %d", le.Uint32(r.payload[8:]))
	}
	return ""
}

// answer answers requests until the session is over. Reads that are there together
// are answered together.
func (x *session) answer(requests <-chan request) {
	var held *request
	for {
		var r request
		if held != nil {
			r, held = *held, nil
		} else {
			var ok bool
			if r, ok = <-requests; !ok {
				return
			}
		}
		if !x.until(r.due) {
			return
		}
		if r.kind != opIO {
			if !x.single(r) {
				return
			}
			continue
		}
		batch := []request{r}
		for more := true; more && len(batch) < 16; {
			select {
			case r, ok := <-requests:
				if !ok {
					more = false
				} else if r.kind != opIO || r.due.After(time.Now()) {
					held, more = &r, false
				} else {
					batch = append(batch, r)
				}
			default:
				more = false
			}
		}
		if !x.reads(batch) {
			return
		}
	}
}

// until waits for a time.
func (x *session) until(due time.Time) bool {
	d := time.Until(due)
	if d <= 0 {
		return x.ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-x.ctx.Done():
		return false
	}
}

// message makes a reply.
func message(kind, op uint32, payload, extra []byte) []byte {
	b := make([]byte, 0, headerSize+len(payload)+len(extra))
	b = le.AppendUint32(b, magic)
	b = le.AppendUint32(b, kind)
	b = le.AppendUint32(b, uint32(len(payload)))
	b = le.AppendUint32(b, op)
	return append(append(b, payload...), extra...)
}

// write sends b as fast as the connection may.
func (x *session) write(b []byte) bool {
	for len(b) > 0 {
		n := min(len(b), x.chunk)
		if x.wait(x.ctx, n) != nil {
			return false
		}
		if _, err := x.conn.Write(b[:n]); err != nil {
			return false
		}
		b = b[n:]
	}
	return true
}

// fail answers with an error.
func (x *session) fail(r request, e Refusal) bool {
	p := make([]byte, 16)
	le.PutUint64(p, e.Code)
	le.PutUint32(p[12:], uint32(len(e.Text)))
	return x.write(message(opError, r.op, p, []byte(e.Text)))
}

// single answers a request that is none to read the disk. It is false when the
// connection is over.
func (x *session) single(r request) bool {
	reply := make([]byte, len(r.payload))
	var extra []byte
	switch r.kind {
	case opOpenSession:
		if x.grant.Strike("no-session") {
			return false
		}
		if e := x.openSession(r); e != nil {
			return x.fail(r, *e)
		}
	case opSockOpts:
		le.PutUint32(reply, 256<<10)
		le.PutUint32(reply[4:], 256<<10)
		le.PutUint32(reply[8:], 1)
	case opResPool:
		le.PutUint32(reply, 1)
	case opOpenFile:
		return x.openFile(r)
	case opDDBGet:
		extra = []byte(map[string]string{"adapterType": "lsilogic", "uuid": "60 00 C2 9a 00 00 00 00-00 00 00 00 00 00 00 01"}[string(r.extra)])
		le.PutUint64(reply, 0)
		le.PutUint32(reply[8:], 0)
		le.PutUint32(reply[12:], uint32(len(extra)))
	case opAllocated:
		return x.allocated(r)
	case opCloseFile:
		return x.closeFile(r)
	case opCloseSession:
		x.closeSession(r)
		return false
	}
	return x.write(message(r.kind, r.op, reply, extra))
}

// openSession takes the host's memory for the buffers.
func (x *session) openSession(r request) *Refusal {
	size, count := int64(le.Uint32(r.payload[4:])), int64(le.Uint32(r.payload[8:]))
	if x.buffer > 0 {
		return &Refusal{1, "the session is open already"}
	}
	if size > maxBuffer || size*count > 16<<20 {
		return &Refusal{1, fmt.Sprintf("a buffer of %d bytes, %d times, is too much", size, count)}
	}
	if size > 0 && (x.srv.cfg.Buffer < 0 || x.grant.Strike("no-buffers")) {
		return &Refusal{1, "buffers are the host's to choose"}
	}
	if size == 0 {
		size, count = defaultBuffer, 1
	}
	if x.srv.cfg.Buffer > 0 && size > x.srv.cfg.Buffer {
		return memory(size * count)
	}
	if x.grant.Strike("memory") || !x.srv.take(size*count) {
		return memory(size * count)
	}
	x.buffer, x.taken = int(size), size*count
	return nil
}

func memory(n int64) *Refusal {
	return &Refusal{5, fmt.Sprintf("Failed to allocate the requested %d bytes", n)}
}

// openFile opens the disk.
func (x *session) openFile(r request) bool {
	reply := make([]byte, 60)
	path := string(r.extra)
	disk, e := x.open(r, path)
	if e != nil {
		// The ordinary reply comes as well.
		return x.fail(r, *e) && (x.grant.Strike("error-alone") || x.write(message(r.kind, r.op, reply, nil)))
	}
	x.disk = disk
	x.handle = 0xffffffff80000000 | uint64(x.rng.Uint32()&0x7fffffff)
	x.srv.count(func(st *State) { st.Files++ })
	if x.grant.Strike("status") {
		le.PutUint64(reply, 1048585)
		return x.write(message(r.kind, r.op, reply, nil))
	}
	size := disk.Size()
	if x.grant.Strike("capacity") {
		size += 512
	}
	if !x.grant.Strike("no-file") {
		le.PutUint64(reply[8:], x.handle)
	}
	copy(reply[16:24], r.payload[16:24])
	le.PutUint64(reply[28:], uint64(size))
	le.PutUint32(reply[36:], 512)
	le.PutUint32(reply[40:], uint32(min(size/(16*63*512), 65535)))
	le.PutUint32(reply[44:], 16)
	le.PutUint32(reply[48:], 63)
	return x.write(message(r.kind, r.op, reply, nil))
}

func (x *session) open(r request, path string) (Disk, *Refusal) {
	foreign := &Refusal{11, fmt.Sprintf("NfcAioProcessOpenFileMsg: permission check failed for file '%s', access = %d", path, 1)}
	switch {
	case x.buffer == 0:
		return nil, &Refusal{1, "no session is open"}
	case x.disk != nil:
		return nil, &Refusal{1, "a file is open on this session already"}
	case r.harm() != "" || x.grant.Strike("foreign"):
		return nil, foreign
	case strings.HasSuffix(path, "-flat.vmdk") || strings.HasSuffix(path, "-delta.vmdk"):
		return nil, &Refusal{1048585, "The file specified is not a virtual disk"}
	case x.grant.Strike("locked"):
		return nil, &Refusal{16392, "Failed to lock the file"}
	case x.grant.Strike("memory-open"):
		return nil, memory(24117272)
	}
	return x.grant.Open(path)
}

// allocated answers which chunks hold data.
func (x *session) allocated(r request) bool {
	chunk, start, n := le.Uint64(r.payload[16:]), le.Uint64(r.payload[24:]), le.Uint64(r.payload[32:])
	switch {
	case x.disk == nil || le.Uint64(r.payload) != x.handle:
		return x.fail(r, Refusal{1, "no such file"})
	case x.grant.Strike("no-blocks"):
		return x.fail(r, Refusal{1, "The operation is not supported on this datastore"})
	case chunk < 64<<10 || chunk > 1<<40 || n == 0 || n > 524288 || start%chunk != 0 ||
		start > uint64(x.disk.Size()) || n*chunk > uint64(x.disk.Size())-start:
		return x.fail(r, Refusal{1, "One of the parameters supplied is invalid"})
	}
	all := x.grant.Strike("all-blocks")
	bitmap := make([]byte, ((n+7)/8+3)/4*4)
	for i := range n {
		from := int64(start + i*chunk)
		data, err := x.disk.Allocated(from, from+int64(chunk))
		if err != nil {
			return x.fail(r, Refusal{1, "the map cannot be read"})
		}
		if data || all {
			bitmap[i/8] |= 1 << (i % 8)
		}
	}
	reply := make([]byte, 48)
	le.PutUint64(reply[32:], n)
	if x.grant.Strike("few-blocks") {
		le.PutUint64(reply[32:], n/2)
	}
	return x.write(message(r.kind, r.op, reply, bitmap))
}

func (x *session) closeFile(r request) bool {
	if x.disk == nil || le.Uint64(r.payload) != x.handle {
		return x.fail(r, Refusal{1, "no such file"})
	}
	if x.grant.Strike("no-close") {
		return true
	}
	x.disk.Close()
	x.disk = nil
	x.srv.count(func(st *State) { st.Files--; st.Closed++ })
	return x.write(message(r.kind, r.op, r.payload, nil))
}

// closeSession answers, waits a moment for the client's last message, and lets the
// connection end.
func (x *session) closeSession(r request) {
	if !x.write(message(r.kind, r.op, r.payload, nil)) {
		return
	}
	x.release()
	x.disk, x.buffer = nil, 0
	_ = x.tcp.SetReadDeadline(time.Now().Add(time.Second)) // the one that reads requests ends at it
	<-x.silent
}
