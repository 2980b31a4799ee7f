package vspheretest

import (
	"cmp"
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// Settings are what people see of a VM in vCenter's client.
type Settings struct {
	Name       string            // escaped
	Attributes map[string]string // custom attributes by name, without empty ones
	Cards      []bool            // for each network card in the order of their keys, whether it connects at power-on
}

// Settings returns those of a VM, which is known by the name that it had at first.
func (s *Server) Settings(vm string) (out Settings) {
	out.Attributes = map[string]string{}
	names := map[int32]string{}
	ctx := s.simContext()
	if m, ok := ctx.Map.Get(*s.model.ServiceContent.CustomFieldsManager).(*simulator.CustomFieldsManager); ok {
		ctx.WithLock(m, func() {
			for _, f := range m.Field {
				names[f.Key] = f.Name
			}
		})
	}
	s.withVM(vm, func(m *simulator.VirtualMachine) {
		out.Name = m.Name
		for _, v := range m.CustomValue {
			if f, ok := v.(*types.CustomFieldStringValue); ok && f.Value != "" {
				out.Attributes[names[f.Key]] = f.Value
			}
		}
		var cards []*types.VirtualEthernetCard // the simulator moves a device that is changed to the end
		for _, d := range m.Config.Hardware.Device {
			if card, ok := d.(types.BaseVirtualEthernetCard); ok {
				cards = append(cards, card.GetVirtualEthernetCard())
			}
		}
		slices.SortFunc(cards, func(a, b *types.VirtualEthernetCard) int { return cmp.Compare(a.Key, b.Key) })
		for _, card := range cards {
			out.Cards = append(out.Cards, card.Connectable != nil && card.Connectable.StartConnected)
		}
	})
	return out
}
