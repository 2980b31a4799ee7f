package client

import (
	"net/http"
	"strings"
	"testing"
)

func TestWhatIsForThisMachineStaysOnIt(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"http://localhost:8080", "https://127.0.0.1:8443", "unix:///x.sock"} {
		c, err := New(url, Options{Token: "t"})
		if err != nil {
			t.Fatal(err)
		}
		if c.http.Transport.(*http.Transport).Proxy != nil {
			t.Errorf("%s goes through a proxy", url)
		}
	}
	c, err := New("http://localhost:8080", Options{Token: "t"})
	if err != nil {
		t.Fatal(err)
	}
	// Whoever answers for the name localhost gets nothing.
	if _, err := c.dial(t.Context(), "tcp", "192.0.2.1:8080"); err == nil || !strings.Contains(err.Error(), "no address of this machine's loopback") {
		t.Error(err)
	}
}
