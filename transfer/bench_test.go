package transfer_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/hyper2kvm/hyper2kvm/transfer"
)

// throttled serves data with ranges, at most rate bytes per second for each
// request, after latency.
func throttled(data []byte, rate int, latency time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(latency)
		http.ServeContent(&slowWriter{ResponseWriter: w, rate: rate, began: time.Now()}, r, "disk", time.Time{}, bytes.NewReader(data))
	})
}

type slowWriter struct {
	http.ResponseWriter
	rate  int
	began time.Time
	sent  int
}

func (w *slowWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.sent += n
	if w.rate > 0 {
		due := time.Duration(float64(w.sent) / float64(w.rate) * float64(time.Second))
		time.Sleep(due - time.Since(w.began))
	}
	return n, err
}

// BenchmarkRanged reads from a server that gives 50 MB/s to a connection.
func BenchmarkRanged(b *testing.B) {
	data := make([]byte, 256<<20)
	for _, latency := range []time.Duration{0, time.Millisecond, 10 * time.Millisecond, 50 * time.Millisecond} {
		for _, workers := range []int{1, 4, 8, 16} {
			b.Run(fmt.Sprintf("latency=%v/workers=%d", latency, workers), func(b *testing.B) {
				benchmarkRead(b, throttled(data, 50e6, latency), len(data), transfer.Options{Workers: workers})
			})
		}
	}
}

// BenchmarkUnthrottled reads as fast as the machine allows, over TLS.
func BenchmarkUnthrottled(b *testing.B) {
	data := make([]byte, 256<<20)
	b.Run("stream", func(b *testing.B) {
		benchmarkRead(b, &object{data: data, plain: true, chunked: true}, len(data), transfer.Options{})
	})
	for _, workers := range []int{1, 4, 8} {
		b.Run(fmt.Sprintf("ranges/workers=%d", workers), func(b *testing.B) {
			benchmarkRead(b, throttled(data, 0, 0), len(data), transfer.Options{Workers: workers})
		})
	}
}

func benchmarkRead(b *testing.B, handler http.Handler, size int, o transfer.Options) {
	server := httptest.NewTLSServer(handler)
	defer server.Close()
	transport := server.Client().Transport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = transfer.MaxWorkers
	defer transport.CloseIdleConnections()
	s := sourceOf(b, server)
	s.Client = &http.Client{Transport: transport}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	buffer := make([]byte, 1<<20)
	for b.Loop() {
		r, _, err := transfer.Open(b.Context(), s, o)
		if err != nil {
			b.Fatal(err)
		}
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, buffer)
		if err != nil || n != int64(size) {
			b.Fatal(n, err)
		}
		if err := r.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
