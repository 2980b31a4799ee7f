package transfer_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/progress"
	"github.com/hyper2kvm/hyper2kvm/transfer"
)

const forGood = 1 << 30 // times

// times makes f the answer to the first n requests after the probe.
func times(n int64, f http.HandlerFunc) fault {
	var done atomic.Int64
	return func(w http.ResponseWriter, r *http.Request, request int64) bool {
		if request == 1 || done.Add(1) > n {
			return false
		}
		f(w, r)
		return true
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", code) }
}

// asked returns the range a request asks for, all of size when it asks for none.
func asked(r *http.Request, size int) (first, last int) {
	if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &first, &last); err != nil {
		return 0, size - 1
	}
	return first, last
}

// cut sends a valid head and n bytes of the body, and closes the connection.
// With n < 0 the head is missing too.
func cut(data []byte, n int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		conn, err := hijack(w)
		if err != nil {
			return
		}
		defer conn.Close()
		if n < 0 {
			return
		}
		first, last := asked(r, len(data))
		code := 200
		if r.Header.Get("Range") != "" {
			code = 206
		}
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 %d OK\r\nContent-Length: %d\r\nContent-Range: bytes %d-%d/%d\r\n\r\n",
			code, last-first+1, first, last, len(data))
		_, _ = conn.Write(data[first:min(first+n, last+1)])
	}
}

// chunked sends the range that was asked for without a length, and difference
// bytes more or fewer than that.
func chunked(data []byte, difference int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		first, last := asked(r, len(data))
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, len(data)))
		w.WriteHeader(http.StatusPartialContent)
		w.(http.Flusher).Flush()
		body := append([]byte(nil), data[first:last+1]...)
		if difference > 0 {
			body = append(body, make([]byte, difference)...)
		}
		_, _ = w.Write(body[:last+1-first+difference])
	}
}

// claiming answers with a Content-Range that was not asked for.
func claiming(contentRange string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Range", contentRange)
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(make([]byte, 1000))
	}
}

// otherETag answers in full, as another object.
func otherETag(data []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		first, last := asked(r, len(data))
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, len(data)))
		w.Header().Set("ETag", `"two"`)
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(data[first : last+1])
	}
}

// TestFaultsOfARangedServer is the table of what may go wrong with ranges:
// either the bytes are identical or the error is the named one.
func TestFaultsOfARangedServer(t *testing.T) {
	t.Parallel()
	data := content(3<<20 + 12345)
	restart := func(cause ...error) []error { return append(cause, transfer.ErrRestart) }
	for name, test := range map[string]struct {
		times  int64
		answer http.HandlerFunc
		want   []error // none: identical bytes
	}{
		"nothing":                           {0, status(500), nil},
		"connections cut before the head":   {3, cut(data, -1), nil},
		"connections cut after the head":    {3, cut(data, 0), nil},
		"connections cut in the body":       {5, cut(data, 20_000), nil},
		"every connection cut in the body":  {forGood, cut(data, 20_000), nil}, // each goes on where the last was cut
		"503 three times":                   {3, status(503), nil},
		"429 twice":                         {2, status(429), nil},
		"a 200 once":                        {1, status(200), nil},
		"parts without a length":            {forGood, chunked(data, 0), nil},
		"a part with a byte too few":        {2, chunked(data, -1), nil},
		"parts with a byte too many":        {forGood, chunked(data, 1), restart(transfer.ErrTooLong, transfer.ErrNoRange)},
		"ranges ignored from now on":        {forGood, status(200), restart(transfer.ErrNoRange)},
		"ranges wrong from now on":          {forGood, claiming("bytes 7-1006/3158073"), restart(transfer.ErrNoRange)},
		"a validator that changes":          {forGood, otherETag(data), restart(transfer.ErrChanged)},
		"a precondition that fails":         {1, status(412), restart(transfer.ErrChanged)},
		"503 for good":                      {forGood, status(503), []error{transfer.ErrExhausted}},
		"every connection cut at its start": {forGood, cut(data, 0), []error{transfer.ErrExhausted, io.ErrUnexpectedEOF}},
	} {
		for _, workers := range []int{1, 5} {
			t.Run(fmt.Sprintf("%s, %d workers", name, workers), func(t *testing.T) {
				t.Parallel()
				o := &object{data: data, fault: times(test.times, test.answer)}
				budget := transfer.NewBudget(transfer.BudgetOptions{Retries: 50, Refill: 100_000, Min: 1, Max: 1e6})
				got, err := readAll(t, serve(t, o), transfer.Options{Workers: workers, ChunkSize: 256 << 10, Budget: budget})
				wantOutcome(t, got, data, err, test.want)
			})
		}
	}
	t.Run("a permanent refusal is passed on without a retry", func(t *testing.T) {
		t.Parallel()
		budget := quick(5)
		_, err := readAll(t, serve(t, &object{data: data, fault: times(forGood, status(403))}), transfer.Options{Budget: budget})
		wantStatus(t, err, 403)
		if budget.Left() != 5 {
			t.Errorf("%d retries left of 5", budget.Left())
		}
	})
}

// TestFaultsOfAStream is the same for a server without ranges, where what was
// cut has to begin again.
func TestFaultsOfAStream(t *testing.T) {
	t.Parallel()
	data := content(2<<20 + 777)
	for name, test := range map[string]struct {
		chunked bool
		times   int64
		answer  http.HandlerFunc
		want    []error
	}{
		"nothing":                              {false, 0, status(500), nil},
		"nothing, without a length":            {true, 0, status(500), nil},
		"503 three times":                      {true, 3, status(503), nil},
		"cut before the head":                  {true, 3, cut(data, -1), nil},
		"cut before the first byte":            {true, 3, cut(data, 0), nil},
		"cut in the body":                      {true, 1, cut(data, 1_000_000), []error{transfer.ErrRestart, io.ErrUnexpectedEOF}},
		"a clean end before the known size":    {false, 1, shortOfLength(data[:5000]), []error{transfer.ErrRestart, io.ErrUnexpectedEOF}},
		"more than the known size":             {false, 1, shortOfLength(content(len(data) + 1)), []error{transfer.ErrRestart, transfer.ErrTooLong}},
		"another length":                       {false, 1, status(200), []error{transfer.ErrRestart, transfer.ErrChanged}},
		"an empty body":                        {true, forGood, func(http.ResponseWriter, *http.Request) {}, []error{transfer.ErrEmptyBody}},
		"an empty body without a length":       {true, 1, shortOfLength(nil), []error{transfer.ErrEmptyBody}},
		"503 for good":                         {true, forGood, status(503), []error{transfer.ErrExhausted}},
		"a partial answer to a whole request":  {true, 1, claiming("bytes 0-999/1000"), []error{&transfer.StatusError{}}},
		"connections cut before the first one": {true, forGood, cut(data, -1), []error{transfer.ErrExhausted}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := &object{data: data, plain: true, chunked: test.chunked, fault: times(test.times, test.answer)}
			got, err := readAll(t, serve(t, o), transfer.Options{Budget: quick(5)})
			if len(test.want) == 1 && errors.As(test.want[0], new(*transfer.StatusError)) {
				wantStatus(t, err, 206)
				return
			}
			wantOutcome(t, got, data, err, test.want)
		})
	}
}

// shortOfLength sends body chunked, whatever length was promised before.
func shortOfLength(body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush()
		_, _ = w.Write(body)
	}
}

func wantOutcome(t *testing.T, got, data []byte, err error, want []error) {
	t.Helper()
	wantNoSecret(t, err)
	if len(want) > 0 {
		wantError(t, err, want...)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	wantBytes(t, got, data)
}

func wantStatus(t *testing.T, err error, code int) {
	t.Helper()
	var status *transfer.StatusError
	if !errors.As(err, &status) || status.Code != code {
		t.Errorf("error %v, want status %d", err, code)
	}
}

func TestAStreamOfUnknownSizeThatEndsCleanlyIsForTheCallerToJudge(t *testing.T) {
	t.Parallel()
	o := &object{data: content(1000), plain: true, chunked: true, fault: times(1, shortOfLength(content(400)))}
	got, err := readAll(t, serve(t, o), transfer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	wantBytes(t, got, o.data[:400])
}

func TestAnUnprobedObjectIsOneRequest(t *testing.T) {
	t.Parallel()
	o := &object{data: content(1 << 20)}
	got, err := readAs(t, serve(t, o), transfer.Info{}, transfer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	wantBytes(t, got, o.data)
	if n := o.requests.Load(); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

func TestOpenReadsOnFromAProbeThatWasAnsweredInFull(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		o        *object
		requests int64
		ranges   bool
	}{
		"a stream is a single request":   {&object{data: content(3 << 20), plain: true, chunked: true}, 1, false},
		"one that was refused at first":  {&object{data: content(3 << 20), plain: true, fault: nthOnly(1, status(503))}, 2, false},
		"one that was cut at once":       {&object{data: content(3 << 20), plain: true, fault: nthOnly(1, whole(cut(content(3<<20), 0)))}, 2, false},
		"ranges are used when they work": {&object{data: content(3 << 20)}, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, info, err := transfer.Open(t.Context(), serve(t, test.o), transfer.Options{Budget: quick(3)})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			got, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			wantBytes(t, got, test.o.data)
			if info.Ranges != test.ranges {
				t.Errorf("Info is %+v", info)
			}
			if n := test.o.requests.Load(); test.requests > 0 && n != test.requests {
				t.Errorf("%d requests, want %d", n, test.requests)
			}
		})
	}
}

// whole makes f ignore the range.
func whole(f http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Range")
		f(w, r)
	}
}

// nthOnly makes f the answer to one request, counted from 1.
func nthOnly(n int64, f http.HandlerFunc) fault {
	return func(w http.ResponseWriter, r *http.Request, request int64) bool {
		if request != n {
			return false
		}
		f(w, r)
		return true
	}
}

func TestARangedReaderStartsAtItsOffset(t *testing.T) {
	t.Parallel()
	o := &object{data: content(1 << 20)}
	s := serve(t, o)
	for _, offset := range []int64{1, 123_456, 1<<20 - 1, 1 << 20} {
		got, err := readAll(t, s, transfer.Options{Offset: offset, ChunkSize: 64 << 10})
		if err != nil {
			t.Fatal(err)
		}
		wantBytes(t, got, o.data[offset:])
	}
	if _, err := readAll(t, s, transfer.Options{Offset: 1<<20 + 1}); err == nil {
		t.Error("an offset past the end is accepted")
	}
	_, err := readAs(t, s, transfer.Info{Size: 1 << 20}, transfer.Options{Offset: 5})
	wantError(t, err, transfer.ErrNoRange)
}

func TestObjectsOfEverySizeArriveWhole(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 2, 511, 4095, 4096, 4097, 65536, 100_001} {
		o := &object{data: content(size)}
		s := serve(t, o)
		for _, chunk := range []int64{1 << 10, 4096, 1 << 20} {
			got, err := readAll(t, s, transfer.Options{ChunkSize: chunk, Workers: 3})
			if err != nil {
				t.Fatalf("%d bytes by %d: %v", size, chunk, err)
			}
			wantBytes(t, got, o.data)
		}
	}
}

func TestReceivedBytesRetriesAndEventsAreCounted(t *testing.T) {
	t.Parallel()
	tracker := progress.New()
	file := tracker.AddFile("disk-0.vmdk", 0)
	file.SetState(progress.Active)
	o := &object{data: content(1 << 20), fault: times(1, cut(content(1<<20), 1000))}
	got, err := readAll(t, serve(t, o), transfer.Options{File: file, Workers: 1, Budget: quick(3)})
	if err != nil {
		t.Fatal(err)
	}
	wantBytes(t, got, o.data)
	snapshot := tracker.Snapshot().Files[0]
	if snapshot.Received != 1<<20 || snapshot.Retries != 1 || snapshot.State != progress.Active {
		t.Errorf("counted %+v", snapshot)
	}
	events := tracker.EventsAfter(0)
	if len(events) != 1 || !strings.Contains(events[0].Text, "asking again") || events[0].File != "disk-0.vmdk" {
		t.Errorf("events are %+v", events)
	}
	wantNoSecret(t, errors.New(events[0].Text))
}

func TestNoMoreThanTheWindowIsAskedForAheadOfTheReader(t *testing.T) {
	t.Parallel()
	const workers, size = 3, 64 << 10
	o := &object{data: content(4 << 20)}
	var ahead atomic.Int64
	o.fault = func(_ http.ResponseWriter, r *http.Request, _ int64) bool {
		_, last := asked(r, len(o.data))
		for high := ahead.Load(); int64(last) > high && !ahead.CompareAndSwap(high, int64(last)); high = ahead.Load() {
		}
		return false
	}
	r, _, err := transfer.Open(t.Context(), serve(t, o), transfer.Options{Workers: workers, ChunkSize: size})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	buffer := make([]byte, 10_000)
	for read := int64(0); ; {
		n, err := r.Read(buffer)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		read += int64(n)
		if limit := read + (2*workers+1)*size; ahead.Load() > limit {
			t.Fatalf("at %d bytes the server was asked for byte %d, want at most %d", read, ahead.Load(), limit)
		}
	}
}

func TestParallelReadersShareNothing(t *testing.T) {
	t.Parallel()
	o := &object{data: content(1 << 20)}
	s := serve(t, o)
	for i := range 6 {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			got, err := readAll(t, s, transfer.Options{ChunkSize: 128 << 10})
			if err != nil {
				t.Fatal(err)
			}
			wantBytes(t, got, o.data)
		})
	}
}
