#!/bin/bash
# boot.sh IMAGE FORMAT [SECONDS] [TEXT] - boot a disk image with QEMU and watch its serial line.
#
# Prints what the guest prints. Exits 0 as soon as a line is TEXT, 1 when the guest
# ends or SECONDS (default 120) are over before that. The image is not changed.
# BOOT_DEVICE names another QEMU device to put the disk on: "pvscsi", "mptsas1068",
# "lsi53c895a", "virtio-scsi-pci", "ich9-ahci"; without it the disk is on IDE.
set -euo pipefail

if [ $# -lt 2 ] || [ $# -gt 4 ]; then
	echo "usage: $0 IMAGE FORMAT [SECONDS] [TEXT]" >&2
	exit 2
fi
image=$1 format=$2 seconds=${3:-120} text=${4:-hyper2kvm demo guest: disk is intact}
[ -f "$image" ] || { echo "$0: $image: no such file" >&2; exit 2; }
command -v qemu-system-x86_64 >/dev/null || { echo "$0: qemu-system-x86_64 is missing: run scripts/setup.sh demo" >&2; exit 2; }

case ${BOOT_DEVICE:-} in
'') disk=(-device "ide-hd,drive=disk") ;;
ich9-ahci) disk=(-device "ich9-ahci,id=bus" -device "ide-hd,bus=bus.0,drive=disk") ;;
*) disk=(-device "$BOOT_DEVICE,id=bus" -device "scsi-hd,bus=bus.0,drive=disk") ;;
esac

# A comma in a file name is written twice on QEMU's command line.
coproc QEMU {
	exec timeout -k 5 "$seconds" qemu-system-x86_64 -accel tcg -m 256 -nodefaults -display none \
		-no-reboot -serial stdio -drive "if=none,id=disk,snapshot=on,format=$format,file=${image//,/,,}" \
		"${disk[@]}" </dev/null 2>&1
}
# shellcheck disable=SC2153 # QEMU_PID is set by coproc
pid=$QEMU_PID
exec 3<&"${QEMU[0]}"
trap 'kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true' EXIT

found=1
while IFS= read -r line <&3; do
	line=${line//$'\r'/}
	line=$(sed 's/\x1b\[[0-9;=?]*[a-zA-Z]//g; s/\x1bc//g' <<<"$line")
	[ -n "$line" ] && printf '%s\n' "$line"
	[ "$line" = "$text" ] && { found=0; break; }
done
[ "$found" = 0 ] || echo "$0: $image did not print \"$text\" within $seconds s" >&2
exit "$found"
