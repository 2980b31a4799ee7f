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

// Geometry of the tee: how much is read at once, and how many blocks may be
// read ahead of the consumer.
const (
	teeBlock  = 512 << 10
	teeBlocks = 8
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

// tee reads a stream ahead of its consumer and hashes it on the way. Three
// goroutines share pooled blocks: one reads from the source, one hashes, and
// the caller of Read consumes, so that the network, the hash, and the decoder
// each have a core to themselves where there is one. What the consumer does
// not take stops the source: at most teeBlocks blocks are in memory.
type tee struct {
	ready chan *block // read and hashed or being hashed, in order
	hash  chan *block
	pool  chan *block
	stop  chan struct{}
	once  sync.Once
	wg    sync.WaitGroup

	cur *block
	pos int
	err error // set when the consumer has met the end

	mu     sync.Mutex
	sum    hash.Hash
	alg    string
	offset int64       // hashed so far
	states []hashState // at block boundaries since the last checkpoint
}

// block is a piece of the stream on its way to the hasher and the consumer;
// the second of them to finish with it gives it back to the pool.
type block struct {
	buf    []byte
	n      int
	err    error // what ended the stream after these bytes
	hashed chan struct{}
}

// newTee hashes what it reads from r on from state start, which must be the
// state at r's first byte.
func newTee(r io.Reader, start hashState) (*tee, error) {
	h, err := start.restore()
	if err != nil {
		return nil, err
	}
	t := &tee{
		ready:  make(chan *block, teeBlocks),
		hash:   make(chan *block, teeBlocks),
		pool:   make(chan *block, teeBlocks),
		stop:   make(chan struct{}),
		sum:    h,
		alg:    start.Algorithm,
		offset: start.Offset,
		states: []hashState{start},
	}
	for range teeBlocks {
		t.pool <- &block{hashed: make(chan struct{}, 1)}
	}
	t.wg.Add(2)
	go t.readAhead(r)
	go t.hashAll()
	return t, nil
}

func (t *tee) readAhead(r io.Reader) {
	defer t.wg.Done()
	defer close(t.ready)
	defer close(t.hash)
	for {
		var b *block
		select {
		case b = <-t.pool:
		case <-t.stop:
			return
		}
		if b.buf == nil {
			b.buf = make([]byte, teeBlock)
		}
		b.fill(r)
		t.hash <- b // both have room for every block there is
		t.ready <- b
		if b.err != nil {
			return
		}
	}
}

// fill reads from r until the block is full or the stream ends.
func (b *block) fill(r io.Reader) {
	b.n, b.err = 0, nil
	for b.n < len(b.buf) && b.err == nil {
		var n int
		n, b.err = r.Read(b.buf[b.n:])
		b.n += n
	}
}

func (t *tee) hashAll() {
	defer t.wg.Done()
	for b := range t.hash {
		t.mu.Lock()
		t.sum.Write(b.buf[:b.n])
		t.offset += int64(b.n)
		if b.n == len(b.buf) {
			t.states = append(t.states, t.stateLocked())
		}
		t.mu.Unlock()
		b.hashed <- struct{}{}
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
	for t.cur == nil {
		if t.err != nil {
			return 0, t.err
		}
		b, ok := <-t.ready
		if !ok {
			t.err = io.ErrClosedPipe
			return 0, t.err
		}
		t.cur, t.pos = b, 0
		if b.n == 0 {
			t.finish()
		}
	}
	n := copy(p, t.cur.buf[t.pos:t.cur.n])
	t.pos += n
	if t.pos == t.cur.n {
		t.finish()
	}
	return n, nil
}

func (t *tee) finish() {
	<-t.cur.hashed
	t.err = t.cur.err
	t.pool <- t.cur
	t.cur = nil
}

// stateBefore returns the last known hash state at or before stream offset
// off, and forgets the older ones.
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

// Close stops the reading ahead. The source must be closed first, so that a
// read under way ends.
func (t *tee) Close() error {
	t.once.Do(func() {
		close(t.stop)
		t.wg.Wait()
	})
	return nil
}
