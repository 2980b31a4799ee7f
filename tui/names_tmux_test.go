package tui_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

func TestTmuxNamesAtFiftyEightyAndAHundredAndTwentyColumns(t *testing.T) {
	t.Parallel()
	const long = "prod-frankfurt-erp-application-server-%04d-clone"
	vms := []vspheretest.VM{{Name: "Zürich-1", Folder: "Büro"}, {Name: "domain-backup"}, {Name: "web10"}, {Name: "web9"}}
	for i := range 4 {
		vms = append(vms, vspheretest.VM{Name: fmt.Sprintf(long, 131+i)}, vspheretest.VM{Name: fmt.Sprintf("prod-db-%02d", 4-i)})
	}
	_, env := lab(t, vspheretest.Config{VMs: vms})
	p := open(t, 80, 24, env...)
	p.until("12 of 12", "by name", "prod-frankfurt-erp-a…on-server-0131-clone ", "…on-server-0134-clone ", "PROBLEM")
	ordered(t, p.screen(), "domain-backup", "prod-db-01", "prod-db-04", "prod-frankfurt", "web9", "web10", "Zürich-1")

	p.tmux("resize-window", "-x", "50", "-y", "24")
	p.when("names that keep both ends at 50 columns", func(s string) bool {
		return strings.Contains(s, "…ver-0131-clone off") && strings.Contains(s, "…ver-0134-clone off") && !strings.Contains(s, "GUEST")
	})
	p.tmux("resize-window", "-x", "120", "-y", "24")
	p.until("prod-frankfurt-er…erver-0131-clone ", "│", "path     /DC0/vm/")
	p.keys("C-d") // without the details, the whole width is the list's
	p.until(fmt.Sprintf(long, 131)+" ", fmt.Sprintf(long, 134)+" ", "GUEST", "PROBLEM")

	p.text("db")
	ordered(t, p.until("5 of 12"), "prod-db-01", "prod-db-02", "prod-db-03", "prod-db-04", "domain-backup")
	p.keys("C-u")
	p.text("zurich | web9")
	p.until("2 of 12", "Zürich-1", "web9")
	p.keys("Tab", "C-u")
	p.text("is:selected")
	p.until("1 of 12", "● 1 selected")
	p.keys("C-c")
	p.until("ENDED WELL")
}

// ordered fails unless the names are on the screen from the top down.
func ordered(t *testing.T, screen string, names ...string) {
	t.Helper()
	rest := screen
	for _, name := range names {
		_, after, found := strings.Cut(rest, name)
		if !found {
			t.Errorf("%s is missing, or not below those before it, of %q in\n%s", name, names, screen)
			return
		}
		rest = after
	}
}
