package migrate

import (
	"crypto/sha1" // what vSphere's manifest has always carried (F-NFC-12)
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"sync"
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

// hashState is a hash's inner state after Offset bytes of a stream: enough to
// go on hashing there in another process.
type hashState struct {
	Algorithm string `json:"algorithm"`
	Offset    int64  `json:"offset"`
	State     []byte `json:"state,omitempty"` // empty at offset 0
}

// restore makes the hash that s describes.
func (s hashState) restore() (hash.Hash, error) {
	h := newHash(s.Algorithm)
	if s.Offset == 0 {
		return h, nil
	}
	if err := h.(encoding.BinaryUnmarshaler).UnmarshalBinary(s.State); err != nil {
		return nil, fmt.Errorf("hash state at stream offset %d: %w", s.Offset, err)
	}
	return h, nil
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
	hashed   chan struct{} // the hasher is done with the piece
	stop     chan struct{}
	once     sync.Once
	wg       sync.WaitGroup
	ended    error // what ended the stream; read after ready is closed

	rest []byte // of the consumer: unread bytes of the piece in its hands
	err  error  // of the consumer, when it has met the end

	mu     sync.Mutex
	sum    hash.Hash
	alg    string
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
		hashed:   make(chan struct{}, 1),
		stop:     make(chan struct{}),
		sum:      h,
		alg:      start.Algorithm,
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
	_, err := io.Copy(teeInput{t}, r)
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
func (t *tee) pass(piece []byte) error {
	t.hash <- piece // never blocks: the hasher is done with the one before
	defer func() { <-t.hashed }()
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
		t.mu.Lock()
		t.sum.Write(piece)
		t.offset += int64(len(piece))
		if t.offset-t.states[len(t.states)-1].Offset >= teeBlock {
			if len(t.states) == teeStates {
				t.states = append(t.states[:0], t.states[1:]...)
			}
			t.states = append(t.states, t.stateLocked())
		}
		t.mu.Unlock()
		t.hashed <- struct{}{}
	}
}

func (t *tee) stateLocked() hashState {
	state, err := t.sum.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil { // crypto/sha1 and crypto/sha256 never fail
		panic(err)
	}
	return hashState{Algorithm: t.alg, Offset: t.offset, State: state}
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

// digest returns "algorithm:hex" of everything up to the end of the stream,
// and the stream's length in bytes. It is for after Read has returned io.EOF.
func (t *tee) digest() (string, int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.alg + ":" + hex.EncodeToString(t.sum.Sum(nil)), t.offset
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
