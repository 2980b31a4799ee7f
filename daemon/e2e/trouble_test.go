package e2e

import (
	"fmt"

	"github.com/hyper2kvm/hyper2kvm/vsphere/vspheretest"
)

// goAway takes a plane of the lab, or both, away for up to two seconds, from an
// instant on that is drawn like that of a kill. A disk takes half a second here.
func (s *siege) goAway() {
	plane := []vspheretest.Plane{vspheretest.Control, vspheretest.Hosts, vspheretest.Everything}[s.rng.IntN(3)]
	how := []vspheretest.Outage{
		vspheretest.Refuse, vspheretest.Reset, vspheretest.Unavailable, vspheretest.HTML,
	}[s.rng.IntN(4)]
	rule := fmt.Sprintf("down:plane=%s,how=%s,for=%dms", plane, how, 50+s.rng.IntN(1950))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outage, s.outageAt = rule, s.events+1+s.rng.IntN(60)
}

// slowDown lets the next of each task take up to two seconds, and the answer to
// what opens or ends a lease up to one.
func (s *siege) slowDown() {
	for _, call := range []string{"CreateSnapshot_Task", "RemoveSnapshot_Task", "ReconfigVM_Task"} {
		s.fault(fmt.Sprintf("task:call=%s,takes=%dms,cancel=%s", call, 50+s.rng.IntN(1950), []string{"false", "true", "ignore"}[s.rng.IntN(3)]))
	}
	for _, call := range []string{"ExportVm", "ExportSnapshot", "HttpNfcLeaseComplete", "HttpNfcLeaseAbort"} {
		s.fault(fmt.Sprintf("late:call=%s,after=%dms", call, 50+s.rng.IntN(950)))
	}
}

func (s *siege) fault(rule string) {
	s.t.Helper()
	if err := s.lab.AddFault(rule); err != nil {
		s.t.Fatal(err)
	}
}
