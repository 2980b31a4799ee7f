#!/bin/bash
# screens.sh [DIR] - make the README's screens, as text, from a real run.
#
# Starts the lab vCenter with a few VMs that hold data and 200 that do not, runs
# the interactive command in tmux, presses keys, and writes what the terminal shows
# at each step to DIR (default docs/screens), a file each. Needs tmux and the
# programs of "make demo" in build/. Everything else happens in a temporary
# directory and on loopback.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
out=${1:-$root/docs/screens}
program=${HYPER2KVM:-$root/build/hyper2kvm}
lab=${LABVCENTER:-$root/build/labvcenter}
for needed in "$program" "$lab"; do
	[ -x "$needed" ] || { echo "$0: $needed is missing: run \"make demo\"" >&2; exit 1; }
done
command -v tmux >/dev/null || { echo "$0: tmux is missing: install it" >&2; exit 1; }

work=$(mktemp -d)
labpid=
cleanup() {
	tmux -S "$work/tmux" kill-server 2>/dev/null || true
	if [ -n "$labpid" ]; then
		kill "$labpid" 2>/dev/null || true
		wait "$labpid" 2>/dev/null || true
	fi
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Disks: sparse, with some data that compresses and some that does not.
disk() { # NAME SIZE_MB RANDOM_MB TEXT_LINES
	truncate -s "$2M" "$work/$1.raw"
	head -c "$3M" /dev/urandom | dd of="$work/$1.raw" bs=1M seek=1 conv=notrunc status=none
	seq "$4" | dd of="$work/$1.raw" bs=1M seek=$(($3 + 8)) conv=notrunc status=none
}
disk erp-system 256 24 1000000
disk erp-data 512 40 2000000
disk web 128 12 500000

cat >"$work/inventory.yaml" <<YAML
- name: prod-erp-0132
  folder: Production/ERP
  guest_id: debian12_64Guest
  cpus: 4
  cores_per_socket: 2
  memory_mib: 16384
  efi: true
  disks: [{path: $work/erp-system.raw}, {path: $work/erp-data.raw}]
  nics: [{type: vmxnet3, mac: "00:50:56:8a:01:32"}]
- name: prod-web-0007
  folder: Production/Web
  guest_id: ubuntu64Guest
  cpus: 2
  memory_mib: 4096
  powered_on: true
  disks: [{path: $work/web.raw}]
  nics: [{type: vmxnet3}]
- name: prod-erp-vault
  folder: Production/ERP
  guest_id: windows2019srvNext_64Guest
  cpus: 2
  memory_mib: 8192
  vtpm: true
  efi: true
  disks: [{path: $work/web.raw}]
YAML
"$lab" -addr 127.0.0.1:0 -env-file "$work/lab.env" -inventory "$work/inventory.yaml" -vms 198 -rate 6MB/s >"$work/lab.log" 2>&1 &
labpid=$!

# until COMMAND... - waits, at most a minute, until the command succeeds.
until_true() {
	local tries=0
	until "$@"; do
		[ $((tries += 1)) -le 600 ] || { echo "$0: waited in vain for: $*" >&2; show >&2 || cat "$work/lab.log" >&2; exit 1; }
		kill -0 "$labpid" 2>/dev/null || { cat "$work/lab.log" >&2; exit 1; }
		sleep 0.1
	done
}
t() { tmux -S "$work/tmux" "$@"; }
show() { t capture-pane -p; }
shows() { show | grep -qF -- "$1"; }
wait_for() { until_true shows "$1"; }
keys() { t send-keys "$@"; }
type_text() { t send-keys -l "$1"; }

# snap NAME - writes the screen, without the machine's own paths and ports.
snap() {
	show | sed -e "s|$work|/srv|g" -e 's|127\.0\.0\.1:[0-9]\{5\}|vcenter.lab:443|g' -e 's/[[:space:]]*$//' |
		sed -e :a -e '/^\n*$/{$d;N;ba' -e '}' >"$out/$1.txt"
	echo "$out/$1.txt"
}

until_true test -s "$work/lab.env" # written when the lab is ready
mkdir -p "$out"
printf 'set -g escape-time 0\nset -g status off\n' >"$work/tmux.conf"
# shellcheck disable=SC2016 # the inner shell expands it
t -f "$work/tmux.conf" new-session -d -c "$work" -x 100 -y 30 env LANG=C.UTF-8 TERM=screen-256color XDG_CONFIG_HOME="$work/config" \
	sh -c 'set -a; . ./lab.env; "$0"; echo; exec cat' "$program"

wait_for "201 of 201"
type_text "prod"
wait_for "3 of 201"
type_text " 0132"
wait_for "1 of 201"
keys Tab
keys C-u
type_text "prod web"
wait_for "1 of 201"
keys Tab
keys C-u
type_text "prod erp 0132"
wait_for "scsi-pvscsi"
snap picker

keys Enter
wait_for "Output directory"
keys Down C-u
type_text "$work/vms"
wait_for "free, at most"
snap options

keys Enter
wait_for "✓ prod-web-0007"
snap confirm

keys Enter
wait_for "complete" # one disk of several
snap transfer

wait_for "finished: 2 of 2"
snap finished

keys Enter
wait_for "Next: virsh define"
snap summary
