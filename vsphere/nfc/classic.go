package nfc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// classicSize is the length of every classic message in bytes (F-902-13).
const classicSize = 264

// Types of the classic messages that this client sends or reads. There are others,
// some of which change things on the host: they have no place here.
const (
	classicComplete = 4  // the end; instead of an answer, a refusal
	classicError    = 20 // an older form of refusal, with a text
	classicSession  = 33
	classicStatus   = 36
	classicNonce    = 43
	classicVersion  = 51
	classicAIO      = 52
	classicNames    = 54
	classicFeatures = 55
)

// Versions of the library (F-902-13): what is sent, and the least that the host must
// answer so that disks can be read at random.
const (
	ourVersion   = 11
	leastVersion = 3
)

// statusPatience is how long the host may take to say that the session is set up
// before the next message is sent: some say so only after that (F-902-14).
const statusPatience = time.Second

// classic makes a message of a type with fields, which follow it.
func classic(kind uint32, fields ...uint32) []byte {
	m := make([]byte, classicSize)
	binary.LittleEndian.PutUint32(m, kind)
	for i, f := range fields {
		binary.LittleEndian.PutUint32(m[4+4*i:], f)
	}
	return m
}

// nonceMessage brings the tag of the dialogue once more.
func nonceMessage(tag string) []byte {
	m := classic(classicNonce)
	copy(m[4:], tag)
	return m
}

// namesMessage tells who reads, and how, in one write.
func namesMessage() []byte {
	const client, mode = "hyper2kvm", "nbdmode"
	return append(classic(classicNames, uint32(len(client)), uint32(len(mode))), client+mode...)
}

// handshake agrees with the host on reading disks at random (F-902-13). Each
// message is one write, and so one TLS record (F-902-11).
type handshake struct {
	conn     net.Conn
	in       io.Reader // what conn brings, and a peek
	peek     func() error
	host     string
	wait     func() error // sets the time for the next answer
	patience time.Duration

	version int  // of the host, once it has told
	late    bool // message 36 came after 51
}

func (h *handshake) run(tag string) error {
	for _, m := range [][]byte{nonceMessage(tag), classic(classicSession)} {
		if err := h.send(m); err != nil {
			return err
		}
	}
	early, err := h.comes()
	if err != nil {
		return err
	}
	if early {
		if err := h.status(); err != nil {
			return err
		}
	}
	if err := h.send(classic(classicVersion, ourVersion, 0)); err != nil {
		return err
	}
	if !early {
		if err := h.status(); err != nil {
			return err
		}
		h.late = true
	}
	m, err := h.expect(classicVersion)
	if err != nil {
		return err
	}
	v := binary.LittleEndian.Uint32(m[4:])
	h.version = int(v)
	if v < leastVersion {
		return &Error{Host: h.host, Stage: "version", Kind: ErrUnsupported, Err: fmt.Errorf("it has version %d of NFC, and %d is the least that reads disks at random", v, leastVersion)}
	}
	for _, m := range [][]byte{namesMessage(), classic(classicFeatures, 3, 0), classic(classicAIO)} {
		if err := h.send(m); err != nil {
			return err
		}
	}
	_, err = h.expect(classicAIO)
	return err
}

// comes waits a moment for the host to say something.
func (h *handshake) comes() (bool, error) {
	if err := h.conn.SetReadDeadline(time.Now().Add(h.patience)); err != nil {
		return false, broken(h.host, "handshake", err)
	}
	err := h.peek()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return false, nil
	}
	if err != nil {
		return false, broken(h.host, "handshake", err)
	}
	return true, nil
}

// status reads that the session is set up. A host that knows of no versions has none
// of what comes next.
func (h *handshake) status() error {
	m, err := h.expect(classicStatus)
	if err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(m[16:]) == 0 {
		return &Error{Host: h.host, Stage: "handshake", Kind: ErrUnsupported, Err: errors.New("it knows no versions of NFC")}
	}
	return nil
}

func (h *handshake) send(m []byte) error {
	err := h.wait()
	if err == nil {
		_, err = h.conn.Write(m)
	}
	if err != nil {
		return broken(h.host, "handshake", err)
	}
	return nil
}

// expect reads a message of that type. Any other is a refusal.
func (h *handshake) expect(kind uint32) ([]byte, error) {
	if err := h.wait(); err != nil {
		return nil, broken(h.host, "handshake", err)
	}
	m := make([]byte, classicSize)
	if _, err := io.ReadFull(h.in, m); err != nil {
		return nil, broken(h.host, "handshake", err)
	}
	got := binary.LittleEndian.Uint32(m)
	if got == kind {
		return m, nil
	}
	e := &Error{Host: h.host, Stage: "handshake", Kind: ErrRefused, Err: fmt.Errorf("expected message %d, got %d", kind, got)}
	if got == classicError {
		e.Code, e.Text = uint64(binary.LittleEndian.Uint32(m[8:])), h.text(m)
		e.Kind = kindOf(e.Code, e.Text)
	}
	return nil, e
}

// text reads what an error message of the older form says.
func (h *handshake) text(m []byte) string {
	n := binary.LittleEndian.Uint32(m[12:])
	if n > maxErrorText {
		return ""
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(h.in, text); err != nil {
		return ""
	}
	return printable(string(text), "")
}
