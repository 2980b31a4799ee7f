package e2e

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// diary is what happened at a vCenter, kept for the case that something is left
// there and nobody knows why.
type diary struct {
	mu      sync.Mutex
	entries []entry
}

// entry is a line of a diary: about one VM or, with vm "", about all of them.
type entry struct {
	at       time.Time
	vm, what string
}

func (d *diary) note(vm, format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.entries = append(d.entries, entry{time.Now(), vm, fmt.Sprintf(format, args...)})
}

// write gives the lines about a VM, all lines for "".
func (d *diary) write(w io.Writer, vm string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var err error
	for _, e := range d.entries {
		if vm == "" || e.vm == vm {
			_, werr := fmt.Fprintf(w, "%s %s %s\n", e.at.UTC().Format("15:04:05.000000"), e.vm, e.what)
			err = errors.Join(err, werr)
		}
	}
	return err
}

// explain logs what happened to a VM, at its vCenter and in the daemon.
func (s *soak) explain(site *site, g *machine) {
	var text strings.Builder
	_ = site.weather.diary.write(&text, site.lab.InventoryPath(g.vm.Name))
	for line := range strings.Lines(s.said()) {
		if strings.Contains(line, g.vm.Name) {
			text.WriteString(line)
		}
	}
	s.t.Logf("what happened to %s:\n%s", g.vm.Name, text.String())
}

// keepLog writes the daemon's log and the diaries of all vCenters to the file that
// H2KVM_SOAK_LOG names, when the test has failed.
func (s *soak) keepLog(t *testing.T) {
	name := os.Getenv("H2KVM_SOAK_LOG")
	if name == "" || !t.Failed() {
		return
	}
	f, err := os.Create(name)
	if err != nil {
		t.Error(err)
		return
	}
	_, err = io.WriteString(f, s.said())
	for _, site := range s.sites {
		_, herr := fmt.Fprintf(f, "\nvCenter %s:\n", site.name)
		err = errors.Join(err, herr, site.weather.diary.write(f, ""))
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Error(err)
	}
}
