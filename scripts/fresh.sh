#!/bin/sh
# fresh.sh [TARGET] - run a make target, "test" if none is named, on a machine that has nothing.
# fresh.sh -check   - only say whether that can be done here.
#
# Makes a minimal Debian root, installs git and make, copies this work tree
# into it, and runs make there as root: what the target needs beyond that, the project's
# own scripts/setup.sh has to install. A run on a machine that has the tools already
# proves nothing about a machine that has not.
#
# From this machine come: the Go toolchain and the module cache (bound), what
# scripts/bareroot.sh takes along, and the variables listed below. No build cache and no
# package comes along. A second root, as bare as the first was, is in it as BARE_ROOT, for
# the test that installs the package.
#
# Needs root and Debian or a relative, and exits 3 with the reason where these are
# missing. FRESH_DIR is where the root is made (default: TMPDIR or /var/tmp); it takes
# 6 GB for "test" and is removed at the end. The mounts live in a namespace of their own
# and go with it, whatever ends this script.
set -eu

target=${1:-test}
project=$(cd "$(dirname "$0")/.." && pwd)
passed='CI http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY GOPROXY GONOPROXY GOSUMDB GONOSUMDB GOPRIVATE GOTOOLCHAIN FUZZTIME'

cannot() { echo "$0: $*" >&2; exit 3; }

[ "$(id -u)" = 0 ] || cannot "a Debian root can only be made and entered by root"
command -v apt-get >/dev/null || cannot "this machine is not Debian: there are no package sources to take"
command -v go >/dev/null || cannot "there is no Go toolchain to take along"
[ "$target" != -check ] || exit 0
"$project/scripts/setup.sh" fresh

goroot=$(go env GOROOT)
modules=$(go env GOMODCACHE)
mkdir -p "$modules"

base=$(mktemp -d "${FRESH_DIR:-${TMPDIR:-/var/tmp}}/hyper2kvm-fresh.XXXXXX")
inside=
trap 'if [ -n "$inside" ]; then kill -9 "$inside"; fi 2>/dev/null; rm -rf --one-file-system "$base"' EXIT
trap 'exit 1' HUP INT TERM
root=$base/root

echo "== a minimal Debian"
"$project/scripts/bareroot.sh" "$base/bare"
cp -a "$base/bare" "$root"

# The work tree as it is: committed or not, without what git ignores.
git -C "$project" -c safe.directory='*' clone -q --no-hardlinks "$project" "$root/src/hyper2kvm"
(
	cd "$project"
	git ls-files -z --deleted | (cd "$root/src/hyper2kvm" && xargs -0r rm -f)
	git ls-files -z --cached --others --exclude-standard | tar --null --ignore-failed-read -T - -c 2>/dev/null | tar -x -C "$root/src/hyper2kvm"
)

# enter runs within a namespace of its own.
cat >"$base/enter" <<'ENTER'
set -eu
root=$1 bare=$2 goroot=$3 modules=$4 target=$5
shift 5
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mkdir -p "$root/usr/local/go" "$root/root/go/pkg/mod"
mount --bind "$goroot" "$root/usr/local/go"
mount -o remount,bind,ro "$root/usr/local/go"
mount --bind "$modules" "$root/root/go/pkg/mod"
mkdir "$root/bare"
mount --bind "$bare" "$root/bare"
export DEBIAN_FRONTEND=noninteractive
chroot "$root" sh -c 'apt-get update -q && apt-get install -q -y --no-install-recommends git make' >"$root/../log" 2>&1 || {
	cat "$root/../log" >&2
	exit 1
}
exec chroot "$root" env -i "$@" HOME=/root LANG=C.UTF-8 TERM=dumb BARE_ROOT=/bare \
	PATH=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
	make -C /src/hyper2kvm "$target"
ENTER

set --
for name in $passed; do
	value=$(printenv "$name") && set -- "$@" "$name=$value"
done
echo "== make $target in it"
# In the background, because a shell hears of a signal only when what it waits for can
# be interrupted. All processes inside end with the first one.
unshare --mount --pid --fork --kill-child sh "$base/enter" "$root" "$base/bare" "$goroot" "$modules" "$target" "$@" &
inside=$!
code=0
wait "$inside" || code=$?
inside=
exit "$code"
