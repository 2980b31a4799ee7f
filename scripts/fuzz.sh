#!/usr/bin/env bash
# Runs every fuzz target so many times: scripts/fuzz.sh [COUNTx]. By count, not by time: go test -fuzz can report its own
# deadline as a failure of the target ("context deadline exceeded", with no failing input).
set -euo pipefail
cd "$(dirname "$0")/.."
count=${1:-200000x}
targets=$(grep -ro --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sed -E 's,^(.*)/[^/]*:func (.*),\1 \2,' | sort)
echo "== $(wc -l <<<"$targets") fuzz targets, $count each"
while read -r dir target; do
	echo "== $dir $target"
	go test -trimpath -vet=off "$dir" -run '^$' -fuzz "^$target\$" -fuzztime "$count" -fuzzminimizetime 10x </dev/null
done <<<"$targets"
