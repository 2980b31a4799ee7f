package transfer_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/transfer"
)

func TestProbeTrustsOnlyAMatching206(t *testing.T) {
	t.Parallel()
	partial := func(contentRange, tag string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet || r.Header.Get("Range") != "bytes=0-0" {
				t.Errorf("the probe is %s with Range %q", r.Method, r.Header.Get("Range"))
			}
			w.Header().Set("Content-Range", contentRange)
			w.Header().Set("ETag", tag)
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write([]byte("x"))
		}
	}
	none := transfer.Info{Size: -1}
	for name, test := range map[string]struct {
		server http.HandlerFunc
		want   transfer.Info
	}{
		"a matching range counts":            {partial("bytes 0-0/1000", etag), transfer.Info{Size: 1000, Ranges: true, ETag: etag}},
		"a weak validator is left out":       {partial("bytes 0-0/1000", `W/"one"`), transfer.Info{Size: 1000, Ranges: true}},
		"a validator without quotes as well": {partial("bytes 0-0/1000", `one`), transfer.Info{Size: 1000, Ranges: true}},
		"another range does not count":       {partial("bytes 0-1/1000", etag), none},
		"nor one that starts elsewhere":      {partial("bytes 1-1/1000", etag), none},
		"nor an unknown size":                {partial("bytes 0-0/*", etag), none},
		"nor an empty object":                {partial("bytes 0-0/0", etag), none},
		"nor a missing header":               {partial("", etag), none},
		"nor another unit":                   {partial("lines 0-0/1000", etag), none},
		"a 200 without length is a stream": {func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush()
		}, none},
		"a 200 with a length is a stream of that size": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "5")
			_, _ = io.WriteString(w, "hello")
		}, transfer.Info{Size: 5}},
		"a range that cannot be satisfied is a stream": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes */0")
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		}, none},
		"a range that is not implemented is a stream": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNotImplemented)
		}, none},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := serve(t, test.server).Probe(t.Context())
			if err != nil || got != test.want {
				t.Errorf("Probe = %+v, %v; want %+v", got, err, test.want)
			}
		})
	}
}

func TestProbeClosesAStreamWithoutReadingIt(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		piece := make([]byte, 1<<20)
		for { // a stream without end
			if _, err := w.Write(piece); err != nil {
				ended <- err
				return
			}
		}
	}))
	if _, err := s.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("the server could write the whole stream")
	}
}

func TestARefusalIsATypedErrorWithoutSecrets(t *testing.T) {
	t.Parallel()
	for _, code := range []int{401, 403, 404, 429, 500, 503} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			t.Parallel()
			s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", "7")
				http.Error(w, "s3cret passw0rd", code)
			}))
			_, probeErr := s.Probe(t.Context())
			_, wholeErr := s.Open(t.Context(), 0, -1)
			_, rangeErr := s.Open(t.Context(), 5, 10)
			for _, err := range []error{probeErr, wholeErr, rangeErr} {
				var status *transfer.StatusError
				if !errors.As(err, &status) {
					t.Fatalf("error %v, want a StatusError", err)
				}
				if status.Code != code || status.RetryAfter != 7*time.Second {
					t.Errorf("StatusError is %+v", status)
				}
				if !strings.Contains(err.Error(), "disk-0.vmdk") || !strings.Contains(err.Error(), s.URL.Host) {
					t.Errorf("the error does not name its place: %v", err)
				}
				wantNoSecret(t, err)
				if want := code == 429 || code >= 500; transfer.Temporary(err) != want {
					t.Errorf("Temporary(%v) = %v", err, !want)
				}
			}
		})
	}
}

func TestOpenRefusesAnswersThatAreNotWhatWasAsked(t *testing.T) {
	t.Parallel()
	answer := func(code int, headers string, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for line := range strings.Lines(headers) {
				key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
				w.Header().Set(key, value)
			}
			w.WriteHeader(code)
			_, _ = io.WriteString(w, body)
		}
	}
	expect := transfer.Info{Size: 100, Ranges: true, ETag: etag}
	for name, test := range map[string]struct {
		server http.HandlerFunc
		off, n int64
		want   error
	}{
		"a 200 for a range":             {answer(200, "", "0123456789"), 10, 10, transfer.ErrNoRange},
		"a 204 for a range":             {answer(204, "", ""), 10, 10, transfer.ErrNoRange},
		"a 416":                         {answer(416, "Content-Range: bytes */100", ""), 10, 10, transfer.ErrNoRange},
		"another start":                 {answer(206, "Content-Range: bytes 11-20/100", "0123456789"), 10, 10, transfer.ErrNoRange},
		"another end":                   {answer(206, "Content-Range: bytes 10-18/100", "012345678"), 10, 10, transfer.ErrNoRange},
		"no Content-Range":              {answer(206, "", "0123456789"), 10, 10, transfer.ErrNoRange},
		"another length":                {answer(206, "Content-Range: bytes 10-19/100", "012345678"), 10, 10, transfer.ErrNoRange},
		"another size":                  {answer(206, "Content-Range: bytes 10-19/101", "0123456789"), 10, 10, transfer.ErrChanged},
		"another validator":             {answer(206, "Content-Range: bytes 10-19/100\nETag: \"two\"", "0123456789"), 10, 10, transfer.ErrChanged},
		"a failed precondition":         {answer(412, "", ""), 10, 10, transfer.ErrChanged},
		"a range to the end, too short": {answer(206, "Content-Range: bytes 90-98/100", "012345678"), 90, -1, transfer.ErrNoRange},
		"another size of the whole":     {answer(200, "", "0123456789"), 0, -1, transfer.ErrChanged},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, test.server)
			_, err := s.Expect(expect).Open(t.Context(), test.off, test.n)
			wantError(t, err, test.want)
			wantNoSecret(t, err)
		})
	}
	for name, test := range map[string]struct {
		server http.HandlerFunc
	}{
		"a partial answer to a whole request": {answer(206, "Content-Range: bytes 0-9/10", "0123456789")},
		"no content":                          {answer(204, "", "")},
		"an encoded body":                     {answer(200, "Content-Encoding: gzip", "0123456789")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := serve(t, test.server).Open(t.Context(), 0, -1); err == nil || transfer.Temporary(err) {
				t.Errorf("error %v, want a permanent one", err)
			}
		})
	}
}

func TestOpenSendsWhatTheCallerSetAndItsOwnConditions(t *testing.T) {
	t.Parallel()
	var got http.Header
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Clone()
		w.Header().Set("Content-Range", "bytes 3-4/9")
		w.WriteHeader(http.StatusPartialContent)
		_, _ = io.WriteString(w, "xy")
	}))
	s.Header.Set("Range", "bytes=7-8")
	s.Prepare = func(r *http.Request) error { r.Header.Set("X-Renewed", "yes"); return nil }
	body, err := s.Expect(transfer.Info{Size: 9, ETag: etag}).Open(t.Context(), 3, 2)
	if err != nil {
		t.Fatal(err)
	}
	_ = body.Close()
	for key, want := range map[string]string{
		"Cookie":          `vmware_soap_session="c00kie"`, // quotes and all, F-NFC-7
		"Range":           "bytes=3-4",
		"If-Match":        etag,
		"Accept-Encoding": "identity",
		"X-Renewed":       "yes",
	} {
		if got.Get(key) != want {
			t.Errorf("%s is %q, want %q", key, got.Get(key), want)
		}
	}
}

func TestABodyMustHaveTheLengthThatWasAskedFor(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]error{"01234": io.ErrUnexpectedEOF, "0123456789ABCDEF": transfer.ErrTooLong} {
		s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 0-9/100")
			w.WriteHeader(http.StatusPartialContent)
			w.(http.Flusher).Flush() // chunked: the length is not in the head
			_, _ = io.WriteString(w, body)
		}))
		r, err := s.Open(t.Context(), 0, 10)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.ReadAll(r)
		wantError(t, err, want)
		_ = r.Close()
	}
}

func TestARedirectIsFollowedWithItsRange(t *testing.T) {
	t.Parallel()
	o := &object{data: content(1 << 20)}
	mux := http.NewServeMux()
	mux.Handle("/moved", o)
	mux.Handle("/", http.RedirectHandler("/moved", http.StatusTemporaryRedirect))
	got, err := readAll(t, serve(t, mux), transfer.Options{ChunkSize: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	wantBytes(t, got, o.data)
}

func TestARedirectFromHTTPSToHTTPIsRefused(t *testing.T) {
	t.Parallel()
	plain := httptest.NewServer(&object{data: content(10)})
	t.Cleanup(plain.Close)
	secure := httptest.NewTLSServer(http.RedirectHandler(plain.URL+"/?ticket=s3cret", http.StatusFound))
	t.Cleanup(secure.Close)
	_, err := sourceOf(t, secure).Probe(t.Context())
	if err == nil || transfer.Temporary(err) || !strings.Contains(err.Error(), "from https to http") {
		t.Errorf("error %v, want a refusal", err)
	}
	wantNoSecret(t, err)
}

func TestACertificateThatIsNotAcceptedIsPermanent(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(&object{data: content(10)})
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	mismatch := errors.New("thumbprint mismatch")
	for name, config := range map[string]*tls.Config{
		"by the system": {},
		"by a pin": {InsecureSkipVerify: true, VerifyConnection: func(tls.ConnectionState) error {
			return transfer.Permanent(mismatch)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sourceOf(t, server)
			transport := &http.Transport{TLSClientConfig: config}
			s.Client = &http.Client{Transport: transport}
			t.Cleanup(transport.CloseIdleConnections)
			budget := quick(3)
			_, err := transfer.Probe(t.Context(), s, transfer.Options{Budget: budget})
			if err == nil || transfer.Temporary(err) || budget.Left() != 3 {
				t.Errorf("error %v with %d retries left, want a permanent one without a retry", err, budget.Left())
			}
			wantNoSecret(t, err)
		})
	}
}

func TestErrorsOfTheConnectionNameTheHostAndNoSecret(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	s := sourceOf(t, server)
	server.Close()
	_, err := s.Open(t.Context(), 0, -1)
	if err == nil || !transfer.Temporary(err) || !strings.Contains(err.Error(), s.URL.Host) {
		t.Errorf("error %v, want a temporary one that names %s", err, s.URL.Host)
	}
	wantNoSecret(t, err)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.Open(ctx, 0, -1)
	wantError(t, err, context.Canceled)
	wantNoSecret(t, err)

	_, err = (&transfer.HTTPSource{}).Open(t.Context(), 0, -1)
	if err == nil || transfer.Temporary(err) {
		t.Errorf("a source without a URL: %v, want a permanent error", err)
	}
}

func TestRedactURLHidesTicketsAndKeepsThePlace(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"https://u:p@esx1.lab/nfc/5264ae2d-8f0b-4c1d-9b5e-00aa11bb22cc/disk-0.vmdk?t=1#f": "https://esx1.lab/nfc/…/disk-0.vmdk",
		"https://vc/folder/My%20VM/My%20VM-flat.vmdk?dcPath=DC&dsName=ds":                 "https://vc/folder/My VM/My VM-flat.vmdk",
	} {
		u, err := url.Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := transfer.RedactURL(u); got != want {
			t.Errorf("RedactURL(%s) = %s, want %s", in, got, want)
		}
	}
	if got := transfer.RedactURL(nil); got == "" {
		t.Error("RedactURL(nil) is empty")
	}
}
