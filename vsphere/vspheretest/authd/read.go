package authd

import (
	"fmt"
	"io"
	"slices"
)

// Codings of fragments. FastLZ is answered raw, as a host may.
const (
	raw   = 0
	zlib1 = 1
	skipZ = 3
)

// maxRead is the longest read that is answered, in bytes.
const maxRead = 32 << 20

// piece is a fragment that is to be sent.
type piece struct {
	r    request
	off  int64  // of the request
	of   uint32 // length of the request
	at   uint32
	n    uint32
	code uint32 // that was asked for
}

// reads answers several reads at once.
func (x *session) reads(batch []request) bool {
	if x.grant.Strike("reversed") {
		slices.Reverse(batch)
	}
	var pieces []piece
	for _, r := range batch {
		p := r.payload
		off, n := le.Uint64(p[16:]), uint64(le.Uint32(p[24:]))
		e := x.checkRead(r, off, n)
		if e != nil {
			if !x.fail(r, *e) {
				return false
			}
			continue
		}
		if x.grant.Strike("read-status") {
			reply := slices.Clone(p)
			le.PutUint64(reply, 1048585)
			if !x.write(message(opIO, r.op, reply, nil)) {
				return false
			}
			continue
		}
		x.disk.Asked(int64(off), int64(n))
		pieces = append(pieces, x.split(r, int64(off), uint32(n))...)
	}
	x.rng.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
	for i, p := range pieces {
		if x.grant.Strike("gap") {
			continue
		}
		if i == len(pieces)/2 && x.grant.Strike("read-error") {
			return x.fail(p.r, Refusal{1048585, "NfcAioReadFile failed"})
		}
		if !x.send(p) {
			return false
		}
		if x.grant.Strike("overlap") {
			again := p
			if again.n > 1 { // and only in part the same
				again.at, again.n = again.at+again.n/2, again.n-again.n/2
			}
			if !x.send(again) {
				return false
			}
		}
	}
	return true
}

func (x *session) checkRead(r request, off, n uint64) *Refusal {
	switch {
	case x.disk == nil || le.Uint64(r.payload) != x.handle:
		return &Refusal{1, "no such file"}
	case r.harm() != "":
		return &Refusal{11, "the file is open to read"}
	case n == 0 || n > maxRead || off%512 != 0 || n%512 != 0 || off > uint64(x.disk.Size()) || n > uint64(x.disk.Size())-off:
		return &Refusal{1, fmt.Sprintf("%d bytes at %d cannot be read", n, off)}
	case x.grant.Strike("read-memory"):
		return memory(2097176)
	}
	return nil
}

// split cuts an answer into fragments, each no longer than the session's buffer.
func (x *session) split(r request, off int64, n uint32) []piece {
	most := uint32(x.buffer)
	uneven := x.grant.Strike("uneven")
	if x.grant.Strike("small") {
		most = 512
	}
	code := le.Uint32(r.payload[12:])
	var out []piece
	for at := uint32(0); at < n; {
		l := min(most, n-at)
		if uneven {
			l = min(l, 1+x.rng.Uint32N(most))
		}
		out = append(out, piece{r, off, n, at, l, code})
		at += l
	}
	return out
}

// reply is the payload of a fragment that comes as so many bytes.
func (p piece) reply(code, wire uint32) []byte {
	b := make([]byte, 44)
	le.PutUint32(b[8:], 1)
	le.PutUint32(b[12:], code)
	le.PutUint64(b[16:], uint64(p.off))
	le.PutUint32(b[24:], p.of)
	le.PutUint32(b[28:], p.at)
	le.PutUint32(b[32:], p.n)
	le.PutUint32(b[36:], wire)
	return b
}

// send sends one fragment, with what goes wrong with it.
func (x *session) send(p piece) bool {
	data := make([]byte, p.n)
	from := p.off + int64(p.at)
	if _, err := x.disk.ReadAt(data, from); err != nil && err != io.EOF {
		return x.fail(p.r, Refusal{1048585, "the disk cannot be read"})
	}
	fate := x.disk.Sending(x.ctx, from, from+int64(p.n))
	if fate.Flip >= from && fate.Flip < from+int64(p.n) {
		data[fate.Flip-from] ^= 0xff
	}
	code, wire := x.encode(data, p.code)
	m := x.spoil(p, message(opIO, p.r.op, p.reply(code, uint32(len(wire))), wire), code, wire)
	if x.grant.Strike("drop-in-message") {
		fate.Cut = true
	}
	if fate.Cut || fate.Stall {
		_ = x.write(m[:len(m)/2])
		if fate.Stall {
			select {
			case <-x.ctx.Done():
			case <-x.silent: // the client has given up
			}
		}
		reset(x.tcp)
		return false
	}
	if !x.write(m) {
		return false
	}
	x.disk.Sent(from, from+int64(p.n), len(wire))
	return true
}

// spoil makes of a message what the faults that are due make of it.
func (x *session) spoil(p piece, m []byte, code uint32, wire []byte) []byte {
	op, reply := p.r.op, p.reply(code, uint32(len(wire)))
	strike := x.grant.Strike
	switch {
	case strike("past-end"):
		le.PutUint32(reply[28:], p.at+p.of)
	case strike("empty"):
		le.PutUint32(reply[32:], 0)
		le.PutUint32(reply[36:], 0)
		wire = nil
	case strike("wrong-op"):
		op += 1000
	case strike("wrong-offset"):
		le.PutUint64(reply[16:], uint64(p.off)+512)
	case strike("wrong-magic"):
		m[0] ^= 0xff
		return m
	case strike("wrong-type"):
		le.PutUint32(m[4:], opSockOpts)
		return m
	case strike("short-payload"):
		return message(opIO, op, reply[:40], wire)
	case strike("long-payload"):
		return message(opIO, op, append(reply, 1, 2, 3, 4), wire)
	case strike("huge-payload"):
		le.PutUint32(m[8:], 1<<30)
		return m
	case strike("huge-fragment"):
		le.PutUint32(reply[36:], 1<<30)
	case strike("unknown-code"):
		le.PutUint32(reply[12:], 77)
	case strike("huge-error"):
		e := make([]byte, 16)
		le.PutUint64(e, 1)
		le.PutUint32(e[12:], 1<<30)
		return message(opError, op, e, nil)
	case strike("bad-zlib"):
		wire = []byte{0x78, 0x01, 0xff, 0xff, 0xff, 0xff}
		le.PutUint32(reply[12:], p.code)
		le.PutUint32(reply[36:], uint32(len(wire)))
	case strike("long-zlib"):
		wire = deflate(make([]byte, p.n+1))
		le.PutUint32(reply[12:], p.code)
		le.PutUint32(reply[36:], uint32(len(wire)))
	case strike("bad-runs"):
		wire = le.AppendUint32(nil, p.n)
		for _, v := range []uint32{0, p.n - 1, 8, 0, 0} {
			wire = le.AppendUint32(wire, v)
		}
		le.PutUint32(reply[12:], skipZ)
		le.PutUint32(reply[36:], uint32(len(wire)))
	default:
		return m
	}
	return message(opIO, op, reply, wire)
}

// encode codes a fragment as asked, unless that would not make it smaller.
func (x *session) encode(data []byte, asked uint32) (code uint32, wire []byte) {
	if x.grant.Strike("raw") {
		return raw, data
	}
	switch asked {
	case zlib1:
		wire = deflate(data)
	case skipZ:
		wire = skipZeros(data)
	default:
		return raw, data
	}
	if len(wire) < len(data) {
		return asked, wire
	}
	if x.grant.Strike("code-raw") {
		return asked, data
	}
	return raw, data
}
