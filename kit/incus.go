package kit

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/kvm"
)

// incus writes the script for incus: an image of the first disk, an instance of it, further
// disks, cards. Incus imports no qcow2 image as a volume but by incus-migrate, which asks its
// questions at a terminal: the script wants the volumes of the further disks to be there.
func (w *writer) incus() {
	name := label(w.m.Guest.Name, 50)
	if name[0] <= '9' {
		name = "vm-" + name // names of instances do not begin with a digit
	}
	w.head("at Incus")
	w.line("NAME=${NAME:-%s}", name)
	w.line("POOL=${POOL:-default} # storage pool for the disks")
	cards := w.cards()
	for i, c := range cards {
		w.comment("The network of card %d, which was on %s at vSphere: one of Incus, or %sNAME.", i, c.group, kvm.BridgePrefix)
		if !c.mapped {
			c.mapped, c.bridge, c.network = true, "", "incusbr0"
		}
		w.networkVariable(i, c, "")
		if c.model != "virtio" {
			w.note(fmt.Sprintf("nic %d", i), "is on virtio: Incus has no %s, and the guest needs the driver", c.model)
		}
	}
	w.incusDiskNote()
	w.line("")
	w.line("i() { incus \"$@\" </dev/null; } # which would read a configuration there")
	w.incusChecks(len(cards))
	if len(w.m.Images) > 1 {
		w.incusFurther()
	}
	w.line("image='' made=''")
	w.line("work=$(mktemp -d)")
	w.line("undo() {")
	w.line("\tstatus=$?")
	w.line("\trm -rf \"$work\"")
	w.line("\t[ -z \"$image\" ] || i image delete \"$NAME-import\" || :")
	w.line("\t[ \"$status\" -eq 0 ] || [ -z \"$made\" ] || i delete \"$NAME\" || :")
	w.line("}")
	w.traps()
	w.incusInstance()
	for i := range w.m.Images[min(1, len(w.m.Images)):] {
		w.line(`i config device add "$NAME" disk-%d disk "pool=$POOL" "source=$NAME-disk-%d"%s`, i+1, i+1, w.incusBus(i+1, " io.bus="))
	}
	if len(cards) > 0 {
		w.line("nic() { # a device, its MAC address, its network")
		w.line("\tdevice=$1 mac=$2 network=$3")
		w.line("\tcase $network in %s*) set -- nictype=bridged \"parent=${network#%s}\" ;; *) set -- \"network=$network\" ;; esac", kvm.BridgePrefix, kvm.BridgePrefix)
		w.line("\t[ -z \"$mac\" ] || set -- \"$@\" \"hwaddr=$mac\"")
		w.line("\ti config device add \"$NAME\" \"$device\" nic \"$@\"")
		w.line("}")
	}
	for i, c := range cards {
		w.line(`nic eth%d '%s' "$NETWORK%d"`, i, c.mac, i)
	}
	if w.wantsTPM() {
		w.line(`i config device add "$NAME" tpm tpm`)
	}
	w.line("made='' # nothing of it is undone any more")
	w.line(`echo "The instance $NAME is there; start it with: incus start $NAME"`)
}

// incusBus is the bus of disk i after a prefix; "" is virtio-scsi, Incus' own choice.
func (w *writer) incusBus(i int, prefix string) string {
	o := w.m.Options
	switch bus, _ := w.bus(i); {
	case bus == "virtio":
		return prefix + "virtio-blk"
	case w.m.Guest.Disks[i].Bus == kvm.NVMe && !o.Virtio:
		return prefix + "nvme"
	}
	return ""
}

// incusDiskNote tells of the disks that the guest may have no driver for.
func (w *writer) incusDiskNote() {
	var changed []string
	for i := range w.m.Images {
		if _, model := w.bus(i); model != "virtio-scsi" && w.incusBus(i, "") == "" {
			changed = append(changed, fmt.Sprint(i))
		}
	}
	if len(changed) > 0 {
		w.note("disks "+strings.Join(changed, ", "), "on virtio-scsi: Incus has neither other SCSI adapters nor SATA and IDE, and the guest needs the driver. "+
			"-convert gives it one; so does -virtio for a guest that has it")
	}
}

// incusChecks end the script before an image is imported for nothing.
func (w *writer) incusChecks(cards int) {
	w.line("fail() { echo \"$0: $*\" >&2; exit 1; }")
	w.line("i storage show \"$POOL\" >/dev/null || fail \"Incus does not show its storage pool $POOL: POOL names another one\"")
	w.line("taken=$(i list --format csv --columns n)")
	w.line("if printf '%%s\\n' \"$taken\" | grep -Fqx -e \"$NAME\"; then fail \"the instance $NAME is there already: NAME gives it another name\"; fi")
	if cards > 0 {
		w.line("card() { # a card, its network")
		w.line("\tcase $2 in %s*) return ;; esac", kvm.BridgePrefix)
		w.line("\ti network show \"$2\" >/dev/null || fail \"Incus does not show its network $2: NETWORK$1 names another one, or a bridge (%sNAME)\"", kvm.BridgePrefix)
		w.line("}")
	}
	for i := range cards {
		w.line(`card %d "$NETWORK%d"`, i, i)
	}
}

// incusFurther sees that the volumes of further disks are there before anything is made.
func (w *writer) incusFurther() {
	w.line("missing=")
	w.line("volume() { # a volume, its image")
	w.line("\tif ! i storage volume show \"$POOL\" \"$1\" >/dev/null 2>&1; then")
	w.line("\t\tmissing=1")
	w.line("\t\techo \"$0: there is no volume $1 in the pool $POOL: make it of $PWD/$2 with incus-migrate, Custom Volume\" >&2")
	w.line("\tfi")
	w.line("}")
	for i, image := range w.m.Images[1:] {
		w.line("volume \"$NAME-disk-%d\" %s", i+1, quote(image.File))
	}
	w.line("[ -z \"$missing\" ] || exit 1")
}

// incusInstance makes the instance, of an image of the first disk. The image is not kept.
func (w *writer) incusInstance() {
	from := "--empty"
	size := ""
	if len(w.m.Images) > 0 {
		image := w.m.Images[0]
		about, _ := json.Marshal(singleLine(w.m.Guest.Name)) // of a text
		system := "Linux"
		if w.windows() {
			system = "Windows"
		}
		w.line("printf 'architecture: x86_64\\ncreation_date: %%s\\nproperties:\\n  os: %s\\n  description: %%s\\n' \"$(date +%%s)\" %s >\"$work/metadata.yaml\"", system, quote(string(about)))
		w.line("tar -C \"$work\" -czf \"$work/metadata.tar.gz\" metadata.yaml")
		file := quote("./" + image.File)
		if image.Format != kvm.QCOW2 {
			w.line("qemu-img convert -f raw -O qcow2 %s \"$work/disk.qcow2\" # images of Incus are qcow2", file)
			file = `"$work/disk.qcow2"`
		}
		w.line("i image import \"$work/metadata.tar.gz\" %s --alias \"$NAME-import\"", file)
		w.line("image=1 # until the script ends")
		from = `"$NAME-import"`
		size = fmt.Sprintf(" -d root,size=%dMiB", (image.Capacity+1<<20-1)>>20) + w.incusBus(0, " -d root,io.bus=")
	}
	all, _, _, _ := w.cpus()
	w.line("i init %s \"$NAME\" --vm --no-profiles --storage \"$POOL\"%s \\", from, size)
	w.line("\t-c limits.cpu=%d -c limits.memory=%dMiB -c security.secureboot=%t -c security.csm=%t \\", all, w.domain.Memory.Value, w.secureBoot(), !w.uefi())
	w.line("\t-c %s", quote("user.vsphere-name="+singleLine(w.m.Guest.Name)))
	w.line("made=1")
}
