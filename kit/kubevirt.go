package kit

import (
	"fmt"
	"strings"

	"gopkg.in/yaml.v3"
)

// kubeVirtCards are the models that KubeVirt has.
var kubeVirtCards = map[string]bool{"virtio": true, "e1000": true, "e1000e": true, "pcnet": true}

// object is a mapping of a manifest.
type object = map[string]any

// kubeVirt writes the DataVolumes, which wait for an upload, and the VirtualMachine
// (kubevirt.io/v1, cdi.kubevirt.io/v1beta1).
func (w *writer) kubeVirt() {
	name := label(w.m.Guest.Name, 50)
	w.comment("The VM %s for KubeVirt with CDI. Written by hyper2kvm.", w.m.Guest.Name)
	w.comment("Make the volumes and the VM, upload the images, start it:")
	w.comment("  kubectl apply -f %s", "THIS-FILE")
	for i, image := range w.m.Images {
		w.comment("  virtctl image-upload dv %s-disk-%d --no-create --image-path=%s", name, i, quote(image.File))
	}
	w.comment("  virtctl start %s", name)
	vm := w.kubeVirtMachine(name)
	var docs []any
	for i, image := range w.m.Images {
		docs = append(docs, object{
			"apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume",
			"metadata": object{"name": fmt.Sprintf("%s-disk-%d", name, i)},
			"spec": object{
				"source":  object{"upload": object{}},
				"storage": object{"resources": object{"requests": object{"storage": fmt.Sprintf("%dGi", gib(image.Capacity))}}},
			},
		})
	}
	for _, doc := range append(docs, vm) {
		text, err := yaml.Marshal(doc)
		if err != nil {
			panic(err) // maps of texts and numbers
		}
		w.line("---")
		w.text.Write(text)
	}
}

// kubeVirtMachine is the VirtualMachine.
func (w *writer) kubeVirtMachine(name string) object {
	d := w.domain
	var disks, volumes []any
	for i := range w.m.Images {
		bus, model := w.bus(i)
		if want := bus; bus != "sata" && bus != "virtio" && model != "virtio-scsi" {
			bus = "sata"
			w.note(fmt.Sprintf("disk %d", i), "is on SATA: KubeVirt has no %s", strings.TrimSpace(want+" "+model))
		}
		id := fmt.Sprintf("disk-%d", i)
		disks = append(disks, object{"name": id, "disk": object{"bus": bus}, "bootOrder": i + 1})
		volumes = append(volumes, object{"name": id, "dataVolume": object{"name": name + "-" + id}})
	}
	interfaces, networks := w.kubeVirtCards()
	_, sockets, cores, threads := w.cpus()
	cpu := object{"sockets": sockets, "cores": cores, "threads": threads}
	if most := w.maxSockets(); most > 0 {
		cpu["maxSockets"] = most
	}
	firmware := object{"bootloader": object{"bios": object{}}}
	features := object{"acpi": object{}}
	if w.uefi() {
		firmware = object{"bootloader": object{"efi": object{"secureBoot": w.secureBoot()}}}
		features["smm"] = object{"enabled": true}
	}
	if d.UUID != "" {
		firmware["uuid"] = d.UUID
	}
	clock := object{"utc": object{}}
	if d.Clock.Offset == "localtime" {
		clock = object{"timezone": "UTC"}
		w.note("clock", "is UTC: name the guest's time zone in clock.timezone, because Windows keeps its clock in local time")
	}
	return object{
		"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
		"metadata": object{"name": name, "annotations": object{"hyper2kvm/vsphere-name": singleLine(w.m.Guest.Name)}},
		"spec": object{
			"runStrategy": "Halted",
			"template": object{
				"metadata": object{"labels": object{"kubevirt.io/vm": name}},
				"spec": object{
					"domain": object{
						"cpu":      cpu,
						"memory":   w.kubeVirtMemory(),
						"machine":  object{"type": "q35"},
						"firmware": firmware, "features": features, "clock": clock,
						"devices": object{"disks": disks, "interfaces": interfaces},
					},
					"networks": networks, "volumes": volumes,
				},
			},
		},
	}
}

// kubeVirtMemory is the guest's memory. KubeVirt refuses a bound for what can be added to
// guests of less than 1 GiB, and one that is no multiple of 2 MiB.
func (w *writer) kubeVirtMemory() object {
	guest := w.domain.Memory.Value
	memory := object{"guest": fmt.Sprintf("%dMi", guest)}
	if most := w.domain.MaximumMemory; most != nil && guest >= 1024 && guest%2 == 0 {
		memory["maxGuest"] = fmt.Sprintf("%dMi", most.Value/2*2)
	} else if most != nil {
		w.note("memory", "can no longer be added while it runs: KubeVirt wants 1 GiB at first, in steps of 2 MiB")
	}
	return memory
}

// kubeVirtCards are the cards and their networks. The pod's network takes one card.
func (w *writer) kubeVirtCards() (interfaces, networks []any) {
	pod := false
	for i, c := range w.cards() {
		device, id := fmt.Sprintf("nic %d", i), fmt.Sprintf("nic-%d", i)
		if !kubeVirtCards[c.model] {
			w.note(device, "is an e1000e: KubeVirt has no %s", c.model)
			c.model = "e1000e"
		}
		one := object{"name": id, "model": c.model}
		if c.mac != "" {
			one["macAddress"] = c.mac
		}
		where := object{"name": id}
		if c.mapped || pod {
			attachment := label(c.bridge+c.network, 63)
			one["bridge"], where["multus"] = object{}, object{"networkName": attachment}
			w.note(device, "was on %q and wants the NetworkAttachmentDefinition %q in the VM's namespace", singleLine(c.group), attachment)
		} else {
			pod = true
			one["masquerade"], where["pod"] = object{}, object{}
			w.note(device, "was on %q and is on the network of the pod: no network was named for it", singleLine(c.group))
		}
		interfaces, networks = append(interfaces, one), append(networks, where)
	}
	return interfaces, networks
}
