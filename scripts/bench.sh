#!/bin/bash
# bench.sh - ours beside govc, qemu-img and curl, in one run on this machine.
#
# Builds the benchmark and govc (from its own module) into build/, then measures
# and prints the table of goals. Arguments go to the benchmark: "-rows 1,4" for
# some of the rows, "-sweeps", "-json FILE", "-size 4GiB", "-data DIR" to keep the
# prepared disks for the next time. "profile -case NAME" writes profiles instead.
# Run it by "make bench", which builds the programs first:
#   make bench BENCH="-rows 1,4 -runs 9"
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
build=$root/build
for program in hyper2kvm labvcenter; do
	[ -x "$build/$program" ] || { echo "$0: $build/$program is missing: run \"make bench\"" >&2; exit 1; }
done

export CGO_ENABLED=0
(cd "$root" && go build -trimpath -o "$build/bench" ./bench)
(cd "$root/vsphere/vspheretest/govc" && GOWORK=off GOFLAGS=-buildvcs=false go build -trimpath -o "$build/govc" .)

if [ "${1:-}" = profile ]; then
	shift
	exec "$build/bench" profile -bin "$build" -out "$build" "$@"
fi
exec "$build/bench" -bin "$build" "$@"
