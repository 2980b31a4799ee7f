package transfer

import (
	"context"
	"errors"
	"testing"
)

func TestBlocksAreMadeOnceAndOnlyTheHeadGetsMore(t *testing.T) {
	t.Parallel()
	b := newBlocks(4 * blockSize)
	other, head := newChunk(0, 1), newChunk(1, 1)
	close(head.head)
	made := map[*byte]bool{}
	get := func(c *chunk) []byte {
		t.Helper()
		block, _, err := b.get(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if len(block) != 0 || cap(block) != blockSize {
			t.Fatalf("a block of %d of %d bytes", len(block), cap(block))
		}
		made[&block[:1][0]] = true
		return block
	}
	for range 100 {
		one, two := get(other), get(other)
		b.put(one, two)
	}
	if len(made) != 2 {
		t.Errorf("%d blocks were made of which two were in use", len(made))
	}
	var all [][]byte
	for range 4 {
		all = append(all, get(other))
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := b.get(gone, other); !errors.Is(err, context.Canceled) {
		t.Errorf("a fifth block: %v", err)
	}
	all = append(all, get(head), get(head))
	b.put(all...)
	if len(b.free) != 4 || len(b.fresh) != 0 {
		t.Errorf("%d blocks are kept and %d can be made, of 4", len(b.free), len(b.fresh))
	}
}
