package kvm_test

import (
	"testing"

	"github.com/hyper2kvm/hyper2kvm/kvm"
)

func TestCardsKeepModelAndAddress(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name        string
		nic         kvm.NIC
		options     kvm.Options
		model       string
		mac         string
		network     string
		notes       int
		noteMention string
	}{
		{name: "the same model", nic: kvm.NIC{Model: "vmxnet3", MAC: "00:50:56:AA:00:01"}, model: "vmxnet3", mac: "00:50:56:aa:00:01", network: "default"},
		{name: "virtio", nic: kvm.NIC{Model: "vmxnet3"}, options: kvm.Options{Virtio: true}, model: "virtio", network: "default"},
		{name: "a model QEMU has not", nic: kvm.NIC{Model: "sriov"}, model: "e1000", network: "default", notes: 1, noteMention: "sriov"},
		{name: "a mapped network", nic: kvm.NIC{Model: "e1000", Network: "DMZ"}, options: kvm.Options{NetworkMap: map[string]string{"DMZ": "dmz"}}, model: "e1000", network: "dmz"},
		{name: "an unmapped network", nic: kvm.NIC{Model: "e1000", Network: "DMZ"}, options: kvm.Options{DefaultNetwork: "lan"}, model: "e1000", network: "lan", notes: 1, noteMention: "DMZ"},
		{name: "a multicast address", nic: kvm.NIC{Model: "e1000", MAC: "01:00:5e:00:00:01"}, model: "e1000", network: "default", notes: 1, noteMention: "unicast"},
		{name: "not an address", nic: kvm.NIC{Model: "e1000", MAC: "x"}, model: "e1000", network: "default", notes: 1, noteMention: "unicast"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			text, notes := domain(t, kvm.Guest{Name: "n", MemoryMiB: 1, CPUs: 1, NICs: []kvm.NIC{test.nic}}, test.options)
			card := parse(t, text).Devices.Interfaces[0]
			mac := ""
			if card.MAC != nil {
				mac = card.MAC.Address
			}
			if card.Model.Type != test.model || mac != test.mac || card.Source.Network.Network != test.network {
				t.Errorf("card is %s %s on %s", card.Model.Type, mac, card.Source.Network.Network)
			}
			if len(notes) != test.notes || test.notes > 0 && !mentions(notes, "nic 0", test.noteMention) {
				t.Errorf("notes are %v", notes)
			}
		})
	}
}

func TestCardsWithoutANetworkAreToldOnceForAllOfThem(t *testing.T) {
	t.Parallel()
	guest := kvm.Guest{Name: "n", MemoryMiB: 1, CPUs: 1, NICs: []kvm.NIC{
		{Model: "e1000", Network: "DMZ"}, {Model: "e1000", Network: "VM Network"}, {Model: "e1000", Network: "Backup"}, {Model: "e1000", Network: "DMZ"}, {Model: "e1000"},
	}}
	text, notes := domain(t, guest, kvm.Options{NetworkMap: map[string]string{"VM Network": "lan", "Backup": "bridge:br-backup"}})
	if len(notes) != 1 || !mentions(notes, "nics 0, 3", `"DMZ"`) {
		t.Errorf("notes are %v", notes)
	}
	cards := parse(t, text).Devices.Interfaces
	if got := cards[1].Source.Network; got == nil || got.Network != "lan" {
		t.Errorf("a mapped card is on %+v", cards[1].Source)
	}
	if got := cards[2].Source.Bridge; got == nil || got.Bridge != "br-backup" {
		t.Errorf("a card on a bridge is on %+v", cards[2].Source)
	}
}

func TestADomainMayHaveAnotherNameThanItsGuest(t *testing.T) {
	t.Parallel()
	text, notes := domain(t, kvm.Guest{Name: "twin", MemoryMiB: 1, CPUs: 1}, kvm.Options{Name: "twin-1a2b3c4d"})
	if d := parse(t, text); d.Name != "twin-1a2b3c4d" || d.Title != "twin" {
		t.Errorf("it is called %q, with title %q", d.Name, d.Title)
	}
	if len(notes) != 1 || !mentions(notes, "name", "another VM") {
		t.Errorf("notes are %v", notes)
	}
}
