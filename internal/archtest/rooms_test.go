package archtest

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// room is a line of the table: packages that may import the same of ours. A name
// that ends in "/..." stands for a package and everything below it.
type room struct {
	names   []string
	imports []string
}

// rooms is the table under the heading "The rooms" of ARCHITECTURE.md: the names of
// packages are in backquotes, in the first and in the third column.
var rooms = sync.OnceValues(func() ([]room, error) {
	text, err := os.ReadFile("../../ARCHITECTURE.md")
	if err != nil {
		return nil, err
	}
	return parseRooms(string(text))
})

var quoted = regexp.MustCompile("`([^`]+)`")

func parseRooms(text string) ([]room, error) {
	_, section, found := strings.Cut(text, "\n## The rooms\n")
	if !found {
		return nil, errors.New(`ARCHITECTURE.md has no section "The rooms"`)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var table []room
	for line := range strings.Lines(section) {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != 5 { // three, between the outer bars
			return nil, fmt.Errorf("ARCHITECTURE.md: this line has not three cells: %s", line)
		}
		table = append(table, room{names(cells[1]), names(cells[3])})
	}
	if len(table) == 0 {
		return nil, errors.New("ARCHITECTURE.md: the table of rooms is empty")
	}
	return table, nil
}

func names(cell string) []string {
	var out []string
	for _, m := range quoted.FindAllStringSubmatch(cell, -1) {
		out = append(out, m[1])
	}
	return out
}

// covers says whether a name of the table stands for a package.
func covers(name, pkg string) bool {
	below, all := strings.CutSuffix(name, "/...")
	return pkg == below || all && strings.HasPrefix(pkg, below+"/")
}

// roomOf returns the number of a package's line, that of the longest name that
// covers it, or -1.
func roomOf(table []room, pkg string) int {
	at, longest := -1, ""
	for i, r := range table {
		for _, name := range r.names {
			if covers(name, pkg) && len(name) > len(longest) {
				at, longest = i, name
			}
		}
	}
	return at
}

func theRooms(t *testing.T) []room {
	t.Helper()
	table, err := rooms()
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestImportsPointDown(t *testing.T) {
	t.Parallel()
	for _, wrong := range judge(theRooms(t), packages(t)) {
		t.Error(wrong)
	}
}

// judge lists what is at odds between the table and the packages: imports that are
// not allowed, packages without a line, names that no package has, and permissions
// that nobody uses.
func judge(table []room, list []pkg) []string {
	var wrong []string
	type use struct {
		line int
		name string
	}
	used := make(map[use]bool)
	for _, p := range list {
		at := roomOf(table, p.room())
		if at < 0 {
			wrong = append(wrong, p.room()+" is in no line of the table of rooms")
			continue
		}
		for _, path := range p.Imports {
			imported, ours := strings.CutPrefix(path, module)
			if !ours {
				continue
			}
			i := slices.IndexFunc(table[at].imports, func(allowed string) bool { return covers(allowed, imported) })
			if i < 0 {
				wrong = append(wrong, fmt.Sprintf("%s imports %s, which its line of the table does not allow", p.room(), imported))
				continue
			}
			used[use{at, table[at].imports[i]}] = true
		}
	}
	for i, r := range table {
		for _, name := range r.names {
			if !slices.ContainsFunc(list, func(p pkg) bool { return covers(name, p.room()) }) {
				wrong = append(wrong, "there is no package "+name)
			}
		}
		for _, allowed := range r.imports {
			if !used[use{i, allowed}] {
				wrong = append(wrong, fmt.Sprintf("%s may import %s, and does not", strings.Join(r.names, ", "), allowed))
			}
		}
	}
	return wrong
}

func TestTheTableHasNoCircle(t *testing.T) {
	t.Parallel()
	// Go refuses circles between packages; one between lines would let two rooms
	// lean on each other through their sub-packages.
	for _, circle := range circles(theRooms(t)) {
		t.Errorf("the table allows a circle: %s", circle)
	}
}

func circles(table []room) []string {
	var found []string
	var visit func(at int, path []int)
	visit = func(at int, path []int) {
		if slices.Contains(path, at) {
			var words []string
			for _, i := range append(path, at) {
				words = append(words, strings.Join(table[i].names, "+"))
			}
			found = append(found, strings.Join(words, " -> "))
			return
		}
		for next := range table {
			if next != at && leansOn(table[at], table[next]) {
				visit(next, append(slices.Clone(path), at))
			}
		}
	}
	for i := range table {
		visit(i, nil)
	}
	return found
}

// leansOn says whether a may import a package of b.
func leansOn(a, b room) bool {
	return slices.ContainsFunc(a.imports, func(allowed string) bool {
		return slices.ContainsFunc(b.names, func(name string) bool {
			return covers(allowed, strings.TrimSuffix(name, "/...")) || covers(name, strings.TrimSuffix(allowed, "/..."))
		})
	})
}

func TestTheJudgeOfImportsCanFail(t *testing.T) {
	t.Parallel()
	table, err := parseRooms("# A\n\n## The rooms\n\n| package | owns | imports |\n|---|---|---|\n" +
		"| `a/...`, `b` | words | `c` |\n| `c` | words | `d`, `a/x` |\n| `d` | words | – |\n| `gone` | words | – |\n\n## Next\n| `e` | no | – |\n")
	if err != nil {
		t.Fatal(err)
	}
	ours := func(name string, imports ...string) pkg {
		p := pkg{ImportPath: module + name}
		for _, i := range imports {
			p.Imports = append(p.Imports, module+i)
		}
		return p
	}
	got := judge(table, []pkg{ours("a/x", "c"), ours("b", "d"), ours("c", "a/x"), ours("d"), ours("e")})
	for _, want := range []string{
		"b imports d, which its line of the table does not allow", "e is in no line of the table of rooms",
		"there is no package gone", "c may import d, and does not",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("the judge does not say %q: %q", want, got)
		}
	}
	if len(got) != 4 {
		t.Errorf("the judge says %q", got)
	}
	if len(circles(table)) == 0 {
		t.Error("a/... and c lean on each other, and nobody says so")
	}
	if _, err := parseRooms("no table"); err == nil {
		t.Error("a text without the table is taken")
	}
}
