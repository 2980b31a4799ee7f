package web

import (
	"context"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/internal/fuzzy"
	"github.com/hyper2kvm/hyper2kvm/internal/vmsearch"
)

const (
	// inventoryKept is for how long an inventory is shown as it was read: a walk of
	// 10,000 VMs takes vCenter seconds.
	inventoryKept = 2 * time.Minute
	// inventoryPause is how long somebody who wants it read again waits at most.
	inventoryPause = 5 * time.Second
	// pageRows is how many VMs a page shows, and how many a script asks for at once.
	pageRows = 100
	mostRows = 3 * pageRows
)

func (s *Site) inventoryPages() []page {
	return []page{
		{route: "GET vms", needs: "GET /vms", menu: "VMs", serve: (*call).inventory},
		{route: "GET vms/rows", needs: "GET /vms", serve: (*call).inventoryRows},
	}
}

// inventories are those that were read lately, by the name of the vCenter.
type inventories struct {
	loads singleflight.Group

	mu sync.Mutex
	by map[string]*inventory
}

// inventory is all VMs of a vCenter, as they were at a time. It is never changed.
type inventory struct {
	vms   []models.VM // in the natural order of their names
	index *fuzzy.Index
	read  time.Time
}

// kept returns an inventory that was read after a time, or nil.
func (i *inventories) kept(vcenter string, after time.Time) *inventory {
	i.mu.Lock()
	defer i.mu.Unlock()
	if inv := i.by[vcenter]; inv != nil && inv.read.After(after) {
		return inv
	}
	return nil
}

// vms returns the inventory of a vCenter, read no longer ago than old. Who ask at once
// have it read once.
func (c *call) vms(vcenter string, old time.Duration) (*inventory, error) {
	after := time.Now().Add(-old)
	if inv := c.inventories.kept(vcenter, after); inv != nil {
		return inv, nil
	}
	ctx := c.r.Context()
	loaded := c.inventories.loads.DoChan(vcenter, func() (any, error) {
		vms, err := c.api.VMs(context.WithoutCancel(ctx), vcenter) // others wait for it, too; it is bounded
		if err != nil {
			return nil, err
		}
		inv := newInventory(vms)
		c.inventories.mu.Lock()
		defer c.inventories.mu.Unlock()
		if c.inventories.by == nil {
			c.inventories.by = make(map[string]*inventory)
		}
		c.inventories.by[vcenter] = inv // there are as many as the configuration has
		return inv, nil
	})
	select {
	case r := <-loaded:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*inventory), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
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
	Read           time.Time
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
	old := inventoryKept
	if c.r.URL.Query().Has("again") {
		old = inventoryPause
	}
	inv, err := c.vms(l.VCenter, old)
	if err != nil {
		return l, err
	}
	found := inv.find(l.Query)
	l.Found, l.All, l.Read = len(found), len(inv.vms), inv.read
	for _, vm := range found {
		l.Bytes += vm.DiskBytes
	}
	l.From = min(c.number("from"), max(len(found)-1, 0))
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
	if len(c.o.VCenters) > 1 {
		for _, name := range c.o.VCenters {
			label := name
			if name == "" {
				label = "default"
			}
			l.VCenters = append(l.VCenters, vcenterChoice{name, label, name == l.VCenter})
		}
	}
	return l, nil
}

// url is the address of a page about what the list is about.
func (l vmList) url(page string, more ...string) string {
	q := url.Values{"vcenter": {l.VCenter}, "q": {l.Query}}
	for i := 0; i < len(more); i += 2 {
		q.Set(more[i], more[i+1])
	}
	return "/ui/" + page + "?" + q.Encode()
}

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

// inventoryRows gives a script rows of the list.
func (c *call) inventoryRows() error {
	size := c.number("count")
	if size < 1 || size > mostRows {
		size = pageRows
	}
	l, err := c.list(size)
	if err != nil {
		return err
	}
	return c.fragment("inventory.html", "rows", l)
}

// plural words a number of things.
func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}
