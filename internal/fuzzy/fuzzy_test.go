package fuzzy_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hyper2kvm/hyper2kvm/internal/fuzzy"
)

// find returns the names of the items that query finds, best first.
func find(query string, items ...[]string) []string {
	var names []string
	for _, i := range fuzzy.NewIndex(items).Finder().Find(query) {
		names = append(names, items[i][0])
	}
	return names
}

func named(names ...string) [][]string {
	items := make([][]string, len(names))
	for i, n := range names {
		items[i] = []string{n}
	}
	return items
}

func TestOneOfFiveThousandIsLeftByThreeWordsInAnyOrder(t *testing.T) {
	t.Parallel()
	var items [][]string
	for i := range 5000 {
		stage := []string{"prod", "test", "dev"}[i%3]
		app := []string{"erp", "web", "db", "mail"}[i%4]
		items = append(items, []string{fmt.Sprintf("%s-%s-%04d", stage, app, i), "/DC0/vm/" + stage, "Debian GNU/Linux 12", fmt.Sprintf("esx-%02d", i%40)})
	}
	for _, query := range []string{"prod erp 0132", "0132 erp prod", "erp 0132", "PROD-erp"} {
		got := find(query, items...)
		if query == "PROD-erp" {
			if len(got) != 0 {
				t.Errorf("an upper-case word matched %d lower-case names", len(got))
			}
			continue
		}
		if !slices.Equal(got, []string{"prod-erp-0132"}) {
			t.Errorf("%q found %d items %.60q, want prod-erp-0132 alone", query, len(got), got)
		}
	}
}

func TestRankingFollowsWhatPeopleMean(t *testing.T) {
	t.Parallel()
	cases := []struct {
		why, query string
		want       []string // in this order
	}{
		{"a whole word comes before spread letters", "erp", []string{"prod-erp-1", "enterprise"}},
		{"the beginning of a word before its middle", "db", []string{"my-db-1", "mydb-01"}},
		{"the beginning of the name before that of a word", "web", []string{"web-prod", "prod-web"}},
		{"adjacent letters before gaps", "abc", []string{"x-abc-zz", "x-axbxc-"}},
		{"the shorter of equals", "mail", []string{"mail-1", "mail-100"}},
		{"equals keep their order", "app", []string{"app-b", "app-a"}},
		{"first letters of words", "pw", []string{"prod-web", "prodhow1"}},
		{"camel case begins a word", "sql", []string{"prodSQL1", "prodsql1"}},
	}
	for _, c := range cases {
		reversed := slices.Clone(c.want)
		if c.why != "equals keep their order" {
			slices.Reverse(reversed)
		}
		if got := find(c.query, named(reversed...)...); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q found %q, want %q", c.why, c.query, got, c.want)
		}
	}
}

// fleet is an inventory in which letters of most queries are found everywhere.
func fleet() [][]string {
	items := [][]string{
		{"Domain-Backup", "/DC/vm/Infra"}, {"dev-build-01", "/DC/vm/Dev"}, {"dmz-bastion", "/DC/vm/DMZ"}, {"devbox", "/DC/vm/Dev"},
		{"Zürich-Druck", "/DC/vm/Büro"}, {"oldbackup", "/DC/vm/Infra"}, {"sandbox", "/DC/vm/Dev"}, {"db", "/DC/vm/Old"},
		{"erp", "/DC/vm/ERP"}, {"enterprise-portal", "/DC/vm/Web"}, {"prod-web-1", "/DC/vm/Web"}, {"prod-web-10", "/DC/vm/Web"},
		{"prod-web-2", "/DC/vm/Web"}, {"website", "/DC/vm/Web"}, {"win-ebs", "/DC/vm/Windows"}, {"app-server", "/DC/vm/oracle"},
		{"oracle-9", "/DC/vm/Old"}, {"o-racle", "/DC/vm/Old"},
	}
	for i := range 8 {
		items = append(items, []string{fmt.Sprintf("prod-db-%02d", i+1), "/DC/vm/Databases"})
	}
	return items
}

func TestTheFirstRowsOfASearchAreThoseThatWereMeant(t *testing.T) {
	t.Parallel()
	databases := []string{"prod-db-01", "prod-db-02", "prod-db-03", "prod-db-04", "prod-db-05", "prod-db-06", "prod-db-07", "prod-db-08"}
	for query, want := range map[string][]string{
		"db":           append([]string{"db"}, databases...),
		"-db-":         databases,
		"DB":           {"Domain-Backup"},
		"DBX":          nil,
		"db 7":         {"prod-db-07"},
		"prod db":      databases,
		"pdb":          databases,
		"erp":          {"erp"},
		"web":          {"website", "prod-web-1", "prod-web-2", "prod-web-10"},
		"prod-web-1":   {"prod-web-1", "prod-web-10"},
		"web 1$":       {"prod-web-1"},
		"oracle":       {"oracle-9", "app-server", "o-racle"},
		"zurich":       {"Zürich-Druck"},
		"buro":         {"Zürich-Druck"},
		"dev":          {"dev-build-01", "devbox"},
		"databases !1": databases[1:],
		"erp | db":     {"erp", "db"},
	} {
		got := find(query, fleet()...)
		if len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
			t.Errorf("%q found %q, want %q first", query, got, want)
		}
		if want == nil && len(got) > 0 {
			t.Errorf("%q found %q", query, got)
		}
	}
}

func TestANameComesBeforeAnyOtherField(t *testing.T) {
	t.Parallel()
	got := find("oracle", []string{"app-1", "/DC0/vm/oracle"}, []string{"the-old-oracle-machine", "/DC0/vm"})
	if want := []string{"the-old-oracle-machine", "app-1"}; !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
}

func TestOperators(t *testing.T) {
	t.Parallel()
	items := [][]string{
		{"prod-db-1", "/vm/Linux", "is:on"},
		{"prod-web-1", "/vm/Windows", "is:off"},
		{"test-db-11", "/vm/Linux", "is:off"},
	}
	for query, want := range map[string][]string{
		"!prod":    {"test-db-11"},
		"db !11":   {"prod-db-1"},
		"^test":    {"test-db-11"},
		"-1$":      {"prod-db-1", "prod-web-1"},
		"is:off":   {"prod-web-1", "test-db-11"},
		"'pdb":     nil,
		"pdb":      {"prod-db-1"},
		"linux":    {"prod-db-1", "test-db-11"},
		"Linux":    {"prod-db-1", "test-db-11"},
		"LINUX":    nil,
		"lnx":      nil, // letters are not spread outside the name
		"!":        {"prod-db-1", "prod-web-1", "test-db-11"},
		"  db   1": {"prod-db-1", "test-db-11"},
	} {
		if got := find(query, items...); !slices.Equal(got, want) {
			t.Errorf("%q found %q, want %q", query, got, want)
		}
	}
}

func TestOneOfSeveralWordsIsEnough(t *testing.T) {
	t.Parallel()
	items := [][]string{
		{"prod-db-1", "/vm/Linux", "is:on"},
		{"prod-web-1", "/vm/Windows", "is:off"},
		{"test-mail-1", "/vm/Linux", "is:off"},
		{"a|b", "/vm", "is:off"},
	}
	for query, want := range map[string][]string{
		"web | db":         {"prod-db-1", "prod-web-1"},
		"web|db":           {"prod-db-1", "prod-web-1"},
		"web |db":          {"prod-db-1", "prod-web-1"},
		"prod web | mail":  {"prod-web-1"},
		"web | mail 1 | 2": {"prod-web-1", "test-mail-1"},
		"web | is:on":      {"prod-web-1", "prod-db-1"},
		"!prod | web":      {"prod-web-1", "a|b", "test-mail-1"},
		"^test | b-1$":     {"prod-db-1", "prod-web-1", "test-mail-1"},
		"web |":            {"prod-web-1"},
		"| web":            {"prod-web-1"},
		"web || mail":      {"prod-web-1", "test-mail-1"},
		"web | ' 1":        {"prod-web-1"},
		"|":                {"prod-db-1", "prod-web-1", "test-mail-1", "a|b"},
		"'a|b":             {"a|b"},
	} {
		got := find(query, items...)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%q found %q, want %q", query, got, want)
		}
	}
}

func TestAccentsAndTheirEncodingMakeNoDifference(t *testing.T) {
	t.Parallel()
	items := named("Zürich-1", "Zu\u0308rich-2", "zurich-3", "Łódź-4", "Größe-5", "ＷＥＢ-6")
	for query, want := range map[string][]string{
		"zurich":          {"Zürich-1", "zurich-3", "Zu\u0308rich-2"},
		"zürich":          {"Zürich-1", "zurich-3", "Zu\u0308rich-2"},
		"Zurich":          {"Zürich-1", "Zu\u0308rich-2"},
		"zrch":            {"Zürich-1", "zurich-3", "Zu\u0308rich-2"},
		"lodz":            {"Łódź-4"},
		"grosse":          {"Größe-5"},
		"grö":             {"Größe-5"},
		"web":             {"ＷＥＢ-6"},
		"zu\u0308rich 2$": {"Zu\u0308rich-2"},
	} {
		if got := find(query, items...); !slices.Equal(got, want) {
			t.Errorf("%q found %q, want %q", query, got, want)
		}
	}
	if got := find("munchen", []string{"vm", "/DC/vm/München"}); len(got) != 1 {
		t.Errorf("a folder with an accent is not found: %q", got)
	}
}

func TestAFlagIsAWordOfTheSearch(t *testing.T) {
	t.Parallel()
	marked := map[int]bool{1: true}
	f := fuzzy.NewIndex(named("web-1", "web-2", "db-1")).Finder()
	f.Flag("is:selected", func(i int) bool { return marked[i] })
	check := func(query string, want ...int) {
		t.Helper()
		if got := f.Find(query); !slices.Equal(got, want) {
			t.Errorf("%q found %v, want %v", query, got, want)
		}
	}
	check("is:sel", 1)
	check("is:selected", 1)
	marked[2] = true
	if !f.Again() {
		t.Error("flags that have changed make no difference to is:selected")
	}
	check("is:selected", 1, 2)
	check("!is:selected", 0)
	check("web is:selected", 1)
	check("web !is:selected", 0)
	check("db | is:selected", 2, 1)
	check("web", 0, 1)
	if f.Again() {
		t.Error("flags make a difference to web")
	}
	check("selected")
	check("is:on") // of the flag nothing but its beginning
}

func TestDigitsOfANumberAreNotSpread(t *testing.T) {
	t.Parallel()
	items := named("app-0132", "app-01-32", "app-01302", "erp2024")
	if got := find("0132", items...); !slices.Equal(got, []string{"app-0132"}) {
		t.Errorf("0132 found %q", got)
	}
	if got := find("e24", items...); !slices.Equal(got, []string{"erp2024"}) {
		t.Errorf("e24 found %q", got)
	}
}

func TestLettersAreSpreadOverAPartAndToTheBeginningsOfOthers(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]bool{
		"prd":     true,  // in one part
		"prdb":    true,  // and on to the beginning of the next
		"p1":      true,  // digits begin a part
		"proddb":  true,  // the dash left out
		"od":      true,  // beginning in the middle
		"rw":      false, // there is no w
		"pb":      false, // b does not begin a part
		"prodb":   true,  // the d is that of db
		"pod":     true,
		"poe":     false,
		"dbprod":  false, // the order counts within a word
		"prod-db": true,
	} {
		if got := len(find(query, named("prod-db-1")...)) == 1; got != want {
			t.Errorf("%q finds prod-db-1: %t, want %t", query, got, want)
		}
	}
}

func TestPositionsAreThoseOfTheMatch(t *testing.T) {
	t.Parallel()
	cases := []struct {
		query, text string
		name        bool
		want        []int
	}{
		{"erp", "prod-erp-1", true, []int{5, 6, 7}},
		{"pdb", "prod-db", true, []int{0, 5, 6}},
		{"db prod", "prod-db", true, []int{0, 1, 2, 3, 5, 6}},
		{"größe", "Die Größe", true, []int{4, 5, 6, 7, 8}},
		{"grosse", "Die Größe", true, []int{4, 5, 6, 7, 8}},
		{"rich", "Zu\u0308rich", true, []int{3, 4, 5, 6}},
		{"zurich", "in Zu\u0308rich", false, []int{3, 4, 6, 7, 8, 9}},
		{"db", "d-b-mydb", true, []int{6, 7}},
		{"web | db", "db-web", true, []int{0, 1, 3, 4, 5}},
		{"linux", "GNU/Linux 12", false, []int{4, 5, 6, 7, 8}},
		{"x", "İİx", false, []int{2}}, // whose lower case is shorter in bytes
		{"nothing", "prod", true, nil},
		{"!prod", "prod", true, nil},
	}
	for _, c := range cases {
		if diff := cmp.Diff(c.want, fuzzy.Positions(c.query, c.text, c.name)); diff != "" {
			t.Errorf("%q in %q: %s", c.query, c.text, diff)
		}
	}
}

// catalogue makes n items as an inventory has them.
func catalogue(n int) [][]string {
	items := make([][]string, n)
	for i := range items {
		items[i] = []string{
			fmt.Sprintf("%s-%s-%05d", []string{"prod", "test", "dev", "lab"}[i%4], []string{"erp", "web", "db", "mail", "ldap"}[i%5], i),
			fmt.Sprintf("/DC0/vm/Team-%02d/App-%02d", i%20, i/20%10),
			[]string{"Debian GNU/Linux 12 (64-bit)", "Microsoft Windows Server 2019 (64-bit)", "Red Hat Enterprise Linux 9 (64-bit)"}[i%3],
			fmt.Sprintf("esx-%02d.example.com", i%40),
			fmt.Sprintf("datastore-%d", i%7),
			[]string{"is:on", "is:off"}[i%2],
		}
	}
	return items
}

func TestTypingFindsWhatAFreshSearchFinds(t *testing.T) {
	t.Parallel()
	x := fuzzy.NewIndex(catalogue(400))
	typed := x.Finder()
	rng := rand.New(rand.NewPCG(1, 2))
	const keys = "prodwebE '^$!1203 -|"
	query := ""
	for range 4000 {
		if n := rng.IntN(12); n == 0 {
			query = ""
		} else if n == 1 && query != "" {
			query = query[:len(query)-1]
		} else {
			query += string(keys[rng.IntN(len(keys))])
		}
		if want, got := x.Finder().Find(query), typed.Find(query); !slices.Equal(want, got) {
			t.Fatalf("%q: %s", query, cmp.Diff(want, got))
		}
	}
}

func FuzzPositionsLieInTheText(f *testing.F) {
	f.Add("prod erp", "prod-erp-1", true)
	f.Add("!x 'y ^z w$", "İzmir\x00", false)
	f.Add("日本", "東京 日本", true)
	f.Add("\x1f", "0", false)
	f.Fuzz(func(t *testing.T, query, text string, name bool) {
		n := len([]rune(text))
		for _, at := range fuzzy.Positions(query, text, name) {
			if at < 0 || at >= n {
				t.Fatalf("position %d in a text of %d runes", at, n)
			}
		}
		items := [][]string{{"", text}}
		if name {
			items = [][]string{{text}}
		}
		found := fuzzy.NewIndex(items).Finder().Find(query)
		if fields := strings.Fields(query); len(fields) == 0 && len(found) != 1 {
			t.Fatal("an empty query did not find the item")
		}
	})
}

func BenchmarkFind(b *testing.B) {
	x := fuzzy.NewIndex(catalogue(10_000))
	for _, query := range []string{"", "p", "erp", "prod erp 0132", "pd", "linux"} {
		b.Run(fmt.Sprintf("%q", query), func(b *testing.B) {
			f := x.Finder()
			for b.Loop() {
				f.Find("\x00") // a query that this one does not narrow
				f.Find(query)
			}
		})
	}
}
