#!/bin/sh
# debian-guest.sh OUT.raw LAYOUT - make the disk of a Debian that says on its serial line how it is.
#
# It is this machine's release, from debootstrap, with Debian's kernel for clouds, systemd,
# ifupdown, systemd-networkd, netplan and NetworkManager. Its card has 192.0.2.10/24,
# the gateway 192.0.2.1 and the name server 192.0.2.53, set up by hand as LAYOUT says:
#
#   any         systemd-networkd, for whatever card there is
#   networkd    systemd-networkd, for the card ens192
#   interfaces  /etc/network/interfaces, for the card ens192
#   netplan     netplan with systemd-networkd below it, for the card ens192 (as Ubuntu has it)
#   nm          a keyfile of NetworkManager, for the card ens192 (as Fedora and RHEL 9 have it)
#
# ens192 is the name of a vmxnet3 card at vSphere; elsewhere it has another. Once it has
# booted, the guest checks the SHA-256 of its programs and data, waits up to two
# minutes for an address, and says every five seconds:
#
#   hyper2kvm debian guest: disk intact, address 192.0.2.10/24 via 192.0.2.1 on ens192
#
# or "disk damaged", or "no address". Nothing on it listens, and root has no password.
#
# The system is made once and kept below build, without which this takes two
# minutes. That part needs root and Debian; it exits 3 with the reason where these are
# missing.
set -eu

[ $# = 2 ] || { echo "usage: $0 OUT.raw LAYOUT" >&2; exit 2; }
out=$1 layout=$2
case $layout in
any | networkd | interfaces | netplan | nm) ;;
*) echo "$0: no layout $layout" >&2; exit 2 ;;
esac

scripts=$(cd "$(dirname "$0")" && pwd)
packages='linux-image-cloud-amd64 initramfs-tools kmod systemd-sysv udev iproute2 ifupdown netplan.io network-manager grub2-common grub-pc-bin'
kept=$(dirname "$scripts")/build/debian-guest-$(echo "$packages" | cksum | cut -d ' ' -f 1)

[ "$(id -u)" = 0 ] || { echo "$0: the files of a Debian can only be made by root" >&2; exit 3; }

work=$(mktemp -d "${TMPDIR:-/var/tmp}/debian-guest.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
trap 'exit 1' HUP INT TERM

# make: the system, in $work/new.
make() {
	"$scripts/bareroot.sh" "$work/new"
	# The mounts go with their namespace.
	# shellcheck disable=SC2016,SC2086 # $1 is of the inner shell; a list of names
	unshare --mount --pid --fork --kill-child sh -c '
		set -e
		mount --make-rprivate /
		mount -t proc proc "$1/proc"
		mount -t sysfs sysfs "$1/sys"
		root=$1
		shift
		export DEBIAN_FRONTEND=noninteractive
		chroot "$root" apt-get update -q
		chroot "$root" apt-get install -q -y --no-install-recommends "$@"
		chroot "$root" apt-get clean
	' sh "$work/new" $packages >"$work/log" 2>&1 || {
		cat "$work/log" >&2
		return 1
	}
	rm -rf "$work/new/var/lib/apt/lists"/* "$work/new/usr/share/doc" "$work/new/usr/share/locale" "$work/new/usr/sbin/policy-rc.d" "$work/new/etc/resolv.conf"
	: >"$work/new/etc/machine-id"
	echo guest >"$work/new/etc/hostname"
}

if [ ! -d "$kept" ]; then
	make
	mkdir -p "$(dirname "$kept")"
	mv -T "$work/new" "$kept" 2>/dev/null || [ -d "$kept" ] # another run was faster
fi
root=$work/root
cp -a "$kept" "$root"

# What the guest does once it is up.
cat >"$root/usr/local/sbin/say" <<'SAY'
#!/bin/sh
disk=damaged
if (cd /data && sha256sum --quiet --check SHA256SUMS) && sha256sum --quiet --check /usr/local/share/SHA256SUMS; then
	disk=intact
fi
tries=0
until address=$(ip -o -4 address show scope global | head -n 1) && [ -n "$address" ] || [ $((tries += 1)) -gt 120 ]; do
	sleep 1
done
say="no address"
if [ -n "$address" ]; then
	sleep 3 # routes come after addresses
	say=$(echo "$address" | awk -v via="$(ip route show default | awk '{ print $3; exit }')" '{ print "address " $4 " via " via " on " $2 }')
fi
while :; do
	echo "hyper2kvm debian guest: disk $disk, $say" >/dev/ttyS0
	sleep 5
done
SAY
chmod 755 "$root/usr/local/sbin/say"
cat >"$root/etc/systemd/system/say.service" <<'UNIT'
[Unit]
Description=Says how the guest is
After=multi-user.target
[Service]
Type=simple
ExecStart=/usr/local/sbin/say
[Install]
WantedBy=multi-user.target
UNIT
printf '/dev/disk/by-label/guest / ext4 defaults 0 1\n' >"$root/etc/fstab"
ln -s /dev/null "$root/etc/systemd/system/serial-getty@ttyS0.service" # the line is for what the guest says

# How the card is set up, and by whom.
services=say.service
case $layout in
any | networkd)
	services="$services systemd-networkd.service"
	name=ens192
	[ "$layout" = networkd ] || name='en* eth*'
	cat >"$root/etc/systemd/network/20-lan.network" <<END
[Match]
Name=$name
[Network]
Address=192.0.2.10/24
Gateway=192.0.2.1
DNS=192.0.2.53
END
	;;
interfaces)
	services="$services networking.service"
	cat >"$root/etc/network/interfaces" <<'END'
source /etc/network/interfaces.d/*

auto lo
iface lo inet loopback

auto ens192
iface ens192 inet static
	address 192.0.2.10/24
	gateway 192.0.2.1
	dns-nameservers 192.0.2.53
END
	;;
netplan)
	services="$services systemd-networkd.service"
	mkdir -p "$root/etc/netplan"
	cat >"$root/etc/netplan/00-installer-config.yaml" <<'END'
network:
  version: 2
  renderer: networkd
  ethernets:
    ens192:
      addresses: [192.0.2.10/24]
      routes:
        - to: default
          via: 192.0.2.1
      nameservers:
        addresses: [192.0.2.53]
END
	chmod 600 "$root/etc/netplan/00-installer-config.yaml"
	;;
nm)
	services="$services NetworkManager.service"
	cat >"$root/etc/NetworkManager/system-connections/lan.nmconnection" <<'END'
[connection]
id=lan
uuid=5f2e9a5e-0b5e-4c5f-9d57-5f4f1f2b3a10
type=ethernet
interface-name=ens192

[ipv4]
method=manual
address1=192.0.2.10/24,192.0.2.1
dns=192.0.2.53;

[ipv6]
method=disabled
END
	chmod 600 "$root/etc/NetworkManager/system-connections/lan.nmconnection"
	;;
esac
for service in networking systemd-networkd NetworkManager NetworkManager-wait-online ifupdown-pre systemd-networkd-wait-online; do
	rm -f "$root/etc/systemd/system"/*.wants/"$service.service"
done
for service in $services; do
	for at in "$root/etc/systemd/system" "$root/lib/systemd/system"; do
		[ ! -f "$at/$service" ] || ln -sf "${at#"$root"}/$service" "$root/etc/systemd/system/multi-user.target.wants/$service"
	done
done

# GRUB loads the kernel from the root of the disk. A configuration that the guest makes
# anew, as it does for a conversion, has to speak on the serial line, too.
cat >"$root/etc/default/grub" <<'DEFAULT'
GRUB_TIMEOUT=0
GRUB_CMDLINE_LINUX="root=LABEL=guest console=ttyS0"
GRUB_TERMINAL=serial
GRUB_DISABLE_OS_PROBER=true
DEFAULT
cp "$root"/boot/vmlinuz-* "$root/boot/vmlinuz"
cp "$root"/boot/initrd.img-* "$root/boot/initrd"
mkdir -p "$root/boot/grub"
cat >"$root/boot/grub/grub.cfg" <<'GRUB'
serial --unit=0 --speed=115200
terminal_output serial console
linux /boot/vmlinuz root=LABEL=guest console=ttyS0 quiet panic=-1
initrd /boot/initrd
boot
halt
GRUB
(cd "$root" && find usr/bin usr/sbin usr/lib/systemd boot/vmlinuz -type f -exec sha256sum {} + | sed 's,  ,  /,' >usr/local/share/SHA256SUMS)

GUEST_MIB=2048 GUEST_LABEL=guest "$scripts/demo-guest.sh" "$out" "" "$root"
