package vsphere

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// overWire sends a request over a wire to a server that answers by h.
func overWire(t *testing.T, ctx context.Context, h http.HandlerFunc) (string, error) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL, strings.NewReader("<Envelope/>"))
	if err != nil {
		t.Fatal(err)
	}
	res, err := (&http.Client{Transport: newWire(tr)}).Do(r)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return string(b), err
}

func TestTheWireTellsWhatIsNoAnswer(t *testing.T) {
	t.Parallel()
	page := "<?xml version='1.0'?><!DOCTYPE html><html><body>back soon</body></html>"
	for name, tc := range map[string]struct {
		h    http.HandlerFunc
		want outcome
		says string
	}{
		"a page with 200": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, page) }, doubtful, "not SOAP"},
		"a page with 500": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500); _, _ = io.WriteString(w, page) }, unknown, "not SOAP"},
		"503": {func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "no healthy upstream", http.StatusServiceUnavailable)
		}, doubtful, "503"},
		"502":                {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "", http.StatusBadGateway) }, unknown, "502"},
		"504":                {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "", http.StatusGatewayTimeout) }, unknown, "504"},
		"an empty body":      {func(http.ResponseWriter, *http.Request) {}, unknown, "EOF"},
		"a redirect":         {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/login", http.StatusFound) }, doubtful, "302"},
		"forbidden":          {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "", http.StatusForbidden) }, answered, "403"},
		"a connection's end": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, unknown, "EOF"},
		"a body's end": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "5000")
			_, _ = io.WriteString(w, "<Envelope>")
		}, unknown, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := overWire(t, t.Context(), tc.h)
			if err == nil || outcomeOf(err, true) != tc.want || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("error %v with outcome %d, want %d and %q", err, outcomeOf(err, true), tc.want, tc.says)
			}
			if e := translate("read", "", err); tc.want != answered && !errors.Is(e, ErrUnreachable) {
				t.Errorf("%v is not ErrUnreachable", e)
			}
		})
	}
	long := "<?xml version='1.0'?><soapenv:Envelope>" + strings.Repeat("x", 1<<20) + "</soapenv:Envelope>"
	for _, code := range []int{200, 500} {
		got, err := overWire(t, t.Context(), func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code); _, _ = io.WriteString(w, long) })
		if err != nil || got != long {
			t.Errorf("an answer with %d: %d bytes, %v", code, len(got), err)
		}
	}
}

func TestACallThatMustNotBeSentTwiceHasAConnectionOfItsOwn(t *testing.T) {
	t.Parallel()
	seen := make(chan string, 4)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r.RemoteAddr
		_, _ = io.WriteString(w, "<Envelope/>")
	}))
	defer s.Close()
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	c := &http.Client{Transport: newWire(tr)}
	send := func(ctx context.Context) string {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL, strings.NewReader("<Envelope/>"))
		if err != nil {
			t.Fatal(err)
		}
		res, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		return <-seen
	}
	changing := context.WithValue(t.Context(), freshKey{}, true)
	first, second := send(t.Context()), send(t.Context())
	own, other := send(changing), send(changing)
	if first != second || own == first || other == own {
		t.Errorf("connections %s, %s for reading, %s, %s for changing", first, second, own, other)
	}
}

func TestARequestThatFoundNobodyWasNotSent(t *testing.T) {
	t.Parallel()
	tr := &http.Transport{}
	_, err := (&http.Client{Transport: newWire(tr)}).Post("http://127.0.0.1:1", "text/xml", strings.NewReader("<Envelope/>")) //nolint:bodyclose // there is none
	if outcomeOf(err, false) != unsent {
		t.Errorf("error %v with outcome %d", err, outcomeOf(err, false))
	}
}
