package transfer_test

import (
	"testing"

	"github.com/hyper2kvm/hyper2kvm/transfer"
)

func TestAnAnswerIsWholeWhenItsPartsCoverItInAnyOrder(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		parts [][2]uint32 // at, n
		whole bool
		bad   bool
	}{
		"one":                {[][2]uint32{{0, 100}}, true, false},
		"backwards":          {[][2]uint32{{80, 20}, {40, 40}, {0, 40}}, true, false},
		"the middle last":    {[][2]uint32{{0, 40}, {60, 40}, {40, 20}}, true, false},
		"a gap":              {[][2]uint32{{0, 40}, {41, 59}}, false, false},
		"twice":              {[][2]uint32{{0, 40}, {0, 40}}, false, true},
		"over the last byte": {[][2]uint32{{0, 40}, {39, 10}}, false, true},
		"over the first":     {[][2]uint32{{40, 40}, {30, 11}}, false, true},
		"around":             {[][2]uint32{{40, 10}, {30, 40}}, false, true},
		"within":             {[][2]uint32{{0, 100}, {10, 1}}, false, true},
	} {
		var cov transfer.Cover
		var err error
		for _, p := range c.parts {
			if err = cov.Add(p[0], p[1]); err != nil {
				break
			}
		}
		if (err != nil) != c.bad || err == nil && cov.Whole(100) != c.whole {
			t.Errorf("%s: %v, whole %t", name, err, cov.Whole(100))
		}
	}
	var cov transfer.Cover
	for i := range uint32(transfer.PieceSize / 512) {
		if err := cov.Add(2*i, 1); err != nil {
			t.Fatal(err)
		}
	}
	if cov.Add(2*transfer.PieceSize/512, 1) == nil {
		t.Error("there is no end to parts")
	}
}
