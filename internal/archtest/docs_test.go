package archtest

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The documentation of security shows each answer to a threat by the name of a
// test.
var (
	testNamed = regexp.MustCompile("`(Test[A-Z]\\w*)(?:/(\\w+))?`")
	testFunc  = regexp.MustCompile(`(?m)^func (Test[A-Z]\w*)\(`)
)

func TestEveryTestThatTheDocumentationNamesIsThere(t *testing.T) {
	t.Parallel()
	there := map[string]bool{}
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range testFunc.FindAllSubmatch(text, -1) {
			there[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	scripts, err := filepath.Glob("../../cmd/*/testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, script := range scripts {
		there["TestScripts/"+strings.TrimSuffix(filepath.Base(script), ".txtar")] = true
	}
	docs, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, doc := range docs {
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range testNamed.FindAllSubmatch(text, -1) {
			named++
			name := string(m[1])
			if name == "TestScripts" && len(m[2]) > 0 {
				name += "/" + string(m[2])
			}
			if !there[name] {
				t.Errorf("%s names %s, which is not there", filepath.Base(doc), name)
			}
		}
	}
	if named == 0 {
		t.Error("no test is named: is the pattern right?")
	}
}
