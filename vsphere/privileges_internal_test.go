package vsphere

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// mentioned lists the privileges that a text names, each once.
func mentioned(text string) []string {
	found := regexp.MustCompile(`\b(VApp|VirtualMachine|Datastore|Global)(\.[A-Z][A-Za-z]+)+`).FindAllString(text, -1)
	slices.Sort(found)
	return slices.Compact(found)
}

func TestTheDocumentAndTheScriptsNameThePrivilegesThatAreChecked(t *testing.T) {
	t.Parallel()
	var checked []string
	for _, p := range privileges {
		checked = append(checked, p.id)
	}
	slices.Sort(checked)
	checked = slices.Compact(checked)
	for _, file := range []string{"../docs/vsphere-permissions.md", "../deploy/vsphere/create-role.sh", "../deploy/vsphere/create-role.ps1"} {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text := string(data)
		if strings.HasSuffix(file, ".md") {
			var rows []string
			for line := range strings.Lines(text) {
				if strings.HasPrefix(line, "| ") {
					rows = append(rows, line)
				}
			}
			text = strings.Join(rows, "")
		}
		if got := mentioned(text); !slices.Equal(got, checked) {
			t.Errorf("%s names\n%s\nand checked are\n%s", file, strings.Join(got, "\n"), strings.Join(checked, "\n"))
		}
	}
}
