#!/usr/bin/env bash
# Runs every fuzz target for the given time each: scripts/fuzz.sh [TIME]
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-60s}
targets=$(grep -ro --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sed -E 's,^(.*)/[^/]*:func (.*),\1 \2,' | sort)
echo "== $(wc -l <<<"$targets") fuzz targets, $time each"
while read -r dir target; do
	echo "== $dir $target"
	go test "$dir" -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 10x </dev/null
done <<<"$targets"
