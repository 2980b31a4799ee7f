package limits

import (
	"cmp"
	"maps"
	"slices"
)

// Part is what a daemon has and wants of a limit, as a [Store] keeps it.
type Part struct {
	Owner  string
	Most   int64 // the limit in its configuration, 0 for none
	Held   int64 // before the division what it keeps, afterwards what it has; 0 where there is no limit
	Want   int64
	Weight int64
	// Served is when it was given something last: a number that grows with each time.
	// Who was served longest ago comes first where not everybody can be.
	Served int64
}

// Division is how a limit is divided for one daemon.
type Division struct {
	Share
	Part // what is to be kept of the daemon
	// Waited says that others wait for what the daemon has or had: they should look
	// again when it gave something back.
	Waited bool
	// Crowded says that others hold more than their part: they should look when the
	// daemon wants something that it did not want before.
	Crowded bool
}

// Divide divides a limit among a daemon and others, whose claims hold. chosen is what
// was chosen in place of the configuration, or nil.
func Divide(mine Part, others []Part, chosen *int64) Division {
	all := append([]Part{mine}, others...)
	d := Division{Part: mine, Share: Share{Limit: InForce(all, chosen)}}
	if d.Limit == Unlimited {
		d.Part.Held, d.Share.Held, d.Fair = 0, mine.Want, mine.Want
		return d
	}
	fair := parts(d.Limit, all)
	d.Fair = fair[0]
	free := d.Limit
	for i, o := range others {
		lacks := max(0, fair[i+1]-o.Held)
		free -= o.Held
		if before(o, mine) {
			free -= lacks // it has waited for longer
		}
		d.Waited = d.Waited || lacks > 0
		d.Crowded = d.Crowded || o.Held > fair[i+1]
	}
	held := max(mine.Held, min(d.Fair, free))
	if held > mine.Held {
		for _, p := range all {
			d.Served = max(d.Served, p.Served+1)
		}
	}
	d.Part.Held, d.Share.Held = held, held
	return d
}

// InForce is the limit that holds for all who hold parts of it: what was chosen or,
// without that, the smallest that a configuration names.
func InForce(all []Part, chosen *int64) int64 {
	if chosen != nil {
		return *chosen
	}
	limit := int64(Unlimited)
	for _, p := range all {
		if p.Most > 0 && (limit == Unlimited || p.Most < limit) {
			limit = p.Most
		}
	}
	return limit
}

// Standing puts the parts of limits, by name, into the form of [Store.Holdings].
func Standing(held map[string][]Part, chosen map[string]*int64) []Holding {
	all := []Holding{}
	for _, name := range slices.Sorted(maps.Keys(held)) {
		limit := InForce(held[name], chosen[name])
		for _, p := range held[name] {
			h := Holding{Name: name, Owner: p.Owner, Limit: limit, Held: p.Held}
			if p.Want < mostRate {
				h.Waiting = max(0, p.Want-p.Held)
			}
			all = append(all, h)
		}
	}
	return all
}

// before reports whether a is served before b.
func before(a, b Part) bool {
	return cmp.Or(cmp.Compare(a.Served, b.Served), cmp.Compare(a.Owner, b.Owner)) < 0
}

// parts are the fair parts of a limit: nobody's is more than he wants, and those who
// want more than they get have the same for each unit of weight. What is left of whole
// numbers goes to those who were served longest ago.
func parts(limit int64, all []Part) []int64 {
	fair := make([]int64, len(all))
	open := make([]int, len(all)) // those who want more than there is for them
	for i := range all {
		open[i] = i
	}
	left := limit
	for {
		weight := int64(0)
		for _, i := range open {
			weight += max(1, all[i].Weight)
		}
		satisfied := false
		still := open[:0:0]
		rest := left
		for _, i := range open {
			part := ofWhole(left, max(1, all[i].Weight), weight)
			if all[i].Want <= part {
				fair[i], satisfied = all[i].Want, true
				rest -= all[i].Want
				continue
			}
			fair[i] = part
			still = append(still, i)
		}
		open = still
		if !satisfied || len(open) == 0 {
			break
		}
		left = rest
	}
	for _, i := range open {
		left -= fair[i]
	}
	slices.SortFunc(open, func(a, b int) int {
		if before(all[a], all[b]) {
			return -1
		}
		return 1
	})
	for _, i := range open {
		if left <= 0 {
			break
		}
		fair[i]++
		left--
	}
	return fair
}

// ofWhole is n·weight/of without an overflow.
func ofWhole(n, weight, of int64) int64 {
	return n/of*weight + n%of*weight/of
}
