package probe

import "github.com/hyper2kvm/hyper2kvm/probe/findings"

// Of two channels the one that is verified better, or costs the host less, is taken
// unless the other is faster by this factor.
const clearly = 1.25

// advise says how exports should read here (docs/probe.md).
func (p *run) advise() {
	r := p.r
	type way struct {
		transport, channel findings.Answer
		works              bool
	}
	ways := []way{ // the most trusted first
		{"nfc", findings.ByLease, r.Lease.Opened == findings.Yes},
		{"datastore", findings.ByFolder, r.Folder.Answer == findings.Served && r.Folder.Range == findings.Honoured && r.Folder.UnderLease != findings.Refused},
		{"nfc902", findings.By902, r.Port902.Opened == findings.Yes && r.Port902.UnderLease != findings.Refused},
	}
	var best *findings.Advice
	working := 0
	for _, w := range ways {
		rate := fewest(r.Rates, w.channel)
		if !w.works || rate == nil {
			continue
		}
		working++
		a := &findings.Advice{Transport: w.transport, Parallel: rate.Streams, PerSec: rate.PerSec, Because: "fastest"}
		switch {
		case best == nil:
			best = a
		case float64(a.PerSec) > clearly*float64(best.PerSec):
			best = a
		case best.Transport == "nfc":
			best.Because = "manifest"
		}
	}
	switch {
	case best == nil && len(r.Rates) == 0:
		return // nothing was measured
	case best == nil:
		best = &findings.Advice{Transport: "none"}
	case working == 1:
		best.Because = "alone"
	}
	r.Advice = best
}

// fewest is the measurement of a channel with the fewest streams that is nearly as fast
// as the fastest; nil when nothing came over it.
func fewest(rates []findings.Rate, channel findings.Answer) *findings.Rate {
	var most int64
	for _, r := range rates {
		if r.Channel == channel && r.Served == r.Streams {
			most = max(most, r.PerSec)
		}
	}
	var best *findings.Rate
	for i, r := range rates {
		if r.Channel == channel && r.Served == r.Streams && most > 0 && float64(r.PerSec) >= 0.9*float64(most) {
			if best == nil || r.Streams < best.Streams {
				best = &rates[i]
			}
		}
	}
	return best
}
