// Package archtest keeps the shape of the project: which package may import which,
// what must not be linked into the programs, and that every package says what it is
// for. Which package may import which is read from the table of rooms in
// ARCHITECTURE.md, the only one there is; a new package needs a line there.
package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

const (
	module   = "github.com/hyper2kvm/hyper2kvm/"
	lab      = "vsphere/vspheretest"
	maxLines = 500 // of a file that is not a test
)

// onlyForTests are packages that no program links, not even through others.
var onlyForTests = []string{
	module + lab,
	module + "bench",
	module + "daemon/api/apitest",
	module + "disk/disktest",
	module + "internal/directio/directiotest",
	module + "daemon/store/postgres/pgtest",
	module + "daemon/store/storetest",
	module + "internal/process/processtest",
	module + "internal/volume/volumetest",
	"github.com/vmware/govmomi/simulator",
}

// What some rooms know nothing of: the network, vSphere's library, the database's,
// and whatever runs an export.
var (
	network  = []string{"net/http"}
	govmomi  = []string{"github.com/vmware/govmomi"}
	database = []string{"modernc.org/sqlite", "github.com/jackc/pgx"}
	engine   = []string{module + "migrate", module + "vsphere", module + "transfer", module + "disk"}
)

// strangers are packages that a room, by what it is for, knows nothing of: no package
// that it links may be one of them.
var strangers = map[string][]string{
	"disk":          slices.Concat(network, govmomi),
	"disk/qcow2":    slices.Concat(network, govmomi),
	"disk/vmdk":     slices.Concat(network, govmomi),
	"kvm":           slices.Concat(network, govmomi),
	"transfer":      govmomi,
	"job":           slices.Concat(network, govmomi, engine),
	"daemon/jobs":   slices.Concat(govmomi, database, engine),
	"daemon/api":    slices.Concat(govmomi, database, engine),
	"daemon/web":    slices.Concat(govmomi, database, engine),
	"client":        slices.Concat(govmomi, database, engine),
	"cmd/h2kvmctl":  slices.Concat(govmomi, database, engine),
	"cmd/hyper2kvm": database,
}

// pkg is what go list says of a package.
type pkg struct {
	ImportPath string
	Name       string
	Dir        string
	GoFiles    []string
	Imports    []string
	Deps       []string
}

// room is the package's name in the tables: its path below the module.
func (p pkg) room() string { return strings.TrimPrefix(p.ImportPath, module) }

// packages returns every package of the module.
func packages(t *testing.T) []pkg {
	t.Helper()
	list, err := listed()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

var listed = sync.OnceValues(func() ([]pkg, error) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Name,Dir,GoFiles,Imports,Deps", module+"...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, errors.Join(err, errors.New(stderr.String()))
	}
	var list []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); err == io.EOF {
			return list, nil
		} else if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
})

func TestNoProgramLinksWhatIsOnlyForTests(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		if !strings.HasPrefix(p.room(), "cmd/") {
			continue
		}
		for _, dep := range p.Deps {
			for _, forbidden := range onlyForTests {
				if dep == forbidden || strings.HasPrefix(dep, forbidden+"/") {
					t.Errorf("%s links %s", p.room(), dep)
				}
			}
		}
	}
}

func TestEachRoomKnowsOnlyItsOwnWorld(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		for _, dep := range p.Deps {
			for _, stranger := range strangers[p.room()] {
				if dep == stranger || strings.HasPrefix(dep, stranger+"/") {
					t.Errorf("%s links %s", p.room(), dep)
				}
			}
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		if len(p.GoFiles) == 0 { // tests alone
			continue
		}
		if !slices.ContainsFunc(p.GoFiles, func(file string) bool {
			path := filepath.Join(p.Dir, file)
			parsed, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Error(err)
				return true
			}
			first := "Package " + p.Name + " "
			if p.Name == "main" {
				first = "Command " + filepath.Base(p.ImportPath) + " "
			}
			return strings.HasPrefix(parsed.Doc.Text(), first)
		}) {
			t.Errorf("%s has no package comment (a program's begins %q, a package's %q)",
				p.room(), "Command name", "Package name")
		}
	}
}

func TestNoFileIsTooLongToHoldInTheHead(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		for _, file := range p.GoFiles {
			text, err := os.ReadFile(filepath.Join(p.Dir, file))
			if err != nil {
				t.Fatal(err)
			}
			if lines := bytes.Count(text, []byte("\n")); lines > maxLines {
				t.Errorf("%s/%s has %d lines, more than %d", p.room(), file, lines, maxLines)
			}
		}
	}
}
