#!/bin/sh
# bareroot.sh DIR - make a minimal Debian root in DIR, which must not exist yet or be empty.
#
# It is of this machine's release and has what debootstrap's "minbase" has, and certificate
# authorities. From this machine come apt's configuration and sources for the release, the
# certificate authorities of its own, and how names are resolved. Packages start no
# services in it. Nothing is mounted when this is done.
#
# Needs root and Debian or a relative, and exits 3 with the reason where these are
# missing.
set -eu

[ $# = 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
root=$1

cannot() { echo "$0: $*" >&2; exit 3; }

[ "$(id -u)" = 0 ] || cannot "a Debian root can only be made and entered by root"
command -v apt-get >/dev/null || cannot "this machine is not Debian: there are no package sources to take"
"$(dirname "$0")/setup.sh" fresh
release=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
[ -n "$release" ] || cannot "/etc/os-release names no release of Debian"

# sources: this machine's apt sources of its own release, without other vendors'.
sources() {
	for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
		if [ -f "$file" ] && grep -Eq "(^|[[:space:]])$release([[:space:]]|\$)" "$file"; then
			echo "$file"
		fi
	done
}
# mirror: the first address in them.
mirror() {
	# shellcheck disable=SC2046 # names without blanks
	sed -nE "s/^(deb (\[[^]]*\] )?|URIs: *)([^[:space:]]+).*/\3/p" $(sources) | head -n 1
}
[ -n "$(mirror)" ] || cannot "apt has no source for $release"

log=$(mktemp)
trap 'rm -f "$log"' EXIT
trap 'exit 1' HUP INT TERM
if ! debootstrap --variant=minbase --include=ca-certificates "$release" "$root" "$(mirror)" >"$log" 2>&1; then
	cat "$log" >&2
	echo "$0: debootstrap failed" >&2
	exit 1
fi

# apt as here, certificate authorities as here.
rm -rf "$root/etc/apt/sources.list" "$root/etc/apt/sources.list.d"
mkdir -p "$root/etc/apt/sources.list.d"
for file in $(sources) /etc/apt/apt.conf /etc/apt/apt.conf.d /etc/apt/auth.conf.d /etc/apt/preferences.d /etc/apt/trusted.gpg.d \
	/etc/apt/keyrings /usr/share/keyrings /usr/local/share/ca-certificates /etc/hosts /etc/resolv.conf; do
	if [ -e "$file" ]; then
		mkdir -p "$root$(dirname "$file")"
		cp -RL "$file" "$root$(dirname "$file")/"
	fi
done
chroot "$root" update-ca-certificates >/dev/null 2>&1
echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/unsafe-io" # nobody needs this root after a power failure
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d" # packages start no services here
chmod 755 "$root/usr/sbin/policy-rc.d"
