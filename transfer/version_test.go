package transfer_test

import (
	"bytes"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/transfer"
)

const (
	monday     = "Mon, 02 Nov 2026 10:00:00 GMT"
	mondayToo  = "Monday, 02-Nov-26 10:00:00 GMT" // the same time in another form of HTTP
	mondayNext = "Mon, 02 Nov 2026 10:00:01 GMT"
)

// dated serves data in ranges without an ETag; modified gives the time of its last
// modification at the n-th request, "" for none.
func dated(data []byte, modified func(n int64) string) *object {
	return &object{fault: func(w http.ResponseWriter, r *http.Request, n int64) bool {
		if at := modified(n); at != "" {
			w.Header().Set("Last-Modified", at)
		}
		http.ServeContent(w, r, "disk-flat.vmdk", time.Time{}, bytes.NewReader(data))
		return true
	}}
}

func TestWithoutAnETagTheTimeOfTheLastModificationIsCompared(t *testing.T) {
	t.Parallel()
	data := content(1 << 20)
	from := func(n int64, before, after string) func(int64) string {
		return func(k int64) string {
			if k < n {
				return before
			}
			return after
		}
	}
	for name, test := range map[string]struct {
		modified func(int64) string
		changed  bool
	}{
		"a later time":                           {from(5, monday, mondayNext), true},
		"an earlier time, as of a copy put back": {from(5, mondayNext, monday), true},
		"a time that is none":                    {from(5, monday, "yesterday"), true},
		"the same time":                          {from(5, monday, monday), false},
		"the same time in another form":          {from(5, monday, mondayToo), false},
		"an answer without a time":               {from(5, monday, ""), false},
		"a time that the probe did not have":     {from(2, "", monday), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			budget := quick(3)
			got, err := readAll(t, serve(t, dated(data, test.modified)), transfer.Options{ChunkSize: 64 << 10, Budget: budget})
			if test.changed {
				wantError(t, err, transfer.ErrChanged, transfer.ErrRestart)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			wantBytes(t, got, data)
		})
	}
}

func TestAWeakETagLeavesTheComparisonToTheTime(t *testing.T) {
	t.Parallel()
	data := content(1 << 20)
	for tag, wantModified := range map[string]string{`W/"one"`: monday, `"one"`: ""} {
		s := serve(t, &object{fault: func(w http.ResponseWriter, r *http.Request, n int64) bool {
			w.Header().Set("ETag", tag)
			w.Header().Set("Last-Modified", monday)
			if n > 3 {
				w.Header().Set("Last-Modified", mondayNext)
			}
			http.ServeContent(w, r, "disk-flat.vmdk", time.Time{}, bytes.NewReader(data))
			return true
		}})
		info, err := s.Probe(t.Context())
		if err != nil || info.LastModified != wantModified {
			t.Errorf("with ETag %s: %+v, error %v; want the time %q", tag, info, err, wantModified)
		}
		_, err = readAs(t, s, info, transfer.Options{ChunkSize: 64 << 10, Budget: quick(3)})
		if wantModified == "" {
			if err != nil {
				t.Errorf("with ETag %s, which says that nothing has changed: %v", tag, err)
			}
			continue
		}
		wantError(t, err, transfer.ErrChanged)
	}
}

// A stream that breaks before its first byte is asked for again. What was said of
// the first answer must hold for the second one.
func TestAStreamThatIsAskedForAgainMustBeTheSameObject(t *testing.T) {
	t.Parallel()
	for name, second := range map[string]func(http.Header){
		"another time": func(h http.Header) { h.Set("Last-Modified", mondayNext) },
		"another size": func(h http.Header) { h.Set("Content-Length", "9") },
		"another tag":  func(h http.Header) { h.Set("ETag", `"two"`) },
		"the same":     nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, &object{fault: func(w http.ResponseWriter, _ *http.Request, n int64) bool {
				w.Header().Set("Content-Length", "10")
				if name == "another tag" {
					w.Header().Set("ETag", etag)
				} else {
					w.Header().Set("Last-Modified", monday)
				}
				if n > 1 {
					if second != nil {
						second(w.Header())
					}
					_, _ = io.WriteString(w, "0123456789"[:bodyLength(w)])
					return true
				}
				w.WriteHeader(http.StatusOK)
				w.(http.Flusher).Flush() // and no byte of the body
				conn, err := hijack(w)
				if err != nil {
					t.Error(err)
					return true
				}
				_ = conn.Close()
				return true
			}})
			r, _, err := transfer.Open(t.Context(), s, transfer.Options{Budget: quick(3)})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = r.Close() }()
			got, err := io.ReadAll(r)
			if second == nil {
				if err != nil || string(got) != "0123456789" {
					t.Errorf("read %q, error %v", got, err)
				}
				return
			}
			wantError(t, err, transfer.ErrChanged)
		})
	}
}

// bodyLength is the Content-Length that a handler has set.
func bodyLength(w http.ResponseWriter) int {
	if w.Header().Get("Content-Length") == "9" {
		return 9
	}
	return 10
}

func TestAnEncodedBodyIsRefusedInTheFirstAnswerToo(t *testing.T) {
	t.Parallel()
	for name, encodings := range map[string][]string{
		"gzip":                   {"gzip"},
		"identity, then deflate": {"identity", "deflate"},
		"a list":                 {"identity, x-gzip"},
	} {
		for _, plain := range []bool{false, true} {
			s := serve(t, &object{fault: func(w http.ResponseWriter, r *http.Request, _ int64) bool {
				for _, e := range encodings {
					w.Header().Add("Content-Encoding", e)
				}
				if plain {
					_, _ = io.WriteString(w, "0123456789")
					return true
				}
				w.Header().Set("Content-Range", "bytes 0-0/10")
				w.WriteHeader(http.StatusPartialContent)
				_, _ = io.WriteString(w, "0")
				return true
			}})
			budget := quick(3)
			r, _, err := transfer.Open(t.Context(), s, transfer.Options{Budget: budget})
			if err == nil {
				t.Errorf("%s, without ranges %v: accepted", name, plain)
				_ = r.Close()
				continue
			}
			if transfer.Temporary(err) || budget.Left() != 3 {
				t.Errorf("%s, without ranges %v: error %v with %d retries left; want a permanent one without a retry", name, plain, err, budget.Left())
			}
			wantNoSecret(t, err)
			if _, err := s.Probe(t.Context()); err == nil {
				t.Errorf("%s, without ranges %v: the probe accepts it", name, plain)
			}
		}
	}
}

func TestIdentityIsNoEncoding(t *testing.T) {
	t.Parallel()
	data := content(1000)
	for _, encoding := range []string{"identity", "Identity", ""} {
		s := serve(t, &object{fault: func(w http.ResponseWriter, _ *http.Request, _ int64) bool {
			w.Header().Set("Content-Encoding", encoding)
			_, _ = w.Write(data)
			return true
		}})
		r, _, err := transfer.Open(t.Context(), s, transfer.Options{Budget: quick(1)})
		if err != nil {
			t.Errorf("%q: %v", encoding, err)
			continue
		}
		got, err := io.ReadAll(r)
		_ = r.Close()
		if err != nil {
			t.Errorf("%q: %v", encoding, err)
		}
		wantBytes(t, got, data)
	}
}
