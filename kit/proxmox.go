package kit

import (
	"fmt"
	"strconv"
	"strings"
)

// Numbers of the disks that Proxmox VE takes on each bus (qm(1)).
var proxmoxUnits = map[string]int{"ide": 4, "sata": 6, "scsi": 31, "virtio": 16}

// proxmoxSCSI are Proxmox VE's names of the SCSI adapters. A VM has one kind of them.
var proxmoxSCSI = map[string]string{"virtio-scsi": "virtio-scsi-pci", "vmpvscsi": "pvscsi", "lsilogic": "lsi"}

// proxmoxCards are the cards that Proxmox VE has.
var proxmoxCards = map[string]string{"virtio": "virtio", "vmxnet3": "vmxnet3", "e1000": "e1000", "e1000e": "e1000e", "pcnet": "pcnet"}

// proxmox writes the script for Proxmox VE (qm(1), version 7.2 and later for import-from).
func (w *writer) proxmox() {
	w.head("at this node of Proxmox VE, as root")
	w.line("VMID=${VMID:-$(pvesh get /cluster/nextid)}")
	w.line("STORE=${STORE:-local-lvm} # storage for the disks")
	w.line("case $PWD in *,*) echo \"$0: qm takes no path with a comma: $PWD\" >&2; exit 1 ;; esac")
	w.proxmoxSockets()
	args := w.proxmoxMachine()
	disks, boot := w.proxmoxDisks()
	cards := w.proxmoxCards()
	args = append(append(args, disks...), cards...)
	if boot != "" {
		args = append(args, "--boot "+quote("order="+boot))
	}
	w.line("")
	w.line("qm create \"$VMID\" \\")
	for i, a := range args {
		end := " \\"
		if i == len(args)-1 {
			end = ""
		}
		w.line("\t%s%s", a, end)
	}
	w.line(`echo "VM $VMID is there; start it with: qm start $VMID"`)
}

// proxmoxMachine is everything but disks and cards.
func (w *writer) proxmoxMachine() []string {
	d := w.domain
	cpus, sockets, cores, threads := w.cpus()
	places := strconv.Itoa(sockets)
	if w.maxSockets() > 0 {
		places = `"$SOCKETS"`
	}
	args := []string{
		"--name " + quote(label(w.m.Guest.Name, 63)),
		"--description " + quote("vSphere: "+singleLine(w.m.Guest.Name)),
		"--ostype " + quote(proxmoxOS(w.m.Guest.GuestID)),
		fmt.Sprintf("--memory %d", d.Memory.Value),
		"--sockets " + places, fmt.Sprintf("--cores %d", cores*threads),
		"--cpu host", "--agent 1", "--serial0 socket",
	}
	if w.maxSockets() > 0 {
		args = append(args, fmt.Sprintf("--vcpus %d", cpus), "--hotplug network,disk,usb,cpu")
	}
	if d.MaximumMemory != nil {
		w.note("memory", "can no longer be added while it runs: Proxmox VE would start the guest with 1 GiB and hand it the rest as modules, which not every guest takes. "+
			"If yours does: qm set VMID --numa 1 --hotplug network,disk,usb,cpu,memory")
	}
	if d.UUID != "" {
		args = append(args, "--smbios1 "+quote("uuid="+d.UUID))
	}
	if w.machine() == "q35" {
		args = append(args, "--machine q35")
	}
	if w.uefi() {
		keys := 0
		if w.secureBoot() {
			keys = 1
		}
		args = append(args, "--bios ovmf", fmt.Sprintf(`--efidisk0 "$STORE:0,efitype=4m,pre-enrolled-keys=%d"`, keys))
	}
	return args
}

// proxmoxSockets says how many sockets CPUs can be added to while the guest runs: no more
// than the node has CPUs for, because it starts no VM with more.
func (w *writer) proxmoxSockets() {
	most := w.maxSockets()
	if most == 0 {
		return
	}
	_, sockets, cores, threads := w.cpus()
	w.comment("CPUs can be added while it runs, as far as this node has them.")
	w.line("SOCKETS=${SOCKETS:-$(($(nproc) / %d))}", cores*threads)
	w.line("[ \"$SOCKETS\" -le %d ] || SOCKETS=%d", most, most)
	w.line("[ \"$SOCKETS\" -ge %d ] || SOCKETS=%d", sockets, sockets)
}

// proxmoxDisks places the disks. boot is the first one's place.
func (w *writer) proxmoxDisks() (args []string, boot string) {
	used := map[string]int{}
	hardware := ""
	ide := map[int]bool{}
	for i, image := range w.m.Images {
		bus, model := w.bus(i)
		if kind := proxmoxSCSI[model]; bus == "scsi" && (kind == "" || hardware != "" && hardware != kind) {
			w.note(fmt.Sprintf("disk %d", i), "is on SATA: Proxmox VE has no %s, or the VM has another SCSI adapter already", model)
			bus = "sata"
		} else if bus == "scsi" {
			hardware = kind
		}
		n := used[bus]
		if bus == "ide" {
			a := w.domain.Devices.Disks[i].Address.Drive
			n = int(*a.Bus*2 + *a.Unit) //nolint:gosec // below 4
			ide[n] = true
		}
		if n >= proxmoxUnits[bus] {
			if hardware == "" {
				hardware = "virtio-scsi-pci"
			}
			w.note(fmt.Sprintf("disk %d", i), "is on %s: all places on %s are taken", hardware, bus)
			bus, n = "scsi", used["scsi"]
		}
		used[bus]++
		if n >= proxmoxUnits["scsi"] {
			w.note(fmt.Sprintf("disk %d", i), "is not attached: Proxmox VE takes no more; import it with: qm disk import VMID %s STORE", image.File)
			continue
		}
		place := fmt.Sprintf("%s%d", bus, n)
		if boot == "" {
			boot = place
		}
		args = append(args, fmt.Sprintf(`--%s "$STORE:0,import-from=$PWD/"%s',discard=on'`, place, quote(image.File)))
	}
	if hardware != "" {
		args = append([]string{"--scsihw " + hardware}, args...)
	}
	return args, boot
}

// proxmoxCards attaches the cards. A bridge is the map's, or one that is asked for.
func (w *writer) proxmoxCards() (args []string) {
	for i, c := range w.cards() {
		device := fmt.Sprintf("nic %d", i)
		if proxmoxCards[c.model] == "" {
			w.note(device, "is an e1000: Proxmox VE has no %s", c.model)
			c.model = "e1000"
		}
		value := c.model
		if c.mac != "" {
			value += "=" + strings.ToUpper(c.mac)
		}
		bridge := fmt.Sprintf("BRIDGE%d", i)
		fallback := "vmbr0"
		if c.bridge != "" {
			fallback = c.bridge
		} else {
			w.comment("The network of card %d, which was on %s at vSphere and for which no bridge was named.", i, c.group)
		}
		w.line("%s=%s; %s=${%s:-$%s}", "_"+bridge, quote(fallback), bridge, bridge, "_"+bridge)
		args = append(args, fmt.Sprintf(`--net%d %s"$%s"`, i, quote(value+",bridge="), bridge))
	}
	return args
}

// proxmoxOS is Proxmox VE's kind of a guest.
func proxmoxOS(guestID string) string {
	for _, k := range []struct{ prefix, kind string }{
		{"windows2019srvNext", "win11"}, {"windows2022", "win11"}, {"windows11", "win11"}, {"windows12", "win11"},
		{"windows2019", "win10"}, {"windows9", "win10"}, {"windows8", "win8"}, {"windows7", "win7"},
		{"winLonghorn", "w2k8"}, {"winVista", "wvista"}, {"winNet", "w2k3"}, {"winXP", "wxp"}, {"win2000", "w2k"},
		{"solaris", "solaris"}, {"other24xLinux", "l24"}, {"win", "other"}, {"freebsd", "other"}, {"darwin", "other"}, {"otherGuest", "other"}, {"dos", "other"},
	} {
		if strings.HasPrefix(guestID, k.prefix) {
			return k.kind
		}
	}
	return "l26"
}

// singleLine is text without control characters.
func singleLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, " "))
}
