package kit

import (
	"fmt"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/kvm"
)

// openStackCards are the models that Nova's libvirt driver takes (hw_vif_model).
var openStackCards = map[string]bool{"virtio": true, "vmxnet3": true, "e1000": true, "e1000e": true, "pcnet": true}

// openStack writes the script for the openstack client: Glance images, Cinder volumes of
// them, a server that boots from the first.
func (w *writer) openStack() {
	w.head("at OpenStack, with the credentials of the environment (OS_CLOUD)")
	w.line("NAME=${NAME:-}; [ -n \"$NAME\" ] || NAME=%s", quote(w.domain.Name))
	w.line("FLAVOR=${FLAVOR:?name a flavor with %d CPUs and %d MiB of memory: openstack flavor list}", w.m.Guest.CPUs, w.domain.Memory.Value)
	cards := w.cards()
	for i, c := range cards {
		w.comment("The network of card %d, which was on %s at vSphere.", i, c.group)
		if c.mapped && c.network != "" {
			w.line("NETWORK%d=${NETWORK%d:-}; [ -n \"$NETWORK%d\" ] || NETWORK%d=%s", i, i, i, i, quote(c.network))
		} else {
			w.line("NETWORK%d=${NETWORK%d:?name the network of card %d: openstack network list}", i, i, i)
		}
	}
	w.line("")
	properties := w.openStackProperties(cards)
	for i, image := range w.m.Images {
		w.line("image%d=$(openstack image create --disk-format %s --container-format bare --file %s%s -f value -c id \"$NAME-disk-%d\")",
			i, openStackFormat(image.Format), quote("./"+image.File), properties, i)
		bootable := "--non-bootable"
		if i == 0 {
			bootable = "--bootable"
		}
		w.line("volume%d=$(openstack volume create --image \"$image%d\" --size %d %s -f value -c id \"$NAME-disk-%d\")", i, i, gib(image.Capacity), bootable, i)
	}
	for i := range w.m.Images {
		w.line("until [ \"$(openstack volume show -f value -c status \"$volume%d\")\" = available ]; do", i)
		w.line("\tcase $(openstack volume show -f value -c status \"$volume%d\") in error*) echo \"$0: volume $volume%d has failed\" >&2; exit 1 ;; esac", i, i)
		w.line("\tsleep 5")
		w.line("done")
	}
	w.openStackServer(cards)
}

func openStackFormat(f kvm.Format) string {
	if f == kvm.QCOW2 {
		return "qcow2"
	}
	return "raw"
}

// openStackServer makes ports and the server.
func (w *writer) openStackServer(cards []card) {
	for i, c := range cards {
		mac := ""
		if c.mac != "" {
			mac = " --mac-address " + c.mac
		}
		w.line("port%d=$(openstack port create --network \"$NETWORK%d\"%s -f value -c id \"$NAME-nic-%d\")", i, i, mac, i)
	}
	w.line("")
	w.line("openstack server create --flavor \"$FLAVOR\" \\")
	for i := range w.m.Images {
		if i == 0 {
			w.line("\t--volume \"$volume0\" \\")
			continue
		}
		w.line("\t--block-device \"uuid=$volume%d,source_type=volume,destination_type=volume,boot_index=-1\" \\", i)
	}
	for i := range cards {
		w.line("\t--port \"$port%d\" \\", i)
	}
	if len(cards) == 0 {
		w.line("\t--nic none \\")
	}
	w.line("\t\"$NAME\"")
}

// openStackProperties are the image's properties, which the volumes take over.
func (w *writer) openStackProperties(cards []card) string {
	properties := []string{"hw_machine_type=" + w.machine(), "hw_qemu_guest_agent=yes"}
	if w.uefi() {
		properties = append(properties, "hw_firmware_type=uefi")
	} else {
		properties = append(properties, "hw_firmware_type=bios")
	}
	if w.secureBoot() {
		properties = append(properties, "os_secure_boot=required")
	}
	if len(w.m.Images) > 0 {
		bus, model := w.bus(0)
		properties = append(properties, "hw_disk_bus="+bus)
		if model != "" {
			properties = append(properties, "hw_scsi_model="+model)
		}
		for i := range w.m.Images {
			if b, m := w.bus(i); b != bus || m != model {
				w.note(fmt.Sprintf("disk %d", i), "is on %s, like the first: OpenStack puts all disks of an image on one bus", strings.TrimSpace(bus+" "+model))
			}
		}
	}
	if len(cards) > 0 {
		model := cards[0].model
		if !openStackCards[model] {
			w.note("nic 0", "is an e1000: OpenStack has no %s", model)
			model = "e1000"
		}
		properties = append(properties, "hw_vif_model="+model)
		for i, c := range cards {
			if c.model != cards[0].model {
				w.note(fmt.Sprintf("nic %d", i), "is an %s, like the first: OpenStack has one model for all cards of an image", model)
			}
		}
	}
	kind := "linux"
	if w.windows() {
		kind = "windows"
	}
	properties = append(properties, "os_type="+kind)
	if distro := osDistro(w.m.Guest.GuestID); distro != "" {
		properties = append(properties, "os_distro="+distro)
	}
	out := ""
	for _, p := range properties {
		out += " --property " + quote(p)
	}
	return out
}

// osDistro is libosinfo's short name of a distribution, as Nova wants it.
func osDistro(guestID string) string {
	for _, k := range []struct{ prefix, distro string }{
		{"win", "windows"}, {"debian", "debian"}, {"ubuntu", "ubuntu"}, {"rhel", "rhel"}, {"centos", "centos"}, {"oracleLinux", "ol"},
		{"rockylinux", "rocky"}, {"almalinux", "almalinux"}, {"sles", "sles"}, {"opensuse", "opensuse"}, {"fedora", "fedora"}, {"freebsd", "freebsd"},
	} {
		if strings.HasPrefix(guestID, k.prefix) {
			return k.distro
		}
	}
	return ""
}
