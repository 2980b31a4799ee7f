package authd

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"strings"
)

const greeting = "220 VMware Authentication Daemon Version 1.10: SSL Required, ServerDaemonProtocol:SOAP, MKSDisplayProtocol:VNC , VMXARGS supported, NFCSSL supported/t, SHA256 supported"

// greet says hello. It is false when the connection is over.
func (s *Server) greet(ctx context.Context, c net.Conn) bool {
	line := cmp.Or(s.cfg.Greeting, greeting)
	strike := s.cfg.Strike
	switch {
	case strike("close"):
		return false
	case strike("silent"):
		<-ctx.Done()
		return false
	case strike("busy"):
		_, _ = io.WriteString(c, "Resource temporarily unavailable\r\n")
		return false
	case strike("no-sha256"):
		line = strings.TrimSuffix(line, ", SHA256 supported")
	case strike("no-nfcssl"):
		line = strings.Replace(line, ", NFCSSL supported/t", "", 1)
	case strike("long-line"):
		line += strings.Repeat(", X", 700)
	case strike("bytes"):
		for i := range len(line) {
			if _, err := io.WriteString(c, line[i:i+1]); err != nil {
				return false
			}
		}
		line = ""
	}
	if _, err := io.WriteString(c, line+"\r\n"); err != nil {
		return false
	}
	switch {
	case strike("close-after"):
		return false
	case strike("plain-answer"):
		_, _ = io.WriteString(c, "500 no TLS here\r\n")
		return false
	}
	return true
}

// maxLine is the longest line that a client may send.
const maxLine = 1024

// dialogue is what happens in the first TLS session.
type dialogue struct {
	srv   *Server
	conn  net.Conn
	shown []byte // the certificate

	ticket string
	grant  Grant
	tag    string
	tagged bool
	clear  bool // the client asked to go on without TLS
}

// run answers commands until a service is granted. It is false when the connection is
// over.
func (d *dialogue) run() bool {
	for {
		line, ok := d.line()
		if !ok {
			return false
		}
		command, arg, _ := strings.Cut(line, " ")
		answer, done := d.command(command, arg)
		if answer == "" {
			if d.grant != nil && d.grant.Strike("close-session") {
				return false
			}
			continue
		}
		end := "\r\n"
		if done && d.grant.Strike("stray") {
			end += "x"
		}
		if _, err := io.WriteString(d.conn, answer+end); err != nil {
			return false
		}
		if done {
			return true
		}
	}
}

// line reads one line.
func (d *dialogue) line() (string, bool) {
	var line []byte
	one := make([]byte, 1)
	for len(line) < maxLine {
		if _, err := io.ReadFull(d.conn, one); err != nil {
			return "", false
		}
		if one[0] == '\n' {
			return strings.TrimSuffix(string(line), "\r"), true
		}
		line = append(line, one[0])
	}
	return "", false
}

const (
	loginFirst = "530 Please login with USER and PASS"
	badArgs    = "501 Invalid arguments"
)

// command answers one command; SESSION is not answered. done means that the next
// layer begins.
func (d *dialogue) command(command, arg string) (answer string, done bool) {
	switch command {
	case "SESSION":
		d.ticket = arg
		if d.grant = d.srv.cfg.Redeem(arg); d.grant != nil && d.grant.Strike("expired") {
			d.grant = nil
		}
		return "", false
	case "USER":
		return "331 Password required for user", false
	case "PASS":
		return "530 Login incorrect", false
	}
	if d.grant == nil {
		return loginFirst, false
	}
	switch command {
	case "BANNER":
		return "220 VMware Authentication Daemon Version 1.10", false
	case "THUMBPRINT_SHA2":
		return d.thumbprint(arg), false
	case "PROXY":
		return d.proxy(arg)
	}
	return loginFirst, false
}

func (d *dialogue) thumbprint(tag string) string {
	sum := sha256.Sum256(d.shown)
	switch {
	case d.grant.Strike("501"):
		return badArgs
	case d.grant.Strike("530"):
		return loginFirst
	case tag == "" || len(tag) > 16 || strings.ContainsAny(tag, ": "):
		return badArgs
	case d.grant.Strike("wrong-sha256"):
		sum[0] ^= 0xff
	}
	d.tag, d.tagged = tag, true
	hex := make([]string, len(sum))
	for i, b := range sum {
		hex[i] = fmt.Sprintf("%02X", b)
	}
	return "200 " + strings.Join(hex, ":")
}

func (d *dialogue) proxy(service string) (answer string, done bool) {
	switch {
	case d.grant.Strike("echo"):
		return "501 no " + service + " for " + d.ticket, false
	case service == "vpxa-nfcssl" && d.grant.Strike("refuse-vpxa"), service == "nfcssl" && d.grant.Strike("refuse-nfcssl"):
		return "501 unknown service " + service, false
	}
	switch service {
	case "nfcssl", "vpxa-nfcssl":
		if d.grant.Strike("clear") {
			d.clear = true
			return "200 Connect ha-nfc", true
		}
		return "200 Connect ha-nfcssl", true
	case "nfc", "vpxa-nfc":
		d.clear = true
		return "200 Connect ha-nfc", true
	}
	return badArgs, false
}
