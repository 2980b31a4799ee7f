package transfer

import (
	"context"
	"sync"
	"time"
)

// blocks is the memory of a ranged reader: a fixed number of blocks of blockSize
// bytes, made when first needed. The chunk that the consumer waits for must not
// wait for others, and gets more if need be; as many are dropped afterwards.
type blocks struct {
	free  chan []byte
	fresh chan struct{} // the right to make one, as often as there are to be

	mu   sync.Mutex
	debt int // how many there are above the fixed number
}

func newBlocks(window int64) *blocks {
	n := int(max(1, window/blockSize))
	b := &blocks{free: make(chan []byte, n), fresh: make(chan struct{}, n)}
	for range n {
		b.fresh <- struct{}{}
	}
	return b
}

// get returns an empty block for c, and how long it was waited for.
func (b *blocks) get(ctx context.Context, c *chunk) (block []byte, waited time.Duration, err error) {
	select {
	case block = <-b.free:
		return block[:0], 0, nil
	default:
	}
	select {
	case <-b.fresh:
		return make([]byte, 0, blockSize), 0, nil
	default:
	}
	began := time.Now()
	select {
	case block = <-b.free:
		return block[:0], time.Since(began), nil
	case <-c.head:
		b.mu.Lock()
		b.debt++
		b.mu.Unlock()
		return make([]byte, 0, blockSize), time.Since(began), nil
	case <-ctx.Done():
		return nil, 0, ctx.Err()
	}
}

// put takes blocks back.
func (b *blocks) put(list ...[]byte) {
	b.mu.Lock()
	drop := min(b.debt, len(list))
	b.debt -= drop
	b.mu.Unlock()
	for _, block := range list[drop:] {
		b.free <- block // never blocks: it has room for all but the debt
	}
}

// arrival is what one worker has of a chunk: every block but the last is full.
type arrival struct {
	chunk   *chunk
	helping bool
	blocks  [][]byte
	n       int64
}

// space returns where to read on, no more than is missing, and how long it took
// to get the memory.
func (a *arrival) space(ctx context.Context, b *blocks) (p []byte, waited time.Duration, err error) {
	var block []byte
	if last := len(a.blocks) - 1; last >= 0 && len(a.blocks[last]) < blockSize {
		block = a.blocks[last]
	} else {
		if block, waited, err = b.get(ctx, a.chunk); err != nil {
			return nil, 0, err
		}
		a.blocks = append(a.blocks, block)
	}
	return block[len(block):min(blockSize, int64(len(block))+a.chunk.length-a.n)], waited, nil
}

// add takes in n bytes that were read into the space.
func (a *arrival) add(n int) {
	if n > 0 {
		last := len(a.blocks) - 1
		a.blocks[last] = a.blocks[last][:len(a.blocks[last])+n]
		a.n += int64(n)
	}
}

// back drops everything behind the first n bytes.
func (a *arrival) back(n int64, b *blocks) {
	keep := int((n + blockSize - 1) / blockSize)
	b.put(a.blocks[keep:]...)
	a.blocks, a.n = a.blocks[:keep], n
	if keep > 0 {
		a.blocks[keep-1] = a.blocks[keep-1][:n-int64(keep-1)*blockSize]
	}
}
