package transfer_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/transfer"
)

// borrower takes what a reader lends it, and may fail.
type borrower struct {
	got    bytes.Buffer
	limit  int // bytes after which it fails; 0 is never
	failed error
}

func (b *borrower) Write(p []byte) (int, error) {
	if b.limit > 0 && b.got.Len()+len(p) > b.limit {
		n, _ := b.got.Write(p[:b.limit-b.got.Len()])
		return n, b.failed
	}
	return b.got.Write(p)
}

func TestAReaderLendsTheBytesThatItWouldHaveRead(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]*object{
		"ranged": {data: content(3 << 20)},
		"stream": {data: content(3 << 20), plain: true, chunked: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, _, err := transfer.Open(t.Context(), serve(t, o), transfer.Options{ChunkSize: 256 << 10})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			begin := make([]byte, 100_001) // the rest of a buffer is lent as well
			if _, err := io.ReadFull(r, begin); err != nil {
				t.Fatal(err)
			}
			var b borrower
			n, err := r.(io.WriterTo).WriteTo(&b)
			if err != nil || n != int64(b.got.Len()) {
				t.Fatalf("lent %d bytes: %v", n, err)
			}
			wantBytes(t, append(begin, b.got.Bytes()...), o.data)
			if n, err := r.Read(begin); n != 0 || err != io.EOF {
				t.Errorf("after the end Read gives %d bytes and %v", n, err)
			}
		})
	}
}

func TestTheBorrowersFailureEndsTheLendingAndNothingIsLost(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]*object{
		"ranged": {data: content(1 << 20)},
		"stream": {data: content(1 << 20), plain: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, _, err := transfer.Open(t.Context(), serve(t, o), transfer.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			b := borrower{limit: 300_000, failed: errors.New("full")}
			n, err := r.(io.WriterTo).WriteTo(&b)
			if !errors.Is(err, b.failed) || n != int64(b.limit) {
				t.Fatalf("lent %d bytes: %v", n, err)
			}
			rest, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			wantBytes(t, append(b.got.Bytes(), rest...), o.data)
		})
	}
}

func TestAnErrorOfTheTransferEndsTheLending(t *testing.T) {
	t.Parallel()
	data := content(1 << 20)
	o := &object{data: data, plain: true, fault: times(1, cut(data, 300_000))}
	r, err := transfer.NewReader(t.Context(), serve(t, o), transfer.Info{}, transfer.Options{Budget: quick(3)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.(io.WriterTo).WriteTo(io.Discard); err != nil {
		t.Errorf("the first request is never at fault: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r, err = transfer.NewReader(t.Context(), serve(t, o), transfer.Info{}, transfer.Options{Budget: quick(3)})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	n, err := r.(io.WriterTo).WriteTo(io.Discard)
	if !errors.Is(err, transfer.ErrRestart) || n != 300_000 {
		t.Errorf("after a cut: %d bytes, %v; want 300000 and ErrRestart", n, err)
	}
}
