package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// maxHeader bounds a request's header, in bytes.
const maxHeader = 64 << 10

// Server returns an HTTP server for the API, with the deadlines and bounds that
// it is made for. Shut it down with [http.Server.Shutdown], which also cuts off
// the event streams. Give its Serve a [Listener].
func (a *API) Server() *http.Server {
	s := &http.Server{
		Handler:           a,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(a.log.Handler(), slog.LevelWarn),
	}
	s.RegisterOnShutdown(a.StopStreams)
	return s
}

// Listener returns l with connections on which the errors that package http
// answers without asking its handler (a header that is too large, a request that
// is none) have the shape of every other error.
func Listener(l net.Listener) net.Listener { return listener{l} }

type listener struct{ net.Listener }

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return conn{c}, nil
}

// conn translates what package http writes on its own.
type conn struct{ net.Conn }

// ownAnswer matches such an answer. It is written in one call, and no answer of
// a handler begins so: those have a Date, and 417 is none of ours.
var ownAnswer = regexp.MustCompile(`\AHTTP/1\.1 (?:(\d{3}) [^\r\n]*\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n|(417) )`)

// Write implements [net.Conn].
func (c conn) Write(b []byte) (int, error) {
	m := ownAnswer.FindSubmatch(b)
	if m == nil {
		return c.Conn.Write(b)
	}
	status, _ := strconv.Atoi(string(m[1]) + string(m[2]))
	if _, err := c.Conn.Write(translate(status, string(b[len(m[0]):]))); err != nil {
		return 0, err
	}
	return len(b), nil
}

// CloseWrite lets package http wait until the client has read an error.
func (c conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// NetConn is the connection below, as of a [crypto/tls.Conn].
func (c conn) NetConn() net.Conn { return c.Conn }

// translate makes our answer of package http's. text is its body.
func translate(status int, text string) []byte {
	title := fmt.Sprintf("%d %s", status, http.StatusText(status))
	detail := strings.TrimPrefix(strings.TrimPrefix(text, title), ": ")
	switch {
	case status == http.StatusRequestHeaderFieldsTooLarge:
		detail = fmt.Sprintf("the request's header is larger than %d bytes", maxHeader)
	case status == http.StatusExpectationFailed:
		detail = "the only expectation that is met is 100-continue"
	case detail == "":
		detail = "this is not a valid HTTP request"
	}
	return Answer(status, detail)
}

// Answer is an error as it goes over the wire, header and all, to a connection that
// is closed after it.
func Answer(status int, detail string) []byte {
	e := failure(status, detail)
	if status == http.StatusServiceUnavailable {
		e = busy(detail)
	}
	var head, body bytes.Buffer
	_ = e.GetHeaders().Write(&head)                                // cannot fail
	_ = json.NewEncoder(&body).Encode(e.problem(time.Now().UTC())) // nor can this
	return fmt.Appendf(nil, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nX-Content-Type-Options: nosniff\r\n%sConnection: close\r\nContent-Length: %d\r\n\r\n%s",
		status, http.StatusText(status), problemType, &head, body.Len(), body.Bytes())
}
