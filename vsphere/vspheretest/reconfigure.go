package vspheretest

import "github.com/vmware/govmomi/simulator"

// Reconfigure gives a VM's configuration a new changeVersion, as somebody does
// who edits its settings.
func (s *Server) Reconfigure(vm string) {
	s.withVM(vm, func(m *simulator.VirtualMachine) { m.Config.ChangeVersion += "+" })
}
