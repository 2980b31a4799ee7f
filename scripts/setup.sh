#!/bin/sh
# setup.sh demo|test|test-e2e|bench|fresh|package - install the system packages that a make target needs.
#
# Does nothing when everything is there. Otherwise it installs what is missing with
# apt-get when it runs as root on Debian or a relative; where it cannot, it prints
# what to install and exits 1. Go itself, git and make are taken for granted.
set -eu

PATH=$PATH:${SETUP_SBIN:-/usr/sbin:/sbin} # where some of the commands are, though not for users

# One thing a line: the command or file that must exist, and Debian's package of it.
# libvirt's QEMU driver wants the user libvirt-qemu, whoever it runs as; that comes with
# libvirt-daemon-system.
demo_needs='
qemu-img                                 qemu-utils
qemu-system-x86_64                       qemu-system-x86
grub-mkimage                             grub-common
/usr/lib/grub/i386-pc/boot.img           grub-pc-bin
mke2fs                                   e2fsprogs
sfdisk                                   fdisk
/etc/ssl/certs/ca-certificates.crt       ca-certificates
'
test_needs='
virsh                                    libvirt-clients
virt-xml-validate                        libvirt-clients
libvirtd                                 libvirt-daemon
swtpm                                    swtpm
swtpm_setup                              swtpm-tools
xmllint                                  libxml2-utils
systemd-analyze                          systemd
/usr/lib/*/libvirt/connection-driver/libvirt_driver_qemu.so  libvirt-daemon
/etc/libvirt/qemu.conf                   libvirt-daemon-system
/usr/share/qemu/firmware/*edk2-x86_64-secure-enrolled.json   ovmf
/usr/lib/python3/dist-packages/requests  python3-requests
gcc                                      gcc
/usr/include/stdlib.h                    libc6-dev
curl                                     curl
tmux                                     tmux
chromium                                 chromium
shellcheck                               shellcheck
cpio                                     cpio
/usr/lib/postgresql/*/bin/postgres       postgresql
promtool                                 prometheus
prometheus                               prometheus
lintian                                  lintian
rpm                                      rpm
rpmlint                                  rpmlint
man                                      man-db
debootstrap                              debootstrap
unshare                                  util-linux
virt-v2v                                 virt-v2v
nbdkit                                   nbdkit
nbdinfo                                  libnbd-bin
qemu-nbd                                 qemu-utils
'
e2e_needs='
virsh                                    libvirt-clients
libvirtd                                 libvirt-daemon
/usr/lib/*/libvirt/connection-driver/libvirt_driver_qemu.so  libvirt-daemon
/etc/libvirt/qemu.conf                   libvirt-daemon-system
debootstrap                              debootstrap
unshare                                  util-linux
virt-v2v                                 virt-v2v
nbdkit                                   nbdkit
qemu-nbd                                 qemu-utils
guestfish                                libguestfs-tools
/boot/vmlinuz-*                          linux-image-cloud-amd64
'
package_needs='
zip                                      zip
gzip                                     gzip
tar                                      tar
'
fresh_needs='
debootstrap                              debootstrap
unshare                                  util-linux
git                                      git
tar                                      tar
'
bench_needs='
curl                                     curl
'

case ${1:-} in
demo) needs=$demo_needs ;;
test) needs=$demo_needs$test_needs$package_needs ;;
test-e2e) needs=$demo_needs$e2e_needs ;;
bench) needs=$demo_needs$bench_needs ;;
fresh) needs=$fresh_needs ;;
package) needs=$package_needs ;;
*) echo "usage: $0 demo|test|test-e2e|bench|fresh|package" >&2; exit 2 ;;
esac

# present THING: is the command on the PATH, or does a file match the pattern?
present() {
	case $1 in
	/*)
		for file in $1; do # the pattern expands here
			[ -e "$file" ] && return 0
		done
		return 1
		;;
	*) command -v "$1" >/dev/null ;;
	esac
}

# missing: the packages of what is not there, each once.
missing() {
	echo "$needs" | while read -r thing package; do
		[ -z "$thing" ] || present "$thing" || echo "$package"
	done | sort -u | tr '\n' ' '
}

packages=$(missing)
[ -n "$packages" ] || exit 0

if ! command -v apt-get >/dev/null; then
	cat >&2 <<MSG
$0: this machine lacks some programs for "make $1", and it is not Debian.
Install what holds these (Debian's package names are given):
$(echo "$needs" | while read -r thing package; do
		[ -z "$thing" ] || present "$thing" || echo "  $thing ($package)"
	done)
MSG
	exit 1
fi
if [ "$(id -u)" != 0 ]; then
	cat >&2 <<MSG
$0: this machine lacks some packages for "make $1". As root, run:
  apt-get install --no-install-recommends $packages
MSG
	exit 1
fi

echo "installing: $packages"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # a list of names
if ! { apt-get update -q && apt-get install -q -y --no-install-recommends $packages; } >"$log" 2>&1; then
	cat "$log" >&2
	echo "$0: apt-get could not install: $packages" >&2
	exit 1
fi
packages=$(missing)
if [ -n "$packages" ]; then
	echo "$0: still missing after the installation: $packages" >&2
	exit 1
fi
