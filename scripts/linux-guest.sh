#!/bin/sh
# linux-guest.sh OUT.raw - make a small disk with a Linux that writes to it when it boots.
#
# The disk is that of demo-guest.sh with a kernel and an initramfs on its ext4
# partition, which GRUB loads from there. Linux finds the disk on a PVSCSI controller as
# /dev/sda, mounts the partition, and
#   - checks the SHA-256 of the files in /data that were put there;
#   - writes "written by the guest" lines over 4096 bytes of /data/numbers each 13 * 4096
#     bytes, and appends a line to it;
#   - makes /written/text (the numbers from 400000 to 700000), /written/random (2 MiB),
#     /written/kernel (a copy of the kernel), and /SHA256SUMS of all of these;
#   - unmounts, mounts again, and checks all of them, from the disk.
# Then it prints "hyper2kvm linux guest: all written and read back" on the serial line,
# or what went wrong, and powers the machine off.
#
# The kernel is Debian's for clouds, with Debian's static busybox. Neither is installed:
# the first run fetches both packages from the machine's own apt sources, with package
# lists of its own, without privileges, and keeps what it needs of them in
# build/linux-guest. It exits 3 when it cannot fetch them.
#
# Nothing is mounted and no privileges are needed.
set -eu

[ $# = 1 ] || { echo "usage: $0 OUT.raw" >&2; exit 2; }
out=$1

scripts=$(cd "$(dirname "$0")" && pwd)
parts=$(dirname "$scripts")/build/linux-guest

# What the kernel needs for that disk, in this order; each a module or built in.
modules='crc16 mbcache jbd2 ext4 scsi_common scsi_mod sd_mod vmw_pvscsi'

command -v cpio >/dev/null || { echo "$0: cpio is missing: run scripts/setup.sh test" >&2; exit 1; }

work=$(mktemp -d)
gathered= # becomes $parts when it is complete
trap 'rm -rf "$work" ${gathered:+"$gathered"}' EXIT
trap 'exit 1' HUP INT TERM

# apt TOOL ARGUMENTS: an apt tool that leaves the machine's package lists alone.
apt() {
	tool=$1
	shift
	"$tool" -q -o APT::Architecture=amd64 -o APT::Sandbox::User=root \
		-o Acquire::http::Timeout=15 -o Acquire::https::Timeout=15 \
		-o Dir::State::lists="$work/lists" -o Dir::Cache="$work/cache" "$@"
}

# fetch: download the packages and unpack them into $work/unpacked.
fetch() {
	mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/debs" "$work/unpacked"
	apt apt-get update || return 1
	image=$(apt apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p')
	[ -n "$image" ] || { echo "no package linux-image-cloud-amd64"; return 1; }
	(cd "$work/debs" && apt apt-get download "$image" busybox-static) || return 1
	for deb in "$work/debs"/*.deb; do
		dpkg-deb -x "$deb" "$work/unpacked" || return 1
	done
}

# gather: put what the guest is made of, out of the packages, into $parts.
gather() {
	mkdir -p "$(dirname "$parts")"
	gathered=$(mktemp -d "$parts.XXXXXX")
	cp "$work/unpacked/bin/busybox" "$gathered/busybox"
	cp "$work/unpacked/boot/vmlinuz-"* "$gathered/vmlinuz"
	for module in $modules; do
		file=$(find "$work/unpacked/lib/modules" -name "$module.ko")
		if [ -n "$file" ]; then
			cp "$file" "$gathered"
		elif ! grep -q "/$module\.ko" "$work/unpacked/lib/modules"/*/modules.builtin; then
			echo "$0: the kernel of $image has no $module" >&2
			return 1
		fi
	done
	chmod 755 "$gathered"
	mv -T "$gathered" "$parts" 2>/dev/null || [ -d "$parts" ] # another run was faster
}

if [ ! -d "$parts" ]; then
	if ! command -v apt-get >/dev/null || ! fetch >"$work/log" 2>&1; then
		[ ! -f "$work/log" ] || cat "$work/log" >&2
		echo "$0: cannot fetch linux-image-cloud-amd64 and busybox-static: it takes Debian's apt-get and its package servers" >&2
		exit 3
	fi
	gather
fi

# The initramfs: busybox, the modules, and what the guest does. It is left as it is, so
# that an image of compressed clusters has it in such clusters.
mkdir -p "$work/initramfs/bin" "$work/root/boot/grub"
cp "$parts/busybox" "$work/initramfs/bin/busybox"
for module in $modules; do
	[ ! -f "$parts/$module.ko" ] || cp "$parts/$module.ko" "$work/initramfs/"
done
cat >"$work/initramfs/init" <<INIT
#!/bin/busybox sh
modules='$modules'
INIT
cat >>"$work/initramfs/init" <<'INIT'
/bin/busybox --install -s /bin
cd /
mkdir -p dev proc disk
mount -t devtmpfs dev /dev
mount -t proc proc /proc

give_up() {
	echo "linux guest: $1"
	poweroff -f
}
# try COMMAND: it must succeed.
try() { "$@" || give_up "failed: $*"; }

for module in $modules; do
	[ ! -f "$module.ko" ] || try insmod "$module.ko"
done
tries=0
until [ -b /dev/sda1 ]; do # the disk is found in the background
	[ $((tries += 1)) -lt 300 ] || give_up "no /dev/sda1"
	sleep 0.1
done
try mount -t ext4 -o rw /dev/sda1 /disk
(cd /disk/data && sha256sum -c SHA256SUMS) || give_up "a file on this disk is damaged"

yes 'written by the guest' | head -c 4096 >/block
at=0
while [ $at -lt 480 ]; do
	try dd if=/block of=/disk/data/numbers bs=4096 seek=$at conv=notrunc 2>/dev/null
	at=$((at + 13))
done
echo 'appended by the guest' >>/disk/data/numbers || give_up "cannot append"
try mkdir /disk/written
seq 400000 700000 >/disk/written/text || give_up "cannot write text"
try dd if=/dev/urandom of=/disk/written/random bs=65536 count=32 2>/dev/null
try cp /disk/boot/vmlinuz /disk/written/kernel
(cd /disk && sha256sum data/numbers data/message written/* >SHA256SUMS) || give_up "cannot write the sums"

sync
try umount /disk
try mount -t ext4 -o ro /dev/sda1 /disk
(cd /disk && sha256sum -c SHA256SUMS) || give_up "what was written is damaged"
try umount /disk
echo "hyper2kvm linux guest: all written and read back"
poweroff -f
INIT
chmod +x "$work/initramfs/init"
(cd "$work/initramfs" && find . | cpio --quiet -o -H newc -R 0:0) >"$work/root/boot/initrd"

cp "$parts/vmlinuz" "$work/root/boot/vmlinuz"
cat >"$work/root/boot/grub/grub.cfg" <<'GRUB'
serial --unit=0 --speed=115200
terminal_output serial console
linux /boot/vmlinuz console=ttyS0 quiet panic=-1
initrd /boot/initrd
boot
halt
GRUB

"$scripts/demo-guest.sh" "$out" "" "$work/root"
