package nfc

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
)

// tagLength is how many bytes the client's nonce has.
const tagLength = 16

// newTag returns a nonce of letters and digits: no colon and no blank may be in it.
func newTag() string { return rand.Text()[:tagLength] }

// serviceFor is the service to ask for: the ticket's, encrypted.
func serviceFor(t Ticket, plain bool) string {
	service := t.Service
	if plain {
		service = "nfc"
	}
	if strings.HasSuffix(service, "ssl") {
		return service
	}
	return service + "ssl"
}

// dialogue presents a ticket to the host's authd (F-902-10).
type dialogue struct {
	conn   io.ReadWriter // the first TLS session
	host   string
	ticket Ticket
	tag    string
	cert   *x509.Certificate // that the host showed
	wait   func() error      // sets the time for the next answer
}

// run asks for the service. When it returns nil the host waits for the second TLS
// handshake.
func (d *dialogue) run(service string) error {
	if err := d.send("SESSION", "SESSION "+d.ticket.SessionID); err != nil { // it is not answered
		return err
	}
	if r, err := d.ask("BANNER", "BANNER "); err != nil {
		return err
	} else if r.code != 220 {
		return d.refused("BANNER", r, ErrTicket)
	}
	r, err := d.ask("THUMBPRINT_SHA2", "THUMBPRINT_SHA2 "+d.tag)
	if err != nil {
		return err
	}
	if r.code != 200 {
		return d.refused("THUMBPRINT_SHA2", r, ErrTicket)
	}
	announced, err := hex.DecodeString(strings.ReplaceAll(r.text, ":", ""))
	if err != nil || !bytes.Equal(announced, sum256(d.cert)) {
		return &Error{Host: d.host, Stage: "THUMBPRINT_SHA2", Kind: ErrCertificate, Err: errors.New("the host announces another one than it has shown")}
	}
	if r, err = d.ask("PROXY", "PROXY "+service); err != nil {
		return err
	}
	switch {
	case r.code != 200:
		return d.refused("PROXY", r, ErrService)
	case !strings.HasSuffix(r.text, "ssl"):
		return d.refused("PROXY", r, ErrClear)
	}
	return nil
}

// send writes one line, in one write. Errors do not repeat it: it may be the ticket.
func (d *dialogue) send(stage, line string) error {
	if err := d.wait(); err != nil {
		return broken(d.host, stage, err)
	}
	if _, err := io.WriteString(d.conn, line+"\r\n"); err != nil {
		return broken(d.host, stage, err)
	}
	return nil
}

// ask sends a line and reads the answer. A ticket that is not accepted may show as
// the end of the connection.
func (d *dialogue) ask(stage, line string) (reply, error) {
	if err := d.send(stage, line); err != nil {
		return reply{}, err
	}
	answer, err := readLine(d.conn)
	if errors.Is(err, errLineTooLong) {
		return reply{}, &Error{Host: d.host, Stage: stage, Kind: ErrProtocol, Err: err}
	}
	if err != nil {
		err = broken(d.host, stage, err)
		if errors.Is(err, ErrOver) {
			err = &Error{Host: d.host, Stage: stage, Kind: ErrTicket, Err: errors.New("the host hung up")}
		}
		return reply{}, err
	}
	r, err := parseReply(answer)
	if err != nil {
		return reply{}, &Error{Host: d.host, Stage: stage, Kind: ErrProtocol, Text: printable(answer, d.ticket.SessionID), Err: err}
	}
	return r, nil
}

func (d *dialogue) refused(stage string, r reply, kind error) error {
	return &Error{Host: d.host, Stage: stage, Kind: kind, Text: printable(fmt.Sprintf("%d %s", r.code, r.text), d.ticket.SessionID)}
}

func sum256(cert *x509.Certificate) []byte {
	sum := sha256.Sum256(cert.Raw)
	return sum[:]
}

// colonHex writes b as vSphere writes thumbprints.
func colonHex(b []byte) string {
	out := make([]string, len(b))
	for i, c := range b {
		out[i] = fmt.Sprintf("%02X", c)
	}
	return strings.Join(out, ":")
}
