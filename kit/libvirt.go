package kit

import (
	"fmt"
	"strings"

	"libvirt.org/go/libvirtxml"

	"github.com/hyper2kvm/hyper2kvm/kvm"
)

// libvirt writes the script for virsh: volumes of the images, and the domain with them. It
// is for a libvirt that hyper2kvm does not reach itself, such as one of another machine.
func (w *writer) libvirt() {
	w.head("at libvirt, with virsh")
	w.line("URI=${URI:-qemu:///system} # also of another machine: qemu+ssh://root@host/system")
	w.line("POOL=${POOL:-default} # storage pool for the disks, of type dir, fs or netfs")
	w.line("TYPE=${TYPE:-kvm} # qemu has the guest emulated")
	w.line("NAME=${NAME:-}; [ -n \"$NAME\" ] || NAME=%s", quote(w.domain.Name))
	for i, c := range w.cards() {
		w.comment("The network of card %d, which was on %s at vSphere: one of libvirt, or %sNAME.", i, c.group, kvm.BridgePrefix)
		w.networkVariable(i, c, "virsh net-list")
	}
	if w.wantsTPM() {
		w.note("tpm", "the guest's system wants a TPM: virt-xml NAME --add-device --tpm backend.type=emulator,backend.version=2.0,model=tpm-crb")
	}
	w.line("")
	w.line(`v() { virsh --quiet --connect "$URI" "$@" </dev/null; }`)
	w.line(`fail() { echo "$0: $*" >&2; exit 1; }`)
	w.line(`xml() { printf '%%s' "$1" | sed -e 's/&/\&amp;/g' -e 's/</\&lt;/g' -e 's/"/\&quot;/g'; }`)
	if len(w.domain.Devices.Interfaces) > 0 {
		w.line(`kind() { case $1 in %s*) printf bridge ;; *) printf network ;; esac; }`, kvm.BridgePrefix)
	}
	w.line("")
	w.libvirtChecks()
	w.libvirtVolumes()
	w.libvirtDomain()
}

// networkVariable asks for the network of card i, unless the map names one.
func (w *writer) networkVariable(i int, c card, list string) {
	if !c.mapped {
		w.line("NETWORK%d=${NETWORK%d:?name the network of card %d: %s}", i, i, i, list)
		return
	}
	network := c.network
	if c.bridge != "" {
		network = kvm.BridgePrefix + c.bridge
	}
	w.line("NETWORK%d=${NETWORK%d:-}; [ -n \"$NETWORK%d\" ] || NETWORK%d=%s", i, i, i, i, quote(network))
}

// libvirtChecks end the script before it changes anything.
func (w *writer) libvirtChecks() {
	w.line(`v uri >/dev/null || fail "libvirt does not answer at $URI"`)
	w.line(`if [ "$TYPE" = kvm ] && ! v domcapabilities --virttype kvm --arch x86_64 --machine %s >/dev/null 2>&1; then`, w.machine())
	w.line(`	fail "there is no KVM at $URI: TYPE=qemu has the guest emulated"`)
	w.line("fi")
	w.line("taken=$(v list --all --name) # an assignment: what fails ends the script")
	w.line(`if printf '%%s\n' "$taken" | grep -Fqx -e "$NAME"; then fail "the domain $NAME is there already: NAME gives it another name"; fi`)
	if id := w.domain.UUID; id != "" {
		w.line("taken=$(v list --all --uuid)")
		w.line(`if printf '%%s\n' "$taken" | grep -Fqx -e %s; then`, id)
		w.line(`	fail "the UUID %s is taken by the domain $(v domname %s): has the VM landed before? If it is in the way: virsh undefine"`, id, id)
		w.line("fi")
	}
	if len(w.domain.Devices.Interfaces) > 0 {
		w.line("card() { # a card, its network, which only the start would miss")
		w.line("\tcase $2 in %s*) return ;; esac", kvm.BridgePrefix)
		w.line("\tv net-info --network \"$2\" >/dev/null || fail \"there is no network $2 at $URI: NETWORK$1 names another one, or a bridge (%sNAME)\"", kvm.BridgePrefix)
		w.line("}")
	}
	for i := range w.domain.Devices.Interfaces {
		w.line(`card %d "$NETWORK%d"`, i, i)
	}
	if len(w.m.Images) > 0 {
		w.line(`v pool-dumpxml "$POOL" | grep -q "<pool type='\(dir\|fs\|netfs\)'>" || fail "$POOL is no storage pool of type dir, fs or netfs"`)
	}
	w.line("")
}

// libvirtVolumes uploads the images. A volume is made empty and of the file's size, so that
// the holes of the file are holes in it, whatever format the image has. When the script
// fails, what it has made is removed.
func (w *writer) libvirtVolumes() {
	if len(w.m.Images) > 0 {
		w.line("made=0")
	}
	w.line("description=$(mktemp)")
	if w.domain.UUID != "" {
		w.line("defining=''")
	}
	w.line("undo() {")
	w.line("\tstatus=$?")
	w.line("\trm -f \"$description\"")
	w.line("\t[ \"$status\" -ne 0 ] || return 0")
	if w.domain.UUID != "" { // whose UUID was free: what was defined under it is the script's
		w.line("\t[ -z \"$defining\" ] || v undefine %s >/dev/null 2>&1 || : # which libvirt may have done without an answer", w.domain.UUID)
	}
	for i, image := range w.m.Images {
		w.line("\t[ \"$made\" -le %d ] || v vol-delete --pool \"$POOL\" --vol %s || :", i, quote(image.File))
	}
	w.line("}")
	w.traps()
	w.line("")
	for i, image := range w.m.Images {
		name := quote(image.File)
		w.line("v vol-create-as --pool \"$POOL\" --name %s --capacity \"$(($(wc -c <%s)))\" --allocation 0 --format raw ||", name, quote("./"+image.File))
		w.line("\tfail \"the volume\" %s \"cannot be made in the pool $POOL: it stays if it was there. If no VM uses it: virsh vol-delete\"", name)
		w.line("made=%d", i+1)
		w.line("v vol-upload --pool \"$POOL\" --vol %s --file %s --sparse", name, quote("./"+image.File))
		w.line("disk%d=$(v vol-path --pool \"$POOL\" --vol %s)", i, name)
	}
	if len(w.m.Images) > 0 {
		w.line("v pool-refresh \"$POOL\" # it sees the formats then")
	}
	w.line("")
}

// libvirtDomain defines the domain.
func (w *writer) libvirtDomain() {
	w.line("domain() {")
	for _, p := range w.domainPieces() {
		if p.code != "" {
			w.line("\t%s", p.code)
		} else {
			w.line("\tprintf '%%s' %s", quote(p.text))
		}
	}
	w.line("}")
	w.line("domain >\"$description\"")
	if f := w.domain.Features; f != nil && f.HyperV != nil {
		w.line("if [ \"$TYPE\" != kvm ]; then # Hyper-V's interface is KVM's work")
		w.line("\tdomain | sed -e '/<hyperv/,/<\\/hyperv>/d' -e '/name=\"hypervclock\"/d' >\"$description\"")
		w.line("fi")
	}
	done := ""
	if len(w.m.Images) > 0 {
		done = "made=0 "
	}
	if w.domain.UUID != "" {
		w.line("defining=1")
		done += "defining=''"
	}
	w.line("v define --validate \"$description\"")
	w.line("%s # what is there is the domain's from here on", done)
	w.line(`echo "The domain $NAME is there; start it with: virsh --connect $URI start $NAME"`)
}

// piece is a part of the domain: text, or a command that prints it.
type piece struct{ text, code string }

// domainPieces is the domain in pieces, between which the script puts what is known when it
// is run: the name, the type, the paths of the volumes, the networks.
func (w *writer) domainPieces() []piece {
	d := *w.domain
	devices := *d.Devices
	d.Devices = &devices
	mark := w.mark()
	codes := map[string]string{mark + "name": `xml "$NAME"`, mark + "type": `xml "$TYPE"`}
	d.Name, d.Type = mark+"name", mark+"type"
	devices.Disks = append([]libvirtxml.DomainDisk(nil), devices.Disks...)
	for i := range devices.Disks {
		path := fmt.Sprint(mark, "disk", i, "-")
		codes[path] = fmt.Sprintf(`xml "$disk%d"`, i)
		devices.Disks[i].Source = &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: path}}
	}
	devices.Interfaces = append([]libvirtxml.DomainInterface(nil), devices.Interfaces...)
	for i := range devices.Interfaces {
		devices.Interfaces[i].Source = &libvirtxml.DomainInterfaceSource{
			Network: &libvirtxml.DomainInterfaceSourceNetwork{Network: fmt.Sprint(mark, "net", i, "-")},
		}
	}
	text, err := d.Marshal()
	if err != nil {
		panic(err) // it was marshalled for the domain
	}
	for i := range devices.Interfaces {
		kind, network := fmt.Sprint(mark, "kind", i, "-"), fmt.Sprint(mark, "net", i, "-")
		codes[kind], codes[network] = fmt.Sprintf(`kind "$NETWORK%d"`, i), fmt.Sprintf(`xml "${NETWORK%d#%s}"`, i, kvm.BridgePrefix)
		before, after, _ := strings.Cut(text, fmt.Sprintf(`network="%s"`, network))
		at := strings.LastIndex(before, `type="network"`)
		text = before[:at] + `type="` + kind + `"` + before[at+len(`type="network"`):] + kind + `="` + network + `"` + after
	}
	return split(text+"\n", codes)
}

// mark begins what stands for other text in the domain, where nothing else does.
func (w *writer) mark() string {
	text, err := w.domain.Marshal()
	if err != nil {
		panic(err)
	}
	for n := 0; ; n++ {
		if mark := fmt.Sprintf("HYPER2KVM-%d-", n); !strings.Contains(text, mark) {
			return mark
		}
	}
}

// split puts commands in the places of text that stand for them.
func split(text string, codes map[string]string) (out []piece) {
	for text != "" {
		at, found := len(text), ""
		for place := range codes {
			if i := strings.Index(text, place); i >= 0 && (i < at || i == at && len(place) > len(found)) {
				at, found = i, place
			}
		}
		if at > 0 {
			out = append(out, piece{text: text[:at]})
		}
		if found != "" {
			out = append(out, piece{code: codes[found]})
		}
		text = text[at+len(found):]
	}
	return out
}
