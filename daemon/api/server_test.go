package api_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/daemon/api"
)

func TestWhatIsNoRequestIsAnsweredInJSONToo(t *testing.T) {
	t.Parallel()
	d := start(t, api.Options{})
	for name, tt := range map[string]struct {
		request string
		status  int
		want    string
	}{
		"a header that is too large":   {"GET /health HTTP/1.1\r\nHost: localhost\r\nX-A: " + strings.Repeat("a", 80<<10) + "\r\n\r\n", 431, "header is larger than 65536 bytes"},
		"many headers":                 {"GET /health HTTP/1.1\r\nHost: localhost\r\n" + strings.Repeat("X-A: aaaaaaaaaaaaaaaaaa\r\n", 5000) + "\r\n", 431, "header is larger"},
		"a path that is too long":      {"GET /" + strings.Repeat("a", 80<<10) + " HTTP/1.1\r\nHost: localhost\r\n\r\n", 431, "header is larger"},
		"no Host":                      {"GET /health HTTP/1.1\r\n\r\n", 400, "missing required Host header"},
		"no HTTP at all":               {"hello\r\n\r\n", 400, "not a valid HTTP request"},
		"a header without a colon":     {"GET /health HTTP/1.1\r\nHost: localhost\r\nhunter2\r\n\r\n", 400, "not a valid HTTP request"},
		"another version of HTTP":      {"GET /health HTTP/3.0\r\nHost: localhost\r\n\r\n", 505, "unsupported protocol version"},
		"an unknown transfer encoding": {"POST /jobs/query HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: zip\r\n\r\n", 501, "transfer encoding"},
		"an expectation of its own":    {"POST /jobs/query HTTP/1.1\r\nHost: localhost\r\nExpect: wonders\r\nContent-Length: 2\r\n\r\n{}", 417, "100-continue"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := net.Dial("tcp", strings.TrimPrefix(d.URL, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			go func() { _, _ = io.WriteString(c, tt.request) }() // the daemon may stop reading
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			a := answer{resp.StatusCode, resp.Header, string(b)}
			assertProblem(t, a, tt.status)
			if !strings.Contains(a.body, tt.want) || strings.Contains(a.body, "hunter2") {
				t.Errorf("want %q, and no value, in %s", tt.want, a.body)
			}
		})
	}
}
