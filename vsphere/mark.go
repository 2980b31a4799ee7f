package vsphere

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// MarkAttribute is the custom attribute of vCenter that says what became of a VM. It is
// an attribute, and no tag, because tags are a service of their own with another session.
const MarkAttribute = "hyper2kvm"

const (
	opMark   = "mark the VM as migrated"
	opUnmark = "undo the marks of the VM"
)

// MarkOptions says how a VM that was migrated is marked.
type MarkOptions struct {
	Attribute  string // what [MarkAttribute] is to say; "" leaves it alone
	Rename     string // the new name, escaped as vCenter has it; "" leaves it alone
	Disconnect bool   // network cards do not connect at power-on
}

// Mark is what is changed of a VM to mark it, and how it was before. It can be written
// down in JSON.
type Mark struct {
	Attribute *Change    `json:"attribute,omitempty"`
	Name      *Change    `json:"name,omitempty"`
	Cards     []CardMark `json:"cards,omitempty"` // that connected at power-on
}

// Change is a text before and after.
type Change struct {
	Before string `json:"before"`
	After  string `json:"after"`
}

// CardMark is a network card that does not connect at power-on any more.
type CardMark struct {
	Key   int32  `json:"key"` // device key
	MAC   string `json:"mac"`
	Label string `json:"label"`
}

// marked is a VM as far as marks go.
type marked struct {
	name      string
	field     int32 // key of the attribute; noField where there is none
	attribute string
	cards     []types.BaseVirtualEthernetCard
}

// PlanMark says what marking a VM will change. Nothing is changed.
func (c *Client) PlanMark(ctx context.Context, vm VM, o MarkOptions) (Mark, error) {
	now, err := c.marked(ctx, vm)
	if err != nil {
		return Mark{}, translate(opMark, vm.Path, err)
	}
	var m Mark
	if o.Attribute != "" {
		m.Attribute = &Change{now.attribute, o.Attribute}
	}
	if o.Rename != "" && o.Rename != now.name {
		m.Name = &Change{now.name, o.Rename}
	}
	for _, card := range now.cards {
		e := card.GetVirtualEthernetCard()
		if o.Disconnect && e.Connectable != nil && e.Connectable.StartConnected {
			m.Cards = append(m.Cards, CardMark{e.Key, strings.ToLower(e.MacAddress), label(&e.VirtualDevice)})
		}
	}
	return m, nil
}

// Apply marks a VM as m says. What is so already is left alone, so that it may be called
// again. A [PendingError] says that a change may still be made.
func (c *Client) Apply(ctx context.Context, vm VM, m Mark) error {
	now, err := c.marked(ctx, vm)
	if err == nil && m.Attribute != nil && now.attribute != m.Attribute.After {
		err = c.setAttribute(ctx, vm, now.field, m.Attribute.After)
	}
	if err != nil {
		return translate(opMark, vm.Path, err)
	}
	return c.remark(ctx, vm, opMark, func(now marked) (spec types.VirtualMachineConfigSpec) {
		if m.Name != nil && now.name != m.Name.After {
			spec.Name = m.Name.After
		}
		spec.DeviceChange = m.connect(now, false, nil)
		return spec
	})
}

// Undo makes a VM as it was before m, as far as it is as m has left it: left says what
// somebody else has changed since, which stays. It may be called again.
func (c *Client) Undo(ctx context.Context, vm VM, m Mark) (left []string, err error) {
	now, err := c.marked(ctx, vm)
	if err == nil && m.Attribute != nil {
		switch now.attribute {
		case m.Attribute.Before:
		case m.Attribute.After:
			err = c.setAttribute(ctx, vm, now.field, m.Attribute.Before)
		default:
			left = append(left, "the custom attribute "+MarkAttribute+" says something else now")
		}
	}
	if err != nil {
		return left, translate(opUnmark, vm.Path, err)
	}
	if m.Name != nil && now.name != m.Name.After && now.name != m.Name.Before {
		left = append(left, "the VM was renamed to "+unescapeName(now.name))
	}
	m.connect(now, true, func(s string) { left = append(left, s) })
	err = c.remark(ctx, vm, opUnmark, func(now marked) (spec types.VirtualMachineConfigSpec) {
		if m.Name != nil && now.name == m.Name.After {
			spec.Name = m.Name.Before
		}
		spec.DeviceChange = m.connect(now, true, func(string) {})
		return spec
	})
	return left, err
}

// marked reads a VM as far as marks go.
func (c *Client) marked(ctx context.Context, vm VM) (now marked, err error) {
	var m mo.VirtualMachine
	if err := c.everyProperty(ctx, vmRef(vm.Ref), []string{"name", "config.hardware", "customValue"}, &m); err != nil {
		return now, err
	}
	now.name = m.Name
	if m.Config != nil {
		for _, d := range m.Config.Hardware.Device {
			if card, is := d.(types.BaseVirtualEthernetCard); is {
				now.cards = append(now.cards, card)
			}
		}
	}
	if now.field, err = c.attributeKey(ctx); err != nil {
		return now, err
	}
	for _, v := range m.CustomValue {
		if s, is := v.(*types.CustomFieldStringValue); is && now.field != noField && s.Key == now.field {
			now.attribute = s.Value
		}
	}
	return now, nil
}

// noField is no key of a custom attribute.
const noField = -1

// attributeKey is the key of [MarkAttribute]; noField where there is none, as on an ESXi host.
func (c *Client) attributeKey(ctx context.Context) (int32, error) {
	manager := c.session.vim.ServiceContent.CustomFieldsManager
	if manager == nil {
		return noField, nil
	}
	var m mo.CustomFieldsManager
	if err := c.properties(ctx, *manager, []string{"field"}, &m); err != nil {
		return noField, err
	}
	for _, f := range m.Field {
		if f.Name == MarkAttribute && (f.ManagedObjectType == "VirtualMachine" || f.ManagedObjectType == "") {
			return f.Key, nil
		}
	}
	return noField, nil
}

// setAttribute sets [MarkAttribute], which is made where there is none.
func (c *Client) setAttribute(ctx context.Context, vm VM, key int32, value string) error {
	manager := c.session.vim.ServiceContent.CustomFieldsManager
	if manager == nil {
		return errors.New("an ESXi host has no custom attributes")
	}
	if key == noField {
		res, err := methods.AddCustomFieldDef(ctx, c.vim(), &types.AddCustomFieldDef{This: *manager, Name: MarkAttribute, MoType: "VirtualMachine"})
		switch {
		case err == nil:
			key = res.Returnval.Key
		case isFault(err, "DuplicateName"): // made meanwhile, or by a call whose answer was lost
			if key, err = c.attributeKey(ctx); err != nil {
				return err
			}
		default:
			return err
		}
	}
	_, err := methods.SetField(ctx, c.vim(), &types.SetField{This: *manager, Entity: vmRef(vm.Ref), Key: key, Value: value})
	return err
}

// remarks is how often a VM is reconfigured until it is as it is to be.
const remarks = 3

// remark reconfigures a VM until spec, which is asked about the VM as it is, has nothing
// in it. So an answer that was lost does no harm: what was done is not asked for again.
func (c *Client) remark(ctx context.Context, vm VM, what string, spec func(marked) types.VirtualMachineConfigSpec) (err error) {
	limited, cancel := context.WithTimeout(ctx, reconfigureLimit)
	defer cancel()
	for range remarks {
		now, rerr := c.marked(limited, vm)
		if rerr != nil {
			return translate(what, vm.Path, errors.Join(rerr, err))
		}
		todo := spec(now)
		if todo.Name == "" && len(todo.DeviceChange) == 0 {
			return nil
		}
		late, cancel := bounded(limited, cleanup)
		t := Task{What: what, On: vm.Path}
		err = c.patient(limited, t, func() error { return c.reconfigure(limited, late, t, vm, todo) })
		cancel()
		var pending *PendingError
		if err != nil && !errors.As(err, &pending) {
			break
		}
		if pending != nil {
			if serr := c.Settled(limited, vm, pending.Wait); serr != nil {
				break
			}
			_ = poll(limited, func() (bool, error) { // the call may be on its way
				now, err := c.marked(limited, vm)
				todo := spec(now)
				return err != nil || todo.Name == "" && len(todo.DeviceChange) == 0 || time.Since(pending.Since) > grace, nil
			})
		}
	}
	if err == nil {
		err = fmt.Errorf("it is not so after it was reconfigured %d times", remarks)
	}
	return translate(what, vm.Path, err)
}

// connect is the change that makes the cards connect at power-on, or not. tell, if not
// nil, is told of cards that are gone.
func (m Mark) connect(now marked, start bool, tell func(string)) (changes []types.BaseVirtualDeviceConfigSpec) {
	for _, was := range m.Cards {
		i := slices.IndexFunc(now.cards, func(c types.BaseVirtualEthernetCard) bool {
			e := c.GetVirtualEthernetCard()
			return e.Key == was.Key && strings.EqualFold(e.MacAddress, was.MAC)
		})
		if i < 0 {
			if tell != nil {
				tell(was.Label + " (" + was.MAC + ") is gone or another one")
			}
			continue
		}
		e := now.cards[i].GetVirtualEthernetCard()
		if e.Connectable == nil || e.Connectable.StartConnected == start {
			continue
		}
		connect := *e.Connectable
		connect.StartConnected = start
		e.Connectable = &connect
		device, _ := now.cards[i].(types.BaseVirtualDevice)
		changes = append(changes, &types.VirtualDeviceConfigSpec{Device: device, Operation: types.VirtualDeviceConfigSpecOperationEdit})
	}
	return changes
}

// MarkName is a name for a VM that was migrated: suffix after the name, of which as much
// is kept as vCenter takes, which are 80 characters. Both are as vCenter escapes them.
func MarkName(name, suffix string) string {
	const most = 80
	runes := []rune(name)
	if over := len(runes) + len([]rune(suffix)) - most; over > 0 {
		runes = runes[:max(len(runes)-over, 0)]
		if i := strings.LastIndexByte(string(runes), '%'); i >= 0 && len(string(runes))-i < 3 { // an escape is not cut
			runes = []rune(string(runes)[:i])
		}
	}
	return string(runes) + suffix
}
