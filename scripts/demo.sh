#!/bin/bash
# demo.sh - the main job before your eyes: a VM out of a (lab) vCenter, onto QEMU.
#
# Makes a small guest disk that boots, starts the lab vCenter with a VM on it,
# exports the VM to qcow2 with its libvirt domain, boots the qcow2 and waits for
# the line the guest prints when all its files are intact. Everything happens in a
# temporary directory, on loopback, and is gone at the end.
# Run it by "make demo", which builds the programs first.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
for program in hyper2kvm labvcenter; do
	[ -x "$root/build/$program" ] || { echo "$0: $root/build/$program is missing: run \"make demo\"" >&2; exit 1; }
done

work=$(mktemp -d)
lab=
cleanup() {
	if [ -n "$lab" ]; then
		kill "$lab" 2>/dev/null || true
		wait "$lab" 2>/dev/null || true
	fi
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

step() { printf '\n== %s\n' "$*"; }
run() {
	printf '$ %s\n' "$*"
	"$@"
}

step "a guest disk that boots"
"$root/scripts/demo-guest.sh" "$work/disk.raw"
ls -lsh "$work/disk.raw"

step "a vCenter to export it from"
"$root/build/labvcenter" -addr 127.0.0.1:0 -env-file "$work/lab.env" -vm "demo=$work/disk.raw" >"$work/lab.log" 2>&1 &
lab=$!
tries=0
until [ -s "$work/lab.env" ]; do # written when it is ready
	if ! kill -0 "$lab" 2>/dev/null || [ $((tries += 1)) -gt 300 ]; then
		cat "$work/lab.log" >&2
		echo "$0: the lab vCenter did not start" >&2
		exit 1
	fi
	sleep 0.1
done
set -a
# shellcheck disable=SC1091 # written by the program just started
. "$work/lab.env"
set +a
PATH=$root/build:$PATH
run hyper2kvm list

step "one VM out of it, as qcow2"
run hyper2kvm export -vm demo -output "$work/out" -format qcow2
run ls -lsh "$work/out"

shopt -s nullglob globstar
images=("$work"/out/**/*.qcow2)
domains=("$work"/out/**/*.xml)
if [ ${#images[@]} -ne 1 ] || [ ${#domains[@]} -ne 1 ]; then
	echo "$0: expected one qcow2 and one domain XML, found ${#images[@]} and ${#domains[@]}" >&2
	exit 1
fi
run qemu-img compare -f raw -F qcow2 "$work/disk.raw" "${images[0]}"

step "its libvirt domain, without metadata"
sed '/<metadata>/,/<\/metadata>/d' "${domains[0]}" | head -40

step "and it boots, from the controller it had"
grep -q 'model="vmpvscsi"' "${domains[0]}" && export BOOT_DEVICE=pvscsi
run "$root/scripts/boot.sh" "${images[0]}" qcow2 120

printf '\nThe guest came out of vSphere and booted on QEMU.\n'
