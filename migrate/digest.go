package migrate

import (
	"cmp"
	"crypto/sha1" // what vSphere's manifest has always carried (F-NFC-12)
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"sync"

	"github.com/hyper2kvm/hyper2kvm/internal/panics"
)

// Digest algorithms, as they are written before the colon of a digest.
const (
	algSHA1   = "sha1"
	algSHA256 = "sha256"
)

func newHash(algorithm string) hash.Hash {
	if algorithm == algSHA1 {
		return sha1.New()
	}
	return sha256.New()
}

// hexDigest returns "algorithm:hex" of data.
func hexDigest(algorithm string, data []byte) string {
	h := newHash(algorithm)
	h.Write(data)
	return algorithm + ":" + hex.EncodeToString(h.Sum(nil))
}

// Geometry of the tee: the most bytes that go to the hasher and the consumer at
// once, about how far known hash states are apart, and how many are kept.
const (
	teePiece  = 256 << 10
	teeBlock  = 512 << 10
	teeStates = 64
)

// hashState is the inner state of a stream's hashes after Offset bytes: enough to
// go on hashing there in another process.
type hashState struct {
	Algorithm string `json:"algorithm"`
	Offset    int64  `json:"offset"`
	State     []byte `json:"state,omitempty"`  // empty at offset 0
	SHA256    []byte `json:"sha256,omitempty"` // of the SHA-256 beside, where Algorithm is another
}

// hashes is the hash that a manifest has of a stream and, where that is not
// SHA-256, a SHA-256 of the same bytes, which an OVF manifest is made of: nobody
// has to read a disk again for that.
type hashes struct {
	algorithm string
	sum       hash.Hash
	sha256    hash.Hash // sum itself, or another one; nil when it cannot be told
}

// restore makes the hashes that s describes.
func (s hashState) restore() (hashes, error) {
	h := hashes{algorithm: s.Algorithm, sum: newHash(s.Algorithm)}
	h.sha256 = h.sum
	if s.Algorithm != algSHA256 {
		h.sha256 = newHash(algSHA256)
	}
	if s.Offset == 0 {
		return h, nil
	}
	err := h.sum.(encoding.BinaryUnmarshaler).UnmarshalBinary(s.State)
	switch {
	case err != nil || h.sha256 == h.sum:
	case s.SHA256 == nil: // from a version that did not hash twice
		h.sha256 = nil
	default:
		err = h.sha256.(encoding.BinaryUnmarshaler).UnmarshalBinary(s.SHA256)
	}
	if err != nil {
		return hashes{}, fmt.Errorf("hash state at stream offset %d: %w", s.Offset, err)
	}
	return h, nil
}

// state is the hashes' state at an offset.
func (h hashes) state(offset int64) hashState {
	s := hashState{Algorithm: h.algorithm, Offset: offset, State: marshal(h.sum)}
	if h.sha256 != nil && h.sha256 != h.sum {
		s.SHA256 = marshal(h.sha256)
	}
	return s
}

// write hashes p.
func (h hashes) write(p []byte) {
	h.sum.Write(p)
	if h.sha256 != nil && h.sha256 != h.sum {
		h.sha256.Write(p)
	}
}

// digests returns "algorithm:hex" of both; the second one is empty when it
// cannot be told.
func (h hashes) digests() (sum, sha256 string) {
	sum = h.algorithm + ":" + hex.EncodeToString(h.sum.Sum(nil))
	if h.sha256 != nil {
		sha256 = algSHA256 + ":" + hex.EncodeToString(h.sha256.Sum(nil))
	}
	return sum, sha256
}

func marshal(h hash.Hash) []byte {
	state, err := h.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil { // crypto/sha1 and crypto/sha256 never fail
		panic(err)
	}
	return state
}

// tee hashes a stream on its way to its consumer. It has no memory of its own:
// package transfer reads ahead and lends its buffers (io.WriterTo), and of each
// piece the hasher and the consumer, who is the caller of Read, are done before
// the next one comes. So the network, the hash, and the decoder each have a core
// to themselves where there is one.
type tee struct {
	ready    chan []byte   // to the consumer
	consumed chan struct{} // the consumer is done with the piece
	hash     chan []byte   // to the hasher
	hashed   chan error    // the hasher is done with the piece, or cannot go on
	stop     chan struct{}
	once     sync.Once
	wg       sync.WaitGroup
	ended    error // what ended the stream; read after ready is closed

	rest []byte // of the consumer: unread bytes of the piece in its hands
	err  error  // of the consumer, when it has met the end

	mu     sync.Mutex
	sums   hashes
	offset int64       // hashed so far
	states []hashState // the last ones, at least teeBlock apart
}

// newTee hashes what it reads from r on from state start, which must be the
// state at r's first byte.
func newTee(r io.Reader, start hashState) (*tee, error) {
	h, err := start.restore()
	if err != nil {
		return nil, err
	}
	t := &tee{
		ready:    make(chan []byte),
		consumed: make(chan struct{}, 1),
		hash:     make(chan []byte, 1),
		hashed:   make(chan error, 1),
		stop:     make(chan struct{}),
		sums:     h,
		offset:   start.Offset,
		states:   []hashState{start},
	}
	t.wg.Go(func() { t.pull(r) })
	t.wg.Go(t.hashAll)
	return t, nil
}

// pull moves the stream to its end.
func (t *tee) pull(r io.Reader) {
	defer close(t.ready)
	defer close(t.hash)
	err := panics.Catch(func() error {
		_, err := io.Copy(teeInput{t}, r)
		return err
	})
	if err == nil {
		err = io.EOF
	}
	t.ended = err
}

// teeInput takes in the stream for a tee.
type teeInput struct{ t *tee }

// Write returns when nobody needs p any more.
func (in teeInput) Write(p []byte) (int, error) {
	for done := 0; done < len(p); {
		piece := p[done:min(done+teePiece, len(p))]
		if err := in.t.pass(piece); err != nil {
			return done, err
		}
		done += len(piece)
	}
	return len(p), nil
}

// pass gives a piece to hasher and consumer and waits for both.
func (t *tee) pass(piece []byte) (err error) {
	t.hash <- piece // never blocks: the hasher is done with the one before
	defer func() { err = cmp.Or(<-t.hashed, err) }()
	select {
	case t.ready <- piece:
	case <-t.stop:
		return io.ErrClosedPipe
	}
	select {
	case <-t.consumed:
		return nil
	case <-t.stop:
		return io.ErrClosedPipe
	}
}

func (t *tee) hashAll() {
	for piece := range t.hash {
		t.hashed <- panics.Catch(func() error {
			t.take(piece)
			return nil
		})
	}
}

// take hashes a piece.
func (t *tee) take(piece []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sums.write(piece)
	t.offset += int64(len(piece))
	if t.offset-t.states[len(t.states)-1].Offset >= teeBlock {
		if len(t.states) == teeStates {
			t.states = append(t.states[:0], t.states[1:]...)
		}
		t.states = append(t.states, t.sums.state(t.offset))
	}
}

// Read gives the stream's bytes in order. After the source's error it returns
// that error, io.EOF for an honest end.
func (t *tee) Read(p []byte) (int, error) {
	for len(t.rest) == 0 {
		if t.err != nil {
			return 0, t.err
		}
		piece, ok := <-t.ready
		if !ok {
			t.err = t.ended
			return 0, t.err
		}
		t.rest = piece
	}
	n := copy(p, t.rest)
	t.rest = t.rest[n:]
	if len(t.rest) == 0 {
		t.consumed <- struct{}{}
	}
	return n, nil
}

// stateBefore returns the last known hash state at or before stream offset
// off, and forgets the older ones. States reach back from what the consumer was
// given by teeStates*teeBlock bytes, or to the start: off must not lie before.
func (t *tee) stateBefore(off int64) hashState {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := 0
	for i+1 < len(t.states) && t.states[i+1].Offset <= off {
		i++
	}
	t.states = t.states[i:]
	return t.states[0]
}

// digests returns "algorithm:hex" of everything up to the end of the stream, its
// SHA-256 in the same form (empty when it cannot be told), and the stream's
// length in bytes. It is for after Read has returned io.EOF.
func (t *tee) digests() (sum, sha256 string, size int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	sum, sha256 = t.sums.digests()
	return sum, sha256, t.offset
}

// Close ends the tee. The source must be closed first, so that a read under way
// ends.
func (t *tee) Close() error {
	t.once.Do(func() {
		close(t.stop)
		t.wg.Wait()
	})
	return nil
}
