#!/bin/sh
# demo-guest.sh OUT.raw [TEXT [DIR]] - make a small disk that really boots, in a second or two.
#
# The disk is a 128 MiB sparse raw image: MBR, GRUB, one ext4 partition. When it
# boots (BIOS), GRUB checks the SHA-256 of the files on the partition, prints TEXT
# on the serial line only if they are all intact, and powers the machine off. So the
# line on the serial console says that firmware, boot code, file system and data
# have arrived as they left. The files below DIR are put on the partition too, and
# replace those of the same name: with a boot/grub/grub.cfg it does something else.
# GUEST_MIB=2048 makes the disk so many MiB large, GUEST_LABEL gives its file system a label.
#
# Nothing is mounted and no privileges are needed.
set -eu

case $# in
1 | 2 | 3) ;;
*) echo "usage: $0 OUT.raw [TEXT [DIR]]" >&2; exit 2 ;;
esac
out=$1
text=${2:-hyper2kvm demo guest: disk is intact}
more=${3:-}
mib=${GUEST_MIB:-128}

PATH=$PATH:/usr/sbin:/sbin
grub=/usr/lib/grub/i386-pc
for tool in grub-mkimage mke2fs sfdisk sha256sum; do
	command -v "$tool" >/dev/null || { echo "$0: $tool is missing: run scripts/setup.sh demo" >&2; exit 1; }
done
[ -f "$grub/boot.img" ] || { echo "$0: $grub/boot.img is missing: run scripts/setup.sh demo" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# The file system: what GRUB runs, what it prints, and some megabytes to check.
mkdir -p "$work/root/boot/grub/i386-pc" "$work/root/data"
cp "$grub"/*.mod "$grub"/*.lst "$work/root/boot/grub/i386-pc/"
printf '%s\n' "$text" >"$work/root/data/message"
seq 1 300000 >"$work/root/data/numbers"
(cd "$work/root/data" && sha256sum message numbers >SHA256SUMS)
cat >"$work/root/boot/grub/grub.cfg" <<'GRUB'
serial --unit=0 --speed=115200
terminal_output serial console
if hashsum --hash sha256 --check /data/SHA256SUMS --prefix "($root)/data"; then
	cat /data/message
else
	echo "demo guest: a file on this disk is damaged"
fi
halt
GRUB
if [ -n "$more" ]; then
	cp -a "$more/." "$work/root"
fi

# One partition from 1 MiB on, as every partitioning tool leaves it.
rm -f "$out"
truncate -s "${mib}M" "$out"
echo 'start=2048, type=83, bootable' | sfdisk --quiet --label dos "$out"
mke2fs -q -t ext4 -L "${GUEST_LABEL:-}" -d "$work/root" -E offset=1048576 "$out" "$((mib - 1))M"

# The boot code: 440 bytes in the MBR, the rest in the gap before the partition.
grub-mkimage -O i386-pc -o "$work/core.img" -p '(hd0,msdos1)/boot/grub' biosdisk part_msdos ext2 normal
[ "$(wc -c <"$work/core.img")" -lt 1048064 ] || { echo "$0: GRUB does not fit before the partition" >&2; exit 1; }
dd if="$grub/boot.img" of="$out" bs=440 count=1 conv=notrunc status=none
dd if="$work/core.img" of="$out" bs=512 seek=1 conv=notrunc status=none
