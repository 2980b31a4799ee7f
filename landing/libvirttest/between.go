package libvirttest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
)

// Procedure is a call of libvirt's remote protocol, by its number there.
type Procedure uint32

// Calls that tests have something to say to.
const (
	Create             Procedure = 9
	Destroy            Procedure = 12
	GetAutostart       Procedure = 15
	SetAutostart       Procedure = 29
	IsActive           Procedure = 150
	OpenConsole        Procedure = 201
	GetState           Procedure = 212
	ShutdownFlags      Procedure = 258
	DefineXMLFlags     Procedure = 350
	InterfaceAddresses Procedure = 353
)

// Verdict is what becomes of a call. The zero value hands it on to libvirtd.
type Verdict struct {
	Reply  []byte // is answered in libvirtd's place, in XDR
	Refuse string // is the error that is answered in its place
	Cut    bool   // the connection ends in place of the call
	After  bool   // with Cut: libvirtd does the call, and the connection ends in place of its answer
}

// Call is a call on its way to libvirtd.
type Call struct {
	Procedure Procedure
	Args      []byte // XDR
}

var sockets atomic.Int64

// Between opens a socket before libvirtd's, and returns the URI of the QEMU driver
// there. judge decides what becomes of each call; connections ask it side by side.
func (s *Server) Between(judge func(Call) Verdict) (uri string) {
	s.t.Helper()
	socket := filepath.Join(s.dir, fmt.Sprint("between-", sockets.Add(1)))
	l, err := net.Listen("unix", socket)
	if err != nil {
		s.t.Fatal(err)
	}
	var all sync.WaitGroup
	s.t.Cleanup(func() {
		_ = l.Close()
		all.Wait()
	})
	all.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("unix", s.socket())
			if err != nil { // libvirtd is away
				_ = client.Close()
				continue
			}
			b := &between{client: client, server: server, judge: judge}
			all.Go(b.calls)
			all.Go(b.answers)
		}
	})
	return "qemu+unix:///system?socket=" + socket
}

// between is a connection.
type between struct {
	client, server net.Conn
	judge          func(Call) Verdict
	mu             sync.Mutex // of writes to client
	last           atomic.Uint32
}

const (
	remoteProgram = 0x20008086
	headerSize    = 28 // the length, and six numbers
	typeCall      = 0
	typeReply     = 1
	statusError   = 1
)

// packet is a packet of the protocol, with its header.
type packet []byte

func (p packet) at(field int) uint32 { return binary.BigEndian.Uint32(p[4*field:]) }

// Fields of a header.
const (
	fieldProgram = 1 + iota
	fieldVersion
	fieldProcedure
	fieldType
	fieldSerial
	fieldStatus
)

func readPacket(r io.Reader) (packet, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n < headerSize || n > 32<<20 {
		return nil, errors.New("no packet of libvirt's")
	}
	p := make(packet, n)
	copy(p, size[:])
	_, err := io.ReadFull(r, p[4:])
	return p, err
}

func (b *between) close() {
	_ = b.client.Close()
	_ = b.server.Close()
}

// calls takes what the client sends.
func (b *between) calls() {
	defer b.close()
	for {
		p, err := readPacket(b.client)
		if err != nil {
			return
		}
		if p.at(fieldProgram) == remoteProgram && p.at(fieldType) == typeCall {
			v := b.judge(Call{Procedure(p.at(fieldProcedure)), p[headerSize:]})
			switch {
			case v.Cut && !v.After:
				return
			case v.Cut:
				b.last.Store(p.at(fieldSerial))
			case v.Refuse != "":
				if b.answer(p, statusError, refusal(v.Refuse)) != nil {
					return
				}
				continue
			case v.Reply != nil:
				if b.answer(p, 0, v.Reply) != nil {
					return
				}
				continue
			}
		}
		if _, err := b.server.Write(p); err != nil {
			return
		}
	}
}

// answers takes what libvirtd sends.
func (b *between) answers() {
	defer b.close()
	for {
		p, err := readPacket(b.server)
		if err != nil || p.at(fieldType) == typeReply && b.last.Load() != 0 && p.at(fieldSerial) == b.last.Load() {
			return
		}
		b.mu.Lock()
		_, err = b.client.Write(p)
		b.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// answer answers a call in libvirtd's place.
func (b *between) answer(call packet, status uint32, payload []byte) error {
	p := binary.BigEndian.AppendUint32(nil, uint32(headerSize+len(payload)))
	p = append(p, call[4:16]...)
	p = binary.BigEndian.AppendUint32(p, typeReply)
	p = binary.BigEndian.AppendUint32(p, call.at(fieldSerial))
	p = append(binary.BigEndian.AppendUint32(p, status), payload...)
	b.mu.Lock()
	defer b.mu.Unlock()
	_, err := b.client.Write(p)
	return err
}

// refusal is an error in XDR: code, domain, message, level, and nothing else.
func refusal(message string) []byte {
	const operationFailed, ofQEMU, levelError = 9, 10, 2
	p := numbers(operationFailed, ofQEMU, 1)
	p = append(p, text(message)...)
	return append(p, numbers(levelError, 0, 0, 0, 0, 0, 0, 0)...)
}

// Addresses is the answer to [InterfaceAddresses] with the cards of a guest: the
// loopback and one other.
func Addresses(name, mac, address string) []byte {
	card := func(name, mac, address string) []byte {
		p := append(text(name), numbers(1)...)
		p = append(append(p, text(mac)...), numbers(1, 0)...)
		return append(append(p, text(address)...), numbers(24)...)
	}
	p := append(numbers(2), card("lo", "00:00:00:00:00:00", "127.0.0.1")...)
	return append(p, card(name, mac, address)...)
}

// Source is whom an [InterfaceAddresses] is to be answered by: 0 is leases, 1 the agent.
func (c Call) Source() uint32 { return binary.BigEndian.Uint32(c.Args[len(c.Args)-8:]) }

func numbers(all ...uint32) (p []byte) {
	for _, n := range all {
		p = binary.BigEndian.AppendUint32(p, n)
	}
	return p
}

func text(s string) []byte {
	p := append(numbers(uint32(len(s))), s...)
	return append(p, make([]byte, (4-len(s)%4)%4)...)
}
