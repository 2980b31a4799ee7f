package picker

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/internal/fuzzy"
	"github.com/hyper2kvm/hyper2kvm/internal/vmsearch"
	"github.com/hyper2kvm/hyper2kvm/tui/cell"
	"github.com/hyper2kvm/hyper2kvm/vsphere"
)

// row is what the list shows of one VM, safe for the terminal.
type row struct {
	name    string
	folder  string // inventory path of the folder
	twin    bool   // another VM has the same name
	guest   string
	problem string

	key vmsearch.Key // for sorting
}

// order is a way to sort.
type order int

const (
	byMatch order = iota // as found; by name while the search is empty
	byName
	bySize
	byPower
	byDisks
	byGuest
	byFolder
	byProblem
	orders // how many there are
)

func (o order) String() string {
	return [...]string{"best match", "name", "size", "power", "disks", "guest", "folder", "problem"}[o]
}

// list is the VMs, which of them are shown, and which are marked.
type list struct {
	vms   []vsphere.VM
	rows  []row
	byRef map[string]int
	find  *fuzzy.Finder
	wants wants

	query     string
	order     order
	backwards bool
	orders    map[order][]int // by order, all VMs
	hit       []bool          // by VM, whether the search found it
	shown     []int           // indexes of VMs, as on the screen

	marked []bool
	count  int   // of the marked
	size   int64 // bytes that the marked take on datastores
}

// newList lists VMs in the natural order of their names.
func newList(vms []vsphere.VM) *list {
	l := &list{
		vms: make([]vsphere.VM, len(vms)), rows: make([]row, len(vms)), byRef: make(map[string]int, len(vms)),
		orders: map[order][]int{}, hit: make([]bool, len(vms)), marked: make([]bool, len(vms)),
	}
	names := make(map[string]int, len(vms))
	rows := make([]row, len(vms))
	places := make([]int, len(vms))
	for i, vm := range vms {
		names[vm.Name]++
		rows[i], places[i] = rowOf(vm), i
	}
	slices.SortStableFunc(places, func(a, b int) int { return rows[a].key.Compare(rows[b].key) })
	for i, from := range places {
		l.vms[i], l.rows[i] = vms[from], rows[from]
		l.byRef[l.vms[i].Ref] = i
		l.rows[i].twin = names[l.vms[i].Name] > 1
	}
	l.wants = wantsOf(l.rows)
	l.find = finder(l.vms, l.rows)
	l.find.Flag(selectedTag, func(i int) bool { return l.marked[i] })
	l.refresh()
	return l
}

func rowOf(vm vsphere.VM) row {
	r := row{name: cell.Safe(vm.DisplayName()), folder: cell.Safe(path.Dir(vm.Path)), guest: cell.Safe(vm.GuestFullName)}
	if r.guest == "" {
		r.guest = cell.Safe(vm.GuestID)
	}
	r.key = vmsearch.KeyOf(r.name, cell.Safe(vm.Path))
	switch {
	case vm.ConnectionState != "" && vm.ConnectionState != "connected":
		r.problem = cell.Safe(vm.ConnectionState)
	case vm.Template:
		r.problem = "template"
	}
	return r
}

func (l *list) search(query string) {
	l.query = query
	l.refresh()
}

// refresh makes shown anew.
func (l *list) refresh() {
	hits := l.find.Find(l.query)
	if l.order == byMatch {
		l.shown = append(l.shown[:0], hits...)
	} else {
		clear(l.hit)
		for _, i := range hits {
			l.hit[i] = true
		}
		l.shown = l.shown[:0]
		for _, i := range l.sorted(l.order) {
			if l.hit[i] {
				l.shown = append(l.shown, i)
			}
		}
	}
	if l.backwards {
		slices.Reverse(l.shown)
	}
}

// sorted returns all VMs in an order; it is made once.
func (l *list) sorted(o order) []int {
	if s, ok := l.orders[o]; ok {
		return s
	}
	s := make([]int, len(l.vms))
	for i := range s {
		s[i] = i
	}
	slices.SortFunc(s, func(a, b int) int { return l.compare(o, a, b) })
	l.orders[o] = s
	return s
}

func (l *list) compare(o order, a, b int) int {
	va, vb, ra, rb := &l.vms[a], &l.vms[b], &l.rows[a], &l.rows[b]
	var c int
	switch o {
	case bySize:
		c = cmp.Compare(vb.CommittedBytes, va.CommittedBytes)
	case byPower:
		c = cmp.Compare(powerRank(va.Power), powerRank(vb.Power))
	case byDisks:
		c = cmp.Compare(vb.DiskCount, va.DiskCount)
	case byGuest:
		c = strings.Compare(ra.guest, rb.guest)
	case byFolder:
		c = ra.key.CompareFolders(rb.key)
	case byProblem:
		c = strings.Compare(rb.problem, ra.problem)
	}
	return cmp.Or(c, cmp.Compare(a, b))
}

// powerRank puts what can be exported as it is first.
func powerRank(power string) int {
	return slices.Index([]string{vsphere.PoweredOff, vsphere.Suspended, vsphere.PoweredOn}, power)
}

func (l *list) nextSort() {
	l.order, l.backwards = (l.order+1)%orders, false
	l.refresh()
}

func (l *list) reverse() {
	l.backwards = !l.backwards
	l.refresh()
}

func (l *list) setProblem(ref, text string) {
	i, ok := l.byRef[ref]
	if !ok || text == "" {
		return
	}
	l.rows[i].problem = text
	delete(l.orders, byProblem)
}

func (l *list) mark(i int, on bool) {
	if l.marked[i] == on {
		return
	}
	l.marked[i] = on
	if on {
		l.count++
		l.size += l.vms[i].CommittedBytes
	} else {
		l.count--
		l.size -= l.vms[i].CommittedBytes
	}
}

// toggle marks a VM or unmarks it, and reports whether the list shows others now.
func (l *list) toggle(i int) bool {
	l.mark(i, !l.marked[i])
	return l.remarked()
}

// remarked searches again where the search asks for marks.
func (l *list) remarked() bool {
	if !l.find.Again() {
		return false
	}
	l.refresh()
	return true
}

func (l *list) markShown() {
	for _, i := range l.shown {
		l.mark(i, true)
	}
	l.remarked()
}

func (l *list) invertShown() {
	for _, i := range l.shown {
		l.mark(i, !l.marked[i])
	}
	l.remarked()
}

func (l *list) markNone() {
	for i := range l.marked {
		l.mark(i, false)
	}
	l.remarked()
}

func (l *list) selected() []vsphere.VM {
	var out []vsphere.VM
	for i, on := range l.marked {
		if on {
			out = append(out, l.vms[i])
		}
	}
	return out
}
