package natural_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/hyper2kvm/hyper2kvm/internal/natural"
)

func TestNamesStandAsPeopleLookForThem(t *testing.T) {
	t.Parallel()
	want := []string{
		"", "-a", "1", "01", "2", "10", "10a", "a", "A-b", "app", "App-1", "app-01", "app-1-x", "app-1.2", "app-1.10", "app-2", "app-10",
		"app-99999999999999999999", "app-100000000000000000000", "bulk-00000", "bulk-00001", "bulk-00020", "web9", "web10", "Zurich", "Zürich", "zürich", "Zürich-2", "日本",
	}
	got := slices.Clone(want)
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		rng.Shuffle(len(got), func(i, j int) { got[i], got[j] = got[j], got[i] })
		slices.SortFunc(got, natural.Compare)
		if !slices.Equal(got, want) {
			t.Fatalf("sorted\n%q, want\n%q", got, want)
		}
	}
}

func TestAccentsFoldHoweverTheyAreEncoded(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"Zürich": "zurich", "Zu\u0308rich": "zurich", "GROẞE Größe": "grosse grosse", "Łódź": "lodz", "smørrebrød": "smorrebrod",
		"Ærø": "aero", "İzmir ı": "izmir i", "ＷＥＢ": "web", "Ёлка": "елка", "東京": "東京", "\u0301": "", "a\xffb": "a\ufffdb",
	} {
		if got := natural.Fold(s); got != want {
			t.Errorf("%q folds to %q, want %q", s, got, want)
		}
	}
}

func FuzzCompareIsAnOrder(f *testing.F) {
	f.Add("web-9", "web-10", "web-010")
	f.Add("Zürich", "zurich", "\xff")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		ab, bc, ac := natural.Compare(a, b), natural.Compare(b, c), natural.Compare(a, c)
		switch {
		case ab != -natural.Compare(b, a):
			t.Errorf("%q and %q compare differently both ways", a, b)
		case (ab == 0) != (a == b):
			t.Errorf("%q and %q compare as %d", a, b, ab)
		case ab < 0 && bc < 0 && ac >= 0:
			t.Errorf("%q, %q and %q go in a circle", a, b, c)
		}
		n := utf8.RuneCountInString(a)
		last := 0
		natural.Plain(a, func(_ rune, from int) {
			if from < last || from >= n {
				t.Errorf("a rune of %q comes from %d after %d", a, from, last)
			}
			last = from
		})
	})
}
