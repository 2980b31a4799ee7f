package migrate

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/hyper2kvm/hyper2kvm/internal/panics"
)

func randomBytes(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

func TestTeePassesEveryByteAndHashesIt(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, teeBlock - 1, teeBlock, teeBlock + 1, 20*teeBlock + 7} {
		data := randomBytes(size)
		tee, err := newTee(bytes.NewReader(data), hashState{Algorithm: algSHA256})
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(tee)
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%d bytes: got %d bytes, error %v", size, len(got), err)
		}
		sum := sha256.Sum256(data)
		digest, _, n := tee.digests()
		if want := "sha256:" + hex.EncodeToString(sum[:]); digest != want || n != int64(size) {
			t.Errorf("%d bytes: digest %s of %d bytes, want %s", size, digest, n, want)
		}
		tee.Close()
	}
}

func TestTeeReturnsTheSourcesOwnErrorAfterItsBytes(t *testing.T) {
	t.Parallel()
	for _, want := range []error{io.ErrUnexpectedEOF, errors.New("cut")} {
		data := randomBytes(teeBlock + 100)
		src := io.MultiReader(bytes.NewReader(data), iotest.ErrReader(want))
		tee, err := newTee(src, hashState{Algorithm: algSHA1})
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(tee)
		if !errors.Is(err, want) || !bytes.Equal(got, data) {
			t.Errorf("got %d bytes and %v, want %d bytes and %v", len(got), err, len(data), want)
		}
		tee.Close()
	}
}

func TestTeeGoesOnFromAStoredHashState(t *testing.T) {
	t.Parallel()
	data := randomBytes(9*teeBlock + 5)
	for _, alg := range []string{algSHA1, algSHA256} {
		first, err := newTee(bytes.NewReader(data), hashState{Algorithm: alg})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, first); err != nil {
			t.Fatal(err)
		}
		whole, whole256, _ := first.digests()
		first.Close()

		for _, at := range []int64{0, 1, teeBlock, 3*teeBlock + 17, int64(len(data))} {
			interrupted, _ := newTee(bytes.NewReader(data), hashState{Algorithm: alg})
			if _, err := io.CopyN(io.Discard, interrupted, at); err != nil {
				t.Fatal(err)
			}
			saved, err := json.Marshal(interrupted.stateBefore(at))
			if err != nil {
				t.Fatal(err)
			}
			interrupted.Close()

			var state hashState
			if err := json.Unmarshal(saved, &state); err != nil {
				t.Fatal(err)
			}
			if state.Offset > at || at-state.Offset > teeBlock {
				t.Fatalf("the state for offset %d is that of offset %d", at, state.Offset)
			}
			again, err := newTee(bytes.NewReader(data[state.Offset:]), state)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, again); err != nil {
				t.Fatal(err)
			}
			if got, got256, n := again.digests(); got != whole || got256 != whole256 || n != int64(len(data)) {
				t.Errorf("%s resumed at %d: %s and %s over %d bytes, want %s and %s", alg, at, got, got256, n, whole, whole256)
			}
			again.Close()
		}
	}
}

func TestTeeCloseEndsTheReadingAheadOfAnUnfinishedStream(t *testing.T) {
	t.Parallel()
	r, w := io.Pipe()
	go func() {
		for {
			if _, err := w.Write(make([]byte, teeBlock)); err != nil {
				return
			}
		}
	}()
	tee, err := newTee(r, hashState{Algorithm: algSHA256})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(tee, make([]byte, 3*teeBlock)); err != nil {
		t.Fatal(err)
	}
	r.Close()
	tee.Close() // returns only when both goroutines have
}

// repeated is a stream of n copies of a piece, which it lends.
type repeated struct {
	piece []byte
	n     int
}

func (r repeated) Read([]byte) (int, error) { return 0, errors.New("the bytes are lent, not read") }

func (r repeated) WriteTo(w io.Writer) (int64, error) {
	for i := range r.n {
		if n, err := w.Write(r.piece); err != nil {
			return int64(i*len(r.piece) + n), err
		}
	}
	return int64(r.n * len(r.piece)), nil
}

func TestTeeOfALongStreamKeepsABoundedNumberOfHashStates(t *testing.T) {
	t.Parallel()
	piece := randomBytes(teeBlock)
	n := 3 * teeStates
	tee, err := newTee(repeated{piece, n}, hashState{Algorithm: algSHA1})
	if err != nil {
		t.Fatal(err)
	}
	defer tee.Close()
	if _, err := io.Copy(io.Discard, tee); err != nil {
		t.Fatal(err)
	}
	if len(tee.states) != teeStates {
		t.Errorf("%d states are kept of %d blocks, want %d", len(tee.states), n, teeStates)
	}
	end := int64(n) * teeBlock
	if s := tee.stateBefore(end - 10); s.Offset > end-10 || s.Offset < end-10-teeBlock {
		t.Errorf("the state before offset %d is that of %d", end-10, s.Offset)
	}
}

func TestTeeGoesOnFromAHashStateThatAnEarlierVersionStored(t *testing.T) {
	t.Parallel()
	data := randomBytes(3 * teeBlock)
	first, err := newTee(bytes.NewReader(data), hashState{Algorithm: algSHA1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, first); err != nil {
		t.Fatal(err)
	}
	whole, _, _ := first.digests()
	state := first.stateBefore(2 * teeBlock)
	first.Close()
	state.SHA256 = nil // it hashed once
	again, err := newTee(bytes.NewReader(data[state.Offset:]), state)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if _, err := io.Copy(io.Discard, again); err != nil {
		t.Fatal(err)
	}
	if got, got256, _ := again.digests(); got != whole || got256 != "" {
		t.Errorf("the digests are %s and %q, want %s and none", got, got256, whole)
	}
}

// badHash is a hash with a flaw in its program.
type badHash struct{ hash.Hash }

func (badHash) Write([]byte) (int, error) { panic("boom") }

// badStream is a stream with one.
type badStream struct{}

func (badStream) Read([]byte) (int, error) { panic("boom") }

func TestAPanicBehindATeeIsItsError(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func() (*tee, error){
		"of the stream": func() (*tee, error) {
			return newTee(io.MultiReader(bytes.NewReader([]byte("some")), badStream{}), hashState{Algorithm: algSHA256})
		},
		"of the hash": func() (*tee, error) {
			in, out := io.Pipe()
			t, err := newTee(in, hashState{Algorithm: algSHA256})
			if err == nil {
				t.mu.Lock()
				t.sums.sum = badHash{t.sums.sum}
				t.mu.Unlock()
				go func() { _, _ = out.Write([]byte("some")); _ = out.Close() }()
			}
			return t, err
		},
	} {
		tee, err := make()
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, tee)
		var p *panics.Error
		if !errors.As(err, &p) || !strings.HasPrefix(p.At, "migrate/digest_test.go:") {
			t.Errorf("%s: error %v", name, err)
		}
		if err := tee.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
