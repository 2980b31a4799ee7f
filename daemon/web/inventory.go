package web

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"time"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/internal/fuzzy"
	"github.com/hyper2kvm/hyper2kvm/internal/vmsearch"
)

const (
	// pageRows is how many VMs a page shows, and how many a script asks for at once.
	pageRows = 100
	mostRows = 3 * pageRows
)

func (s *Site) inventoryPages() []page {
	return []page{
		{route: "GET vms", needs: "GET /vms", menu: "VMs", serve: (*call).inventory},
		{route: "GET vms/rows", needs: "GET /vms", serve: (*call).inventoryRows},
		{route: "GET vms/reading", needs: "GET /vms", serve: (*call).inventoryReading},
	}
}

// inventory is all VMs of a vCenter, as they were at a time. It is never changed.
type inventory struct {
	vms   []models.VM // in the natural order of their names
	index *fuzzy.Index
	read  time.Time
}

func newInventory(vms []models.VM) *inventory {
	type keyed struct {
		vm  models.VM
		key vmsearch.Key
	}
	all := make([]keyed, len(vms))
	for i, vm := range vms {
		all[i] = keyed{vm, vmsearch.KeyOf(vm.Name, vm.Path)}
	}
	slices.SortStableFunc(all, func(a, b keyed) int { return a.key.Compare(b.key) })
	inv := &inventory{vms: make([]models.VM, len(vms)), read: time.Now()}
	searched := make([]vmsearch.VM, len(vms))
	for i, one := range all {
		vm := one.vm
		inv.vms[i] = vm
		searched[i] = vmsearch.VM{
			Name: vm.Name, Path: vm.Path, Guest: vm.GuestOS, Host: vm.Host, Datastores: vm.Datastores, Power: vm.PowerState,
			Firmware: vm.Firmware, Connection: vm.Connection, Template: vm.Template, Snapshots: vm.Snapshots,
		}
	}
	inv.index = vmsearch.New(searched)
	return inv
}

// find returns the VMs that a search finds, the best first; all without a search.
func (i *inventory) find(query string) []models.VM {
	if query == "" {
		return i.vms
	}
	hits := i.index.Finder().Find(query)
	found := make([]models.VM, len(hits))
	for n, at := range hits {
		found[n] = i.vms[at]
	}
	return found
}

// byPath returns the VMs with these paths, and how many there are none of.
func (i *inventory) byPath(paths []string) (found []models.VM, missing int) {
	at := make(map[string]int, len(i.vms))
	for n, vm := range i.vms {
		at[vm.Path] = n
	}
	seen := make(map[string]bool, len(paths))
	for _, p := range paths {
		n, ok := at[p]
		switch {
		case !ok:
			missing++
		case !seen[p]:
			seen[p] = true
			found = append(found, i.vms[n])
		}
	}
	return found, missing
}

// vmList is what the list of VMs shows.
type vmList struct {
	VCenters       []vcenterChoice // more than one to choose from
	VCenter, Query string
	Rows           []vmRow
	From           int // number of the first row, from 0
	Found, All     int
	Bytes          int64  // that those found take on datastores
	Previous, Next string // addresses; empty is none
	RowsURL        string // where a script gets rows
	PageRows       int
	Known          bool      // there is an inventory, which all above is of
	Read           time.Time // when it was
	Old            string    // how long ago, when that is long
	Reading        reading
	CanSubmit      bool
}

type vcenterChoice struct {
	Name, Label string
	Here        bool
}

// vmRow is a line of the list.
type vmRow struct {
	models.VM
	Number  int // from 1, of those found
	Folder  string
	Power   string
	Problem string
}

// powers are the states of VMs, for people.
var powers = map[string]string{"poweredOn": "on", "poweredOff": "off", "suspended": "suspended"}

func rowOf(vm models.VM, number int) vmRow {
	r := vmRow{VM: vm, Number: number, Folder: path.Dir(vm.Path), Power: powers[vm.PowerState], Problem: vm.Problem}
	switch {
	case vm.Connection != "" && vm.Connection != "connected":
		r.Problem = vm.Connection
	case r.Problem == "" && vm.Template:
		r.Problem = "template"
	}
	return r
}

// vcenter is the one that a page is about: the one that is named, or the first.
func (c *call) vcenter() string {
	if q := c.r.FormValue("vcenter"); q != "" || len(c.o.VCenters) == 0 || slices.Contains(c.o.VCenters, "") {
		return q
	}
	return c.o.VCenters[0]
}

// number is a parameter of the address; 0 when it is none.
func (c *call) number(name string) int {
	n, err := strconv.Atoi(c.r.URL.Query().Get(name))
	if err != nil {
		return 0
	}
	return max(n, 0)
}

// list is what is asked for of an inventory: rows from a number on.
func (c *call) list(size int) (vmList, error) {
	l := vmList{VCenter: c.vcenter(), Query: c.r.URL.Query().Get("q"), PageRows: pageRows, CanSubmit: c.may("POST /jobs/submit")}
	st, err := c.stands(l.VCenter)
	if err != nil {
		return l, err
	}
	l.Reading = st.reading(l.VCenter)
	l.Reading.Here, l.Reading.Again = l.List(), l.Again()
	l.choices(c.o.VCenters)
	if l.Known = st.last != nil; l.Known {
		l.fill(st.last, c.number("from"), size)
	}
	l.Reading.URL = l.url("vms/reading", "from", strconv.Itoa(l.From), "shown", l.Version())
	return l, nil
}

// fill takes rows of an inventory, from a number on.
func (l *vmList) fill(inv *inventory, from, size int) {
	found := inv.find(l.Query)
	l.Found, l.All, l.Read = len(found), len(inv.vms), inv.read
	if old := time.Since(inv.read); old >= inventoryKept {
		l.Old = span(old)
	}
	for _, vm := range found {
		l.Bytes += vm.DiskBytes
	}
	l.From = min(from, max(len(found)-1, 0))
	for i, vm := range found[l.From:min(l.From+size, len(found))] {
		l.Rows = append(l.Rows, rowOf(vm, l.From+i+1))
	}
	if l.From > 0 {
		l.Previous = l.url("vms", "from", strconv.Itoa(max(l.From-size, 0)))
	}
	if l.From+size < len(found) {
		l.Next = l.url("vms", "from", strconv.Itoa(l.From+size))
	}
	l.RowsURL = l.url("vms/rows")
}

// choices are the vCenters that there are, when there are several.
func (l *vmList) choices(names []string) {
	if len(names) < 2 {
		return
	}
	for _, name := range names {
		l.VCenters = append(l.VCenters, vcenterChoice{name, cmp.Or(name, "default"), name == l.VCenter})
	}
}

// Version tells an inventory from those that were read before; that of none is "".
func (l vmList) Version() string {
	if !l.Known {
		return ""
	}
	return strconv.FormatInt(l.Read.UnixNano(), 36)
}

// url is the address of a page about what the list is about.
func (l vmList) url(page string, more ...string) string {
	q := url.Values{"vcenter": {l.VCenter}, "q": {l.Query}}
	for i := 0; i < len(more); i += 2 {
		q.Set(more[i], more[i+1])
	}
	return "/ui/" + page + "?" + q.Encode()
}

// List is the address of the list.
func (l vmList) List() string { return l.url("vms") }

// Again is the address at which the inventory is read again.
func (l vmList) Again() string { return l.url("vms", "again", "1") }

// inventory shows the list of VMs; to a script, the list alone.
func (c *call) inventory() error {
	l, err := c.list(pageRows)
	if err != nil {
		return err
	}
	if c.isFragment() {
		return c.fragment("inventory.html", "list", l)
	}
	return c.show("inventory.html", "VMs", l)
}

// inventoryReading tells a script how it stands with the inventory that its page waits
// for, and gives it the list once that is another one than it shows.
func (c *call) inventoryReading() error {
	l, err := c.list(pageRows)
	if err != nil {
		return err
	}
	if l.Version() == c.r.URL.Query().Get("shown") {
		return c.fragment("inventory.html", "reading", l.Reading)
	}
	c.w.Header().Set("HX-Retarget", "#list")
	c.w.Header().Set("HX-Reswap", "outerHTML")
	return c.fragment("inventory.html", "list", l)
}

// inventoryRows gives a script rows of the list.
func (c *call) inventoryRows() error {
	size := c.number("count")
	if size < 1 || size > mostRows {
		size = pageRows
	}
	l, err := c.list(size)
	switch {
	case err != nil:
		return err
	case !l.Known:
		return problem{http.StatusServiceUnavailable, "The inventory has not been read yet."}
	}
	c.w.Header().Set("Inventory-Version", l.Version())
	return c.fragment("inventory.html", "rows", l)
}

// plural words a number of things.
func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}
